"""The folders and files of the program: what ships with it, and the user's data.

`DIFFSTUDIO_HOME` moves all user data into one folder (for tests and portable installs).
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parent


def resources() -> Path:
    """The folder of files that ship with the program: inside the wheel, or next to the package in a checkout."""
    inside_wheel = _PACKAGE / "resources"
    return inside_wheel if inside_wheel.is_dir() else _PACKAGE.parent / "resources"


def _home() -> Path | None:
    home = os.environ.get("DIFFSTUDIO_HOME")
    return Path(os.path.expanduser(home)) if home else None  # unlike Path.expanduser, never raises for an unknown ~name


def data() -> Path:
    """User data: checkpoints, runs and databases."""
    return _home() or Path(platformdirs.user_data_dir("diffstudio", appauthor=False))


def settings_file() -> Path:
    return (_home() or Path(platformdirs.user_config_dir("diffstudio", appauthor=False))) / "settings.json"


def cache() -> Path:
    """Thumbnails, decoded training sets and the steps of images: safe to delete at any time."""
    home = _home()
    return home / "cache" if home else Path(platformdirs.user_cache_dir("diffstudio", appauthor=False))


def prepared_images() -> Path:
    """Training sets, decoded at the size they are trained at."""
    return cache() / "pictures"


def steps() -> Path:
    """The denoising steps of finished images."""
    return cache() / "steps"


def images() -> Path:
    """The default folder of generated images."""
    home = _home()
    return home / "images" if home else Path(platformdirs.user_pictures_dir()) / "diffstudio"


def checkpoints() -> Path:
    return data() / "models"


def runs() -> Path:
    return data() / "runs"


def step_fitting() -> Path:
    """The jobs that fit steps to checkpoints, with their results."""
    return data() / "fitted steps"


def steps_of_included() -> Path:
    """The steps that the user fitted to the included checkpoints: the program's own files stay as they were installed."""
    return data() / "included"


def averages() -> Path:
    """The jobs that measure averages of a run's weights, while they are shown."""
    return data() / "averages"


def lab() -> Path:
    """The jobs of the Lab with their results."""
    return data() / "lab"


def wildcards() -> Path:
    """The wildcard files that `__name__` in prompts refers to."""
    return data() / "wildcards"


def schedules() -> Path:
    """The noise schedules that the user drew and saved."""
    return data() / "schedules"


def overrides() -> Path:
    """The types that the user set for model files, where detection is wrong or finds nothing."""
    return data() / "models.json"


def panel_state_file() -> Path:
    """What is chosen in the Generate room."""
    return data() / "generate.json"


def training_form_file() -> Path:
    """What is chosen for the next training run."""
    return data() / "train.json"


def gallery_view_file() -> Path:
    """The order, the filters and the thumbnail size of the gallery."""
    return data() / "gallery.json"


def presets_file() -> Path:
    return data() / "presets.json"


def starter() -> Path:
    """The checkpoint that the program begins with."""
    return resources() / "starter" / "starter.safetensors"


def included_checkpoints() -> list[Path]:
    """The checkpoints that ship with the program, the starter first; each has its file's name."""
    return sorted(starter().parent.glob("*.safetensors"), key=lambda path: (path != starter(), path))


def latest_checkpoint(run: Path) -> Path:
    """The checkpoint of a training run that generates: the best so far, or the last."""
    return run / "checkpoints" / "latest.safetensors"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run."""
    return all((folder / name).is_file() for name in ("recipe.toml", "run.json"))


def valid_utf8(name: str) -> str:
    """`name` with surrogates replaced: names of files may hold bytes that are not UTF-8, and not every format can."""
    return name.encode("utf-8", "replace").decode("utf-8")


def short(path: Path | str) -> str:
    """The path as people read it, with `~` for their home folder."""
    try:
        return str(Path("~") / Path(path).relative_to(Path.home()))
    except (ValueError, RuntimeError):  # elsewhere, or nobody's home is known
        return str(path)
