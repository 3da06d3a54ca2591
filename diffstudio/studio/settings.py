"""The user's settings, in one JSON file.

A file that cannot be read is set aside, and the defaults are used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import BadRequest, must_be_between
from diffstudio.studio.stored_json import write_object
from diffstudio.studio.stored_values import Loaded, StoredValues, as_path, as_text, load

FORMAT = 1
LONGEST_HISTORY = 200  # prompts
MOST_THREADS = 1024
MOST_GIB = 1e6
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
            raise BadRequest(f"The text size is {self.text_size}%", why)
        if not 0 <= self.threads <= MOST_THREADS:
            raise BadRequest(f"The number of threads is {self.threads}", must_be_between("0 (all cores)", MOST_THREADS))
        if self.kept_gib is not None and not 0 <= self.kept_gib <= MOST_GIB:
            raise BadRequest(f"The memory for checkpoints is {self.kept_gib} GiB", must_be_between(0, "a million"))
        if not 0 <= self.kept_steps_gib <= MOST_GIB:
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

    @classmethod
    def from_stored(cls, values: StoredValues) -> Settings:
        usual = cls()
        return cls(
            values.choice("theme", usual.theme),
            values.whole("text_size", usual.text_size, SMALLEST_TEXT, LARGEST_TEXT),
            values.read("device", usual.device, _device),
            values.whole("threads", usual.threads, 0, MOST_THREADS),
            values.flag("previews", usual.previews, "live preview"),
            values.number("kept_gib", usual.kept_gib, 0, MOST_GIB, "model cache"),
            values.number("kept_steps_gib", usual.kept_steps_gib, 0, MOST_GIB, "saved steps"),
            values.flag("notifications", usual.notifications),
            values.flag("compiled", usual.compiled, "compile models"),
            values.each("model_folders", as_path),
            values.optional_path("images_folder", "image folder"),
            values.each("prompt_history", as_text, "prompts in the history")[:LONGEST_HISTORY],
        )


def load_settings(path: Path | None = None) -> Settings:
    """The settings in the file, or the defaults. Never raises; `read_settings` reports what was wrong."""
    return read_settings(path).state


def read_settings(path: Path | None = None) -> Loaded[Settings]:
    """The settings in the file, or the defaults without a file.

    A damaged file, or one from a newer program, is renamed to `settings.json.damaged` so that nothing in it is lost. A
    single invalid value becomes its default; the others are kept.
    """
    path = path or paths.settings_file()
    return load(path, FORMAT, Settings.from_stored, Settings(), what=_WHAT, instead="the defaults are used")


def save(settings: Settings, path: Path | None = None) -> None:
    """Write the settings file. StorageProblem when it cannot be written."""
    write_object(path or paths.settings_file(), settings.to_json(), _WHAT)


def _device(value: Any) -> str:
    if not (name := as_text(value)):
        raise ValueError(value)
    return name
