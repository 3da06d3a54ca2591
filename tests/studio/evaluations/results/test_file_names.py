"""The names in the table are those that the verbs write."""

from __future__ import annotations

from pathlib import Path

from diffstudio.studio.evaluations import averages, evaluate, kept_images
from diffstudio.studio.evaluations.anomalies import anomalies, decisions
from diffstudio.studio.evaluations.anomalies import training as anomalies_training
from diffstudio.studio.evaluations.attention import attention
from diffstudio.studio.evaluations.compare import plan
from diffstudio.studio.evaluations.compare import result as comparison
from diffstudio.studio.evaluations.features import features
from diffstudio.studio.evaluations.fitted_steps import fitting
from diffstudio.studio.evaluations.image_map import image_map
from diffstudio.studio.evaluations.job_runs import PLAN
from diffstudio.studio.evaluations.likelihood import likelihood
from diffstudio.studio.evaluations.restore import restore
from diffstudio.studio.evaluations.restore import result as restored
from diffstudio.studio.evaluations.results.file_names import FILES, existing
from diffstudio.studio.evaluations.reverse import reverse


def test_the_table_has_what_the_verbs_write() -> None:
    images, run = kept_images.FOLDER, anomalies_training
    written = {
        "evaluate": {evaluate.RESULT, images},
        "anomalies": {anomalies.RESULT, anomalies.TABLE, anomalies.HEAT_MAPS, decisions.DECISIONS, PLAN}
        | {run.RUN, run.RECIPE},
        "attention": {attention.RESULT, attention.ARRAYS, images},
        "compare": {comparison.RESULT, comparison.PAGE, comparison.IMAGES, comparison.PLOTS, plan.RUNS, PLAN}
        | {"recipes", "measured", "memory.json"},
        "features": {features.RESULT, features.FEATURES, *features.IDS},
        "likelihood": {likelihood.RESULT},
        "map": {image_map.RESULT, images, "map-*"},
        "models": {fitting.RESULT, averages.RESULT, "sample-*.png"},
        "restore": {restore.RESULT, restored.RESTORED, restored.MEAN, restored.SAMPLE},
        "reverse": {reverse.RESULT, reverse.IMAGE, reverse.FILM, reverse.FRAMES},
    }
    assert {verb: set(names) for verb, names in FILES.items()} == written


def test_an_empty_folder_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert existing(tmp_path, "evaluate") == ""
    (tmp_path / "images" / "mine.png").touch()
    assert existing(tmp_path, "evaluate") == "images" and existing(tmp_path, "likelihood") == ""
