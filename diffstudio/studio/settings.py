"""The user's settings, in one JSON file.

A file that cannot be read is set aside, and the defaults are used.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import BadRequest, must_be_between
from diffstudio.studio.stored_json import read_object, set_aside, write_object

FORMAT = 1
LONGEST_HISTORY = 200  # prompts
SMALLEST_TEXT, LARGEST_TEXT = 90, 200  # percent
_WHAT = "The settings"


class Theme(StrEnum):
    SYSTEM = "system"
    DARK = "dark"
    LIGHT = "light"


@dataclass(frozen=True, slots=True)
class Settings:
    """Changed with `dataclasses.replace`; kept with `save`."""

    theme: Theme = Theme.DARK
    text_size: int = 100  # percent
    device: str = "auto"  # `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`
    threads: int = 0  # CPU threads for one image; 0: one for each core
    previews: bool = True  # show the image while it is generated
    kept_gib: float | None = None  # checkpoints in memory; None: half of what there is; 0: only the one in use
    kept_steps_gib: float = 2.0  # on the disk, for the steps of finished images; 0: none
    notifications: bool = True  # of the desktop, when long work ends and the window is not in front
    compiled: bool = False  # torch.compile for the networks of checkpoints that were not trained here
    model_folders: tuple[Path, ...] = ()  # searched in addition to the program's own
    images_folder: Path | None = None  # None: `paths.images()`
    prompt_history: tuple[str, ...] = ()  # newest first, each once
    format: int = FORMAT

    def __post_init__(self) -> None:
        object.__setattr__(self, "theme", Theme(self.theme))
        if not SMALLEST_TEXT <= self.text_size <= LARGEST_TEXT:
            why = must_be_between(SMALLEST_TEXT, LARGEST_TEXT)
            raise BadRequest(f"The text size is {self.text_size} %", why)
        if not 0 <= self.threads <= 1024:
            raise BadRequest(f"The number of threads is {self.threads}", "it must be between 0 (all cores) and 1024")
        if self.kept_gib is not None and not 0 <= self.kept_gib <= 1e6:
            raise BadRequest(f"The memory for checkpoints is {self.kept_gib} GiB", "it must be between 0 and a million")

        if not 0 <= self.kept_steps_gib <= 1e6:
            raise BadRequest(f"The disk space for steps is {self.kept_steps_gib} GiB", must_be_between(0, "a million"))

    @property
    def images(self) -> Path:
        return self.images_folder or paths.images()

    @property
    def kept_steps_bytes(self) -> int:
        return round(self.kept_steps_gib * (1 << 30))

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where checkpoints are searched: the program's own folder, then the user's."""
        own = paths.checkpoints()
        return (own, *(folder for folder in self.model_folders if folder != own))

    @property
    def written_folders(self) -> tuple[Path, ...]:
        """The folders that the program writes to by itself, none inside another."""
        folders = dict.fromkeys((paths.data(), self.images, paths.cache(), paths.settings_file().parent))
        return tuple(folder for folder in folders if not any(other in folder.parents for other in folders))

    def with_prompt(self, prompt: str) -> Settings:
        """The same, with this prompt at the head of the history."""
        prompt = prompt.strip()
        if not prompt:
            return self
        others = tuple(other for other in self.prompt_history if other != prompt)
        return replace(self, prompt_history=(prompt, *others)[:LONGEST_HISTORY])

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "theme": str(self.theme),
            "text_size": self.text_size,
            "device": self.device,
            "threads": self.threads,
            "previews": self.previews,
            "kept_gib": self.kept_gib,
            "kept_steps_gib": self.kept_steps_gib,
            "notifications": self.notifications,
            "compiled": self.compiled,
            "model_folders": [str(folder) for folder in self.model_folders],
            "images_folder": None if self.images_folder is None else str(self.images_folder),
            "prompt_history": list(self.prompt_history),
        }


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    settings: Settings
    problem: str = ""  # a sentence to show when the file could not be used; otherwise empty


def load_settings(path: Path | None = None) -> Settings:
    """The settings in the file, or the defaults. Never raises; `read_settings` reports what was wrong."""
    return read_settings(path).settings


def read_settings(path: Path | None = None) -> LoadedSettings:
    """The settings in the file, or the defaults without a file.

    A damaged file, or one from a newer program, is renamed to `settings.json.damaged` so that nothing in it is lost. A
    single invalid value is reset to its default; the others are kept.
    """
    path = path or paths.settings_file()
    stored = read_object(path, FORMAT)
    if stored.why:
        return LoadedSettings(Settings(), set_aside(path, _WHAT, stored.why, "the defaults are used"))
    values = stored.values
    settings, unknown = Settings(), []
    for name in (field.name for field in fields(Settings) if field.name != "format"):
        if name in values:
            try:
                settings = replace(settings, **{name: _value(name, values[name])})
            except (TypeError, ValueError, BadRequest):
                unknown.append(name)
    problem = f"Some settings were invalid and were reset to their defaults: {', '.join(unknown)}." if unknown else ""
    return LoadedSettings(settings, problem)


def save(settings: Settings, path: Path | None = None) -> None:
    """Write the settings file. StorageProblem when it cannot be written."""
    write_object(path or paths.settings_file(), settings.to_json(), _WHAT)


def _value(name: str, value: Any) -> Any:
    match name:
        case "theme":
            return Theme(value)
        case "device" if isinstance(value, str) and value:
            return value
        case "threads" | "text_size" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "previews" | "compiled" | "notifications" if isinstance(value, bool):
            return value
        case "kept_gib" if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return value
        case "kept_steps_gib" if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        case "model_folders" if isinstance(value, list):
            return tuple(_path(folder) for folder in value)
        case "images_folder":
            return None if value is None else _path(value)
        case "prompt_history" if isinstance(value, list) and all(isinstance(prompt, str) for prompt in value):
            return tuple(value[:LONGEST_HISTORY])
    raise ValueError(name)


def _path(value: Any) -> Path:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    return Path(value)
