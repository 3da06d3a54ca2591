"""The floors of the house as they behave, in fresh processes: what loads torch, and what loads Qt.

Direct imports are checked by import-linter (`lint-imports`); this is about what really gets loaded.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import diffstudio

ROOT = Path(diffstudio.__file__).resolve().parent.parent
HEAVY = ("torch", "diffusers", "transformers", "safetensors.torch", "scipy")
QT = ("PySide6", "shiboken6", "qtawesome", "pyqtgraph")
# What the worker and an evaluation import when they have work.
GENERATING = {
    f"diffstudio.studio.generation.{name}" for name in ("generate", "passes", "enlarge", "upscale", "preview")
}
EVALUATING = {
    f"diffstudio.studio.evaluations.{name}"
    for name in (
        "compare.compare",
        "compare.measuring",
        "compare.training",
        "anomalies.anomalies",
        "attention.attention",
        "attention.prompts",
        "anomalies.choice",
        "anomalies.detectors",
        "anomalies.training",
        "evaluate",
        "features.features",
        "features.probing",
        "fitted_steps.batches",
        "fitted_steps.fitting",
        "image_map.image_map",
        "latents.latent_space",
        "likelihood.likelihood",
        "likelihood.measurement",
        "likelihood.autoencoder",
        "measure",
        "restore.restore",
        "restore.restorer",
        "reverse.reverse",
        "samples",
        "synthesise.folder_proof",
        "synthesise.near_copies",
        "synthesise.prove",
        "synthesise.synthesise",
    )
}

EVERYTHING = sorted(module.name for module in pkgutil.walk_packages(diffstudio.__path__, "diffstudio."))
PACKAGES = sorted(module.name for module in pkgutil.walk_packages(diffstudio.__path__, "diffstudio.") if module.ispkg)
BELOW_UI = [name for name in EVERYTHING if not name.startswith("diffstudio.ui") and not name.endswith("__main__")]
LIGHT = [
    "diffstudio.errors",
    "diffstudio.paths",
    "diffstudio.cli",
    "diffstudio.models.checkpoint",
    "diffstudio.models.library.library",
    "diffstudio.models.memory.lease",
    "diffstudio.training.recipe.recipe",
    "diffstudio.training.recipe_choice",
    "diffstudio.training.run.events",
    "diffstudio.training.run.run_folder",
    "diffstudio.training.data.inspect_folder",
    *PACKAGES,
    *(name for name in EVERYTHING if name.startswith("diffstudio.studio.") and name not in GENERATING | EVALUATING),
]
WINDOW = [name for name in EVERYTHING if name.startswith("diffstudio.ui")]


def _run(code: str, *, timeout: float = 120) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr or done.stdout


def _loads_none_of(modules: list[str], unwanted: tuple[str, ...]) -> None:
    _run(f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
    loaded = [heavy for heavy in {unwanted!r} if heavy in sys.modules]
    assert not loaded, f"{{name}} loads {{loaded}}"
""")


def test_what_comes_before_the_first_picture_loads_no_torch() -> None:
    _loads_none_of(LIGHT, HEAVY)


def test_the_window_loads_no_torch() -> None:
    assert "diffstudio.ui.app" in WINDOW
    _loads_none_of(WINDOW, HEAVY)


def test_nothing_below_the_window_loads_qt() -> None:
    _loads_none_of(BELOW_UI, QT)


@pytest.mark.parametrize("name", ["diffstudio", "diffstudio.cli"])
def test_the_command_line_starts_light(name: str) -> None:
    _loads_none_of([name], (*HEAVY, *QT, "numpy", "PIL"))


def test_a_training_run_works_without_qt(tmp_path: Path) -> None:
    """On a machine that has no Qt at all, which a finder that refuses it stands for."""
    _run(f"""
import sys
from pathlib import Path

class NoQt:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {QT!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoQt())
from PIL import Image
from tests.cli.test_cli import TINY_RECIPE
from diffstudio import cli

folder = Path({str(tmp_path)!r})
(folder / "pictures").mkdir()
for number in range(4):
    Image.new("RGB", (16, 16), (60 * number, 0, 90)).save(folder / "pictures" / f"{{number}}.png")
(folder / "tiny.toml").write_text(TINY_RECIPE)
sys.exit(cli.main(["train", str(folder / "pictures"), "--recipe", str(folder / "tiny.toml"), "--steps", "2",
                   "--run", str(folder / "run")]))
""")
    assert (tmp_path / "run" / "checkpoints" / "latest.safetensors").is_file()
