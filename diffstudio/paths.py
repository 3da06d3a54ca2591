"""Where things lie: what ships with the program, and what belongs to the person.

`DIFFSTUDIO_HOME` moves everything of the person's into one folder (tests, portable installs).
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parent


def resources() -> Path:
    """The folder of files that ship with the program: inside the wheel, or beside the package in a checkout."""
    inside_wheel = _PACKAGE / "resources"
    return inside_wheel if inside_wheel.is_dir() else _PACKAGE.parent / "resources"


def _home() -> Path | None:
    home = os.environ.get("DIFFSTUDIO_HOME")
    return (
        Path(os.path.expanduser(home)) if home else None
    )  # as a shell does: an unknown ~name stays as it is, and nothing raises


def data() -> Path:
    """Checkpoints, runs and the databases."""
    return _home() or Path(platformdirs.user_data_dir("diffstudio", appauthor=False))


def settings_file() -> Path:
    return (_home() or Path(platformdirs.user_config_dir("diffstudio", appauthor=False))) / "settings.json"


def cache() -> Path:
    """Thumbnails and decoded training sets: safe to delete at any time."""
    home = _home()
    return home / "cache" if home else Path(platformdirs.user_cache_dir("diffstudio", appauthor=False))


def images() -> Path:
    """Where pictures made here are kept unless settings say otherwise."""
    home = _home()
    return home / "images" if home else Path(platformdirs.user_pictures_dir()) / "diffstudio"


def checkpoints() -> Path:
    return data() / "models"


def runs() -> Path:
    return data() / "runs"


def wildcards() -> Path:
    """Text and YAML files that prompts draw from by `__name__`."""
    return data() / "wildcards"


def overrides() -> Path:
    """What a person says that files of models are, where detection does not know or is wrong."""
    return data() / "models.json"


def starter() -> Path:
    """The checkpoint that ships with the program."""
    return resources() / "starter" / "starter.safetensors"
