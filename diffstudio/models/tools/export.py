"""Export a checkpoint as a diffusers folder, which diffusers' `DiffusionPipeline.from_pretrained` opens.

Weights are copied tensor by tensor; only components that come from other files are loaded as a whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.atomic import atomic_folder
from diffstudio.errors import CheckpointDamaged, CheckpointMissing, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components, empty_module, incomplete
from diffstudio.models.components.open_components import open_components
from diffstudio.models.detection.families_table import family_of, is_trained_here
from diffstudio.models.detection.types import Layout
from diffstudio.models.files.formats import INDEX, PICKLES, SAFETENSORS
from diffstudio.models.library.library import Library
from diffstudio.models.state_dicts.prefixes import TEXT_ENCODERS, unused_for_inference
from diffstudio.models.state_dicts.split import split_components
from diffstudio.models.state_dicts.to_original import State
from diffstudio.models.tools.convert import PrecisionCaster, check_precision
from diffstudio.models.tools.export_unet import export_unet
from diffstudio.models.tools.spec import Precision, ToolProgress, ToolResult
from diffstudio.models.tools.weights_writer import check_target, open_checkpoint, size_of, write_tensors

_PIPELINES = {  # family -> its pipeline in diffusers, and that for inpainting
    "sd1": ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline"),
    "sd2": ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline"),
    "sdxl": ("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"),
    "sdxl_refiner": ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
}
_INDEX_OPTIONS: Mapping[str, Mapping[str, Any]] = {  # in model_index.json, besides the components
    "sd1": {"requires_safety_checker": False},
    "sd2": {"requires_safety_checker": False},
    "sdxl": {"force_zeros_for_empty_prompt": True},
    "sdxl_refiner": {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
}
_UNUSED = ("feature_extractor", "image_encoder")
_ABSENT_COMPONENTS = {
    "sd1": ("safety_checker", *_UNUSED),
    "sd2": ("safety_checker", *_UNUSED),
    "sdxl": _UNUSED,
    "sdxl_refiner": ("text_encoder", "tokenizer", *_UNUSED),
}
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_TEXT_ENCODER_WEIGHTS = "model.safetensors"
_CONFIGURATION_BYTES = 16 << 20


def exportable(checkpoint: Checkpoint) -> bool:
    """Whether it can be exported as a diffusers folder, judged by its record."""
    if checkpoint.is_unet:
        return True
    return checkpoint.can_generate and (checkpoint.layout is Layout.FOLDER or checkpoint.family in _PIPELINES)


def export(
    checkpoint: Checkpoint, target: Path, precision: Precision = Precision.KEEP, *, library: Library | None = None
) -> ToolProgress:
    """A diffusers folder at `target`; components that the checkpoint lacks are taken from the `library`.

    CheckpointUnknown where no folder can be made, CheckpointMissing and CheckpointDamaged for missing components and
    weights.
    """
    target = target.absolute()
    if checkpoint.is_unet:
        yield from export_unet(checkpoint, target, precision)
        return
    if is_trained_here(checkpoint.family):
        raise CheckpointUnknown(
            f"{checkpoint.name} has no pipeline in diffusers",
            "of the models trained in diffstudio only U-Nets have one",
            f"Share its file instead: {checkpoint.path}",
        )
    if not exportable(checkpoint):
        family = family_of(checkpoint.family)
        raise CheckpointUnknown(
            f"{checkpoint.name} cannot be exported as a diffusers folder",
            f"only Stable Diffusion 1, 2 and XL can be, not {family.title if family else 'this family'}",
            "Use the file as it is",
        )
    check_precision(checkpoint, precision)
    caster = PrecisionCaster()
    with open_checkpoint(checkpoint) as weights:
        if checkpoint.layout is Layout.FOLDER:
            components = _folder_components(weights.tensors)
            opened = None
        else:
            opened = open_components(checkpoint, library)
            components = _components(checkpoint, weights.tensors, opened)
        stored = {component: caster.cast(state, precision) for component, state in components.items()}
        sizes = {component: size_of(state) for component, state in stored.items()}
        whole = sum(sizes.values())
        check_target(target, whole + _CONFIGURATION_BYTES)
        with atomic_folder(target) as folder:
            if opened is None:
                _copy_all_but_weights(checkpoint.path, folder)
            else:
                _write_configs(checkpoint, opened, folder, tuple(components))
            done = 0
            for component, state in stored.items():
                (folder / component).mkdir(exist_ok=True)
                name = _file_of(component, folder / component)
                with (folder / component / name).open("xb") as file:
                    for fraction in write_tensors(file, name, state, {"format": "pt"}):
                        yield (done + fraction * sizes[component]) / max(1, whole)
                done += sizes[component]
    yield ToolResult(target, whole, caster.notes(precision))


def _file_of(component: str, folder: Path) -> str:
    """The name of a component's weight file: diffusers' modules and transformers' differ."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    return _WEIGHTS if "_class_name" in config or component in ("unet", "vae", "transformer") else _TEXT_ENCODER_WEIGHTS


# ---- from one file ---------------------------------------------------------------------------------------------------


def _components(checkpoint: Checkpoint, tensors: State, opened: Components) -> dict[str, dict[str, Tensor]]:
    """Every component of the pipeline, complete: from the file, else from the model folders."""
    found = split_components(
        {name: tensor for name, tensor in tensors.items() if not unused_for_inference(name)},
        checkpoint.family,
        opened.config,
    )
    needed = [
        component
        for component in ("unet", "vae", *TEXT_ENCODERS[:2])
        if component not in _ABSENT_COMPONENTS[checkpoint.family]
        and (component != "text_encoder_2" or checkpoint.family.startswith("sdxl"))
    ]
    for component in needed:
        kind = component_class(opened.config(component))
        if component not in found:
            if not opened.has(component):
                raise CheckpointMissing(
                    f"{checkpoint.name} has no {component}",
                    "a diffusers folder must hold the whole pipeline",
                    "Use a file that contains it, or put one of the same family into a model folder",
                )
            found[component] = dict(opened.module(component, kind, torch.float16).state_dict())
        _check_whole(checkpoint, component, found[component], empty_module(kind, opened.config(component)))
    return {component: {name: tensor.contiguous() for name, tensor in found[component].items()} for component in needed}


def _check_whole(checkpoint: Checkpoint, component: str, state: dict[str, Tensor], module: nn.Module) -> None:
    expected = {name.removeprefix("text_model."): value for name, value in module.state_dict().items()}
    plain = {name.removeprefix("text_model."): name for name in state}
    missing = sorted(expected.keys() - plain.keys())
    wrong = next(
        (name for name, value in expected.items() if name in plain and state[plain[name]].shape != value.shape), None
    )
    if missing or wrong:
        why = (
            f"{missing[0]} is missing" if missing else f"{wrong} has the shape {tuple(state[plain[str(wrong)]].shape)}"
        )
        raise CheckpointDamaged(incomplete(component, checkpoint.name), why, "Download it again")
    for name in plain.keys() - expected.keys():
        del state[plain[name]]


def component_class(config: Mapping[str, Any]) -> type[nn.Module]:
    """The class of diffusers or transformers that a component's configuration names."""
    import diffusers
    import transformers

    if "_class_name" in config:
        found: type[nn.Module] = getattr(diffusers, config["_class_name"])
    else:
        found = getattr(transformers, config["architectures"][0])
    return found


def _write_configs(checkpoint: Checkpoint, opened: Components, folder: Path, components: tuple[str, ...]) -> None:
    """Write configurations, tokenizers and `model_index.json`."""
    import diffusers
    from transformers import CLIPTokenizer

    pipeline = _PIPELINES[checkpoint.family][checkpoint.inpainting]
    index: dict[str, Any] = {
        "_class_name": pipeline,
        "_diffusers_version": diffusers.__version__,
        **_INDEX_OPTIONS[checkpoint.family],
    }
    index |= {name: [None, None] for name in _ABSENT_COMPONENTS[checkpoint.family]}
    if pipeline == "StableDiffusionXLInpaintPipeline" and checkpoint.family == "sdxl":
        index["requires_aesthetics_score"] = False
    for component in components:
        config = dict(opened.config(component))
        kind = component_class(config)
        index[component] = [kind.__module__.partition(".")[0], kind.__name__]
        _write_json(folder / component / "config.json", config)
        if component in TEXT_ENCODERS:
            tokenizer = component.replace("text_encoder", "tokenizer")
            opened.tokenizer(tokenizer, CLIPTokenizer).save_pretrained(folder / tokenizer)
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
    scheduler = dict(opened.config("scheduler"))
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(folder / INDEX, dict(sorted(index.items())))


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


# ---- from a folder ---------------------------------------------------------------------------------------------------


def _folder_components(tensors: State) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        component, _, inner = name.partition(".")
        found.setdefault(component, {})[inner] = tensor
    return found


def _copy_all_but_weights(source: Path, target: Path) -> None:
    def weights(folder: str, names: list[str]) -> set[str]:
        return {
            name
            for name in names
            if name.lower().endswith(
                (*SAFETENSORS, *PICKLES, ".safetensors.index.json", ".msgpack", ".h5", ".onnx", ".bin.index.json")
            )
            or name.startswith(".")
        }

    shutil.copytree(source, target, ignore=weights, dirs_exist_ok=True)
