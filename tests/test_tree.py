"""Tests mirror the package: `tests/<path>/test_<module>.py` tests `diffstudio/<path>/<module>.py`."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import diffstudio
from diffstudio.cli.verbs import VERBS

TESTS = Path(__file__).resolve().parent
PACKAGE = Path(diffstudio.__file__).resolve().parent
SMALL = 60  # lines; shorter modules need no test file
MOST_MODULES = 16  # of a package, besides __init__
# Folders whose tests cross modules.
ELSEWHERE = ("benchmarks", "packaging", "stories")
# Tests of no single module.
OF_THE_WHOLE = {
    "test_fixtures.py",
    "test_interrupted.py",
    "test_layers.py",
    "test_messages.py",
    "test_tree.py",
    "test_typing.py",
    "diffusion/test_against_diffusers.py",  # samplers, spacings and schedules together
    "ui/lab/test_bad_inputs.py",  # of every page
    "ui/lab/test_damaged_results.py",  # of every page
}
# Modules that are tested through another: what tests them, and their names.
TESTED_IN = {
    "cli/test_cli.py": "cli/arguments cli/generate cli/run_job cli/terminal cli/train studio/generation/output_files",
    "cli/lab/test_evaluate.py": "cli/lab/lab_verb",
    "imaging/test_reader.py": "imaging/decoding imaging/problems",
    "models/adapters/test_adapters.py": (
        "models/adapters/adapter_file models/adapters/change models/adapters/delta models/adapters/layer_matching"
        " models/adapters/low_rank models/adapters/packed models/adapters/parse_layer"
    ),
    "models/components/test_requirements.py": "models/components/search models/components/tokenizers models/loading",
    "models/components/test_single_file.py": (
        "models/components/components models/components/module_weights models/state_dicts/infer_config"
        " models/state_dicts/to_diffusers models/state_dicts/to_original"
    ),
    "models/detection/test_detect.py": (
        "models/detection/detect_adapters models/detection/detect_networks models/detection/families_table"
        " models/detection/prediction_type"
        " models/detection/types models/library/blank_record models/library/folder_records models/library/records"
    ),
    "models/families/pipelines/test_diffusers_pipeline.py": (
        "models/families/pipelines/pipeline_class models/families/pipelines/pipeline_stepper"
        " models/families/pipelines/stepped_pipeline"
    ),
    "models/families/test_stable_diffusion.py": "models/families/prompt_embeds models/families/scheduler_config",
    "models/library/test_library.py": "models/library/model_folders",
    "models/inspection/test_recording.py": (
        "models/inspection/cross_attention models/inspection/joint_attention models/inspection/own_attention"
    ),
    "models/memory/test_oom_fallback.py": "models/memory/devices models/memory/estimate models/memory/offload models/model",
    "models/test_sampling.py": "models/families/pixel",
    "stories/test_finding_models.py": "ui/shell/model_library",
    "stories/test_finding_models_by_name.py": "models/library/lookup",
    "stories/test_headers_are_read_once.py": "studio/generation/resolve",
    "stories/test_gallery_after_an_accident.py": "ui/wiring/gallery",
    "stories/test_gallery_journey.py": "ui/wiring/image_menus",
    "stories/test_killed.py": "paths",
    "stories/test_steps_of_images.py": "ui/wiring/kept_steps",
    "stories/test_text_from_outside.py": "ui/widgets/dialogs",
    "stories/test_upscaling_in_the_window.py": "ui/generate/upscale_dialog",
    "stories/test_weight_tools.py": (
        "models/tools/convert models/tools/export models/tools/fuse_lora models/tools/merge models/tools/prune"
        " models/tools/spec"
    ),
    "ui/lab/image_map/test_view.py": "ui/lab/image_map/legend ui/lab/image_map/selection",
    "studio/gallery/test_database.py": "studio/gallery/salvage",
    "studio/evaluations/test_evaluate.py": (
        "studio/evaluations/feature_choice studio/evaluations/measure studio/evaluations/result"
        " studio/evaluations/samples"
    ),
    "studio/evaluations/test_job_recording.py": "studio/evaluations/results/earlier_result",
    "studio/evaluations/compare/test_compare.py": (
        "studio/evaluations/compare/figures studio/evaluations/compare/measuring studio/evaluations/compare/training"
    ),
    "studio/evaluations/compare/test_plan.py": (
        "cli/lab/compare studio/evaluations/compare/history studio/evaluations/compare/request"
    ),
    "studio/evaluations/compare/test_result.py": "studio/evaluations/compare/page",
    "studio/evaluations/folders/test_reading.py": "studio/evaluations/folders/real_folder",
    "studio/evaluations/plots/test_files.py": "studio/evaluations/plots/figure",
    "studio/evaluations/anomalies/test_anomalies.py": (
        "studio/evaluations/anomalies/detectors studio/evaluations/anomalies/result"
    ),
    "studio/evaluations/attention/test_attention.py": "studio/evaluations/attention/prompts studio/evaluations/attention/result",
    "studio/evaluations/image_map/test_image_map.py": (
        "studio/evaluations/image_map/request studio/evaluations/image_map/result"
    ),
    "studio/evaluations/features/test_features.py": "studio/evaluations/features/probing studio/evaluations/features/result",
    "studio/evaluations/restore/test_restore.py": (
        "studio/evaluations/restore/request studio/evaluations/restore/restorer studio/evaluations/restore/result"
    ),
    "studio/evaluations/reverse/test_reverse.py": "studio/evaluations/reverse/result",
    "studio/curves/test_forward.py": "studio/evaluations/views/forward",
    "ui/lab/pages/test_reverse.py": "ui/lab/results/film_view",
    "ui/lab/pages/test_restore.py": "ui/lab/results/before_after",
    "studio/evaluations/likelihood/test_likelihood.py": "studio/evaluations/likelihood/result",
    "studio/evaluations/views/test_tables.py": "studio/evaluations/views/json_values",
    "ui/lab/noise_schedule/test_canvas.py": "ui/lab/noise_schedule/axes ui/lab/noise_schedule/drawing",
    "ui/lab/noise_schedule/test_view.py": "ui/lab/noise_schedule/controls ui/lab/noise_schedule/curve_fields",
    "ui/lab/pages/test_anomalies.py": "ui/lab/results/decisions_view ui/lab/results/scored_images",
    "ui/lab/pages/test_attention.py": "ui/lab/results/word_maps ui/lab/text_field",
    "ui/lab/test_fields.py": "ui/lab/folder_field ui/lab/pages/evaluate ui/lab/subjects_field",
    "ui/lab/test_page_list.py": "ui/lab/page ui/lab/pages/compare ui/lab/pages/likelihood ui/lab/options ui/lab/pages/synthesise "
    "ui/lab/results/grids_view",
    "ui/lab/results/test_result_view.py": "ui/lab/results/pairs_view ui/lab/results/plot_view ui/lab/results/saving "
    "ui/lab/results/table_view",
    "ui/lab/test_room.py": "ui/lab/form_view ui/lab/job_actions ui/lab/job_view ui/lab/jobs_list",
    "studio/evaluations/synthesise/test_synthesise.py": (
        "cli/lab/synthesise studio/evaluations/synthesise/near_copies studio/evaluations/synthesise/records"
        " studio/evaluations/synthesise/folder_proof"
        " studio/evaluations/synthesise/request"
        " studio/evaluations/synthesise/result"
    ),
    "studio/generation/test_enlarge.py": "studio/generation/upscale studio/generation/upscaler_lookup",
    "studio/generation/test_generate.py": "studio/generation/passes studio/jobs/job_context studio/jobs/job_control",
    "studio/jobs/test_queue.py": "studio/jobs/job_records studio/jobs/queue_rescue",
    "studio/requests/test_requests.py": (
        "studio/requests/choices studio/requests/controlnet_use studio/requests/control_types studio/requests/generate_request"
        " studio/requests/json_values studio/requests/limits studio/requests/sampling_fields studio/requests/train_request"
        " studio/requests/upscale_request"
    ),
    "studio/metadata/test_import_settings.py": "studio/metadata/sampler_names studio/metadata/readers/a1111_text",
    "stories/test_prompts_step_by_step.py": "models/conditioning/composition studio/prompts/prompt_notes",
    "studio/runs/test_runs.py": "studio/runs/process studio/runs/status",
    "studio/test_worker.py": "studio/generation/model_loader studio/job_runner",
    "networks/test_transformer.py": "networks/transformer_config networks/transformer_layers",
    "networks/test_one_call.py": "networks/autoencoder networks/condition_vector networks/gan",
    "training/objectives/test_gan.py": "training/objectives/diffusion training/objectives/objective",
    "stories/test_training_on_several_devices.py": "training/distributed/sharding",
    "training/test_post_hoc_ema.py": "cli/post_hoc_ema",
    "training/recipe/test_recipe.py": (
        "training/recipe/data_recipe training/recipe/limits training/recipe/network_recipe"
        " training/recipe/objective_recipe training/recipe/optimiser_recipe training/recipe/values"
    ),
    "training/test_recipe_choice.py": "training/recipe_from_checkpoint",
    "training/data/test_dataset.py": "training/data/image_cache",
    "training/data/test_inspect_folder.py": "training/data/folder_report",
    "training/run/test_run_folder.py": "training/run/events",
    "training/run/test_resume.py": "training/preparation/stored_dataset",
    "training/test_loop.py": (
        "training/preparation/disk_use training/run/checkpoints/checkpointing training/run/command_listener"
        " training/run/sample_sheets training/run/setup training/run/training"
    ),
    "ui/gallery/test_room.py": (
        "ui/gallery/browser ui/gallery/details ui/gallery/full_view ui/gallery/grid ui/gallery/image_view ui/gallery/item_model"
        " ui/gallery/selection_actions ui/gallery/compare_view ui/gallery/layout ui/gallery/tag_editor ui/gallery/top_bar"
        " ui/widgets/images/image_menu ui/widgets/note_field"
    ),
    "ui/generate/sections/test_controlnet_section.py": "ui/generate/sections/controlnet_card",
    "ui/generate/canvas/test_canvas.py": (
        "ui/generate/canvas/contents ui/generate/canvas/filmstrip ui/generate/canvas/painting ui/generate/canvas/zoom_bar"
    ),
    "ui/generate/mask/test_editor.py": "ui/generate/mask/dialog ui/generate/mask/layer",
    "ui/generate/test_panel.py": (
        "ui/generate/labels ui/generate/panel_layout"
        " ui/generate/sections/checkpoint_chooser ui/generate/sections/hires_section"
        " ui/generate/sections/sampling_section ui/generate/sections/seed"
    ),
    "ui/wiring/test_image_menus.py": "ui/shell/gallery_changes",
    "ui/wiring/test_panel_state.py": "ui/generate/sections/settings_bar ui/generate/sections/preset_dialogs",
    "ui/generate/test_room.py": (
        "ui/generate/job_controls ui/generate/job_state ui/generate/layout"
        " ui/generate/queue_and_history ui/generate/viewer"
    ),
    "ui/models/test_room.py": (
        "ui/shell/checkpoint_preview"
        " ui/models/background_lookups ui/models/details ui/models/file_actions"
        " ui/models/filter_bar ui/models/item_model ui/models/layout ui/models/model_info"
        " ui/models/rename_dialog ui/models/tool_runner ui/models/trigger_words"
    ),
    "ui/models/adding/test_model_adder.py": (
        "ui/models/adding/download_bar ui/models/adding/link_dialog ui/models/adding/link_downloads"
    ),
    "stories/test_models_in_the_window.py": "ui/wiring/model_files",
    "models/components/test_download.py": "models/components/download_process",
    "studio/library/test_link_download.py": "studio/library/link_receiver",
    "ui/models/test_type_override.py": "models/library/overrides ui/widgets/wrapping_text",
    "ui/models/test_weight_tool_dialogs.py": "studio/library/weight_requests",
    "ui/test_app.py": (
        "ui/generate/image_settings_dialog ui/shell/downloads ui/shell/run_monitor ui/wiring/images ui/wiring/jobs"
        " ui/wiring/navigation ui/wiring/preferences"
    ),
    "ui/test_window.py": (
        "ui/settings_dialog ui/shell/exception_hooks ui/shell/single_instance ui/shell/sleep_inhibitor"
    ),
    "ui/train/folder/test_captions_view.py": "ui/train/folder/caption_list ui/train/folder/folder_actions",
    "ui/train/run/test_learning_card.py": "ui/train/run/nearest_images",
    "ui/train/test_recipe_dialog.py": "ui/train/recipe_labels",
    "ui/train/test_room.py": (
        "ui/train/folder_controller ui/train/folder/folder_card ui/train/folder/folder_inspector ui/train/folder/folder_view"
        " ui/train/new_run_panel"
        " ui/train/run_actions ui/train/run/follower ui/train/run/panel ui/train/run/sample_prompts_dialog"
        " ui/train/run/view ui/train/runs_list"
    ),
    "ui/widgets/test_controls.py": (
        "ui/widgets/banner ui/widgets/images/thumbnail ui/widgets/layout/flow_layout ui/widgets/helpers"
        " ui/widgets/inputs/chip_row ui/widgets/inputs/combo_box ui/widgets/inputs/number_fields ui/widgets/inputs/sliders"
    ),
    "stories/test_queue_in_the_window.py": "ui/generate/queue/job_dialog ui/wiring/queue",
    "stories/test_help_in_the_window.py": "ui/help/about_dialog ui/help/shortcuts_dialog ui/wiring/help",
    "ui/shell/test_notifier.py": "ui/wiring/notifications",
    "ui/generate/test_failed_jobs.py": "ui/generate/queue/failed_list",
    "ui/generate/queue/test_job_list.py": "ui/generate/queue/job_card ui/widgets/actions",
    "ui/widgets/test_theme.py": "ui/widgets/icons",
}
LISTED = [(test, module) for test, modules in TESTED_IN.items() for module in modules.split()]


def test_every_test_file_has_its_module() -> None:
    strays = []
    for test in TESTS.rglob("test_*.py"):
        path = test.relative_to(TESTS)
        if path.parts[0] in ELSEWHERE or path.as_posix() in OF_THE_WHOLE:
            continue
        module = PACKAGE / path.with_name(path.name.removeprefix("test_"))
        of_package = module.stem == module.parent.name  # tests/cli/test_cli.py, of diffstudio/cli/__init__.py
        if not module.is_file() and not of_package:
            strays.append(path.as_posix())
    assert strays == []
    assert [name for name in OF_THE_WHOLE if not (TESTS / name).is_file()] == []


def test_every_module_has_its_test_file() -> None:
    listed = {module for _, module in LISTED}
    assert len(listed) == len(LISTED)
    untested = []
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).with_suffix("")
        own = (TESTS / module.with_name(f"test_{module.name}.py")).is_file()
        long = len(path.read_text(encoding="utf-8").splitlines()) > SMALL and module.name != "__init__"
        if long and not own and module.as_posix() not in listed:
            untested.append(module.as_posix())
    assert untested == []  # write its tests, or say in TESTED_IN what tests it
    assert [module for module in listed if not (PACKAGE / f"{module}.py").is_file()] == []


def test_what_is_said_to_test_a_module_imports_it() -> None:
    assert [(test, module) for test, module in LISTED if PACKAGE / f"{module}.py" not in reached(TESTS / test)] == []


def reached(test: Path) -> set[Path]:
    """All files that a file imports, directly or through others, in any of their functions too."""
    found, open_files = {test}, [test]
    while open_files:
        new = imported(open_files.pop()) - found
        found |= new
        open_files += new
    return found


@cache
def imported(file: Path) -> frozenset[Path]:
    found = set()
    if file == PACKAGE / "cli/verbs.py":  # imports them by name
        found |= {file_of(f"diffstudio.cli.{module}") for _, module, _ in VERBS}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                found |= {file_of(module), *(file_of(f"{module}.{alias.name}") for alias in names)}
            case ast.Import(names=names):
                found |= {file_of(alias.name) for alias in names}
    return frozenset(path for path in found if path is not None)


@cache
def file_of(name: str) -> Path | None:
    """The file of one of our modules or packages; None for any other name."""
    place = PACKAGE.parent.joinpath(*name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if name.split(".")[0] in ("diffstudio", "tests") and path.is_file():
            return path
    return None


def test_no_package_has_more_than_sixteen_modules() -> None:
    counts = {folder: len(list(folder.glob("*.py"))) - 1 for folder in PACKAGE.rglob("*") if folder.is_dir()}
    assert not {folder.name: count for folder, count in counts.items() if count > MOST_MODULES}
