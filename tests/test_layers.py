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
QT = ("PySide6", "shiboken6", "qasync", "qtawesome", "pyqtgraph")
GENERATING = {"diffstudio.studio.generate", "diffstudio.studio.preview"}  # what the worker imports when it has work

EVERYTHING = sorted(module.name for module in pkgutil.walk_packages(diffstudio.__path__, "diffstudio."))
PACKAGES = sorted(module.name for module in pkgutil.walk_packages(diffstudio.__path__, "diffstudio.") if module.ispkg)
BELOW_UI = [name for name in EVERYTHING if not name.startswith("diffstudio.ui") and not name.endswith("__main__")]
LIGHT = ["diffstudio.errors", "diffstudio.paths", "diffstudio.cli", "diffstudio.models.checkpoint",
         "diffstudio.models.library", "diffstudio.models.lease", "diffstudio.training.recipe",
         "diffstudio.training.run_folder", "diffstudio.training.inspection", *PACKAGES,
         *(name for name in EVERYTHING if name.startswith("diffstudio.studio.") and name not in GENERATING)]
WINDOW = [name for name in EVERYTHING if name.startswith("diffstudio.ui")]


def _run(code: str, *, timeout: float = 120) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
                          check=False)
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
