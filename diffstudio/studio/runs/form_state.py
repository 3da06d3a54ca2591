"""What is chosen for the next training run, as it is kept from one start of the program to the next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import BadRequest, DiffstudioError
from diffstudio.studio.stored_json import read_object, set_aside, write_object
from diffstudio.training.distributed.cluster import Cluster
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import AUTO

FORMAT = 1
LONGEST_MINUTES = 60.0 * 24 * 30
_LONGEST_TEXT = 5000  # characters: paths have up to 4096
_WHAT = "The settings of the Train room"


@dataclass(frozen=True, slots=True)
class FormState:
    """Changed with `dataclasses.replace`."""

    folder: Path | None = None  # which may be gone
    recipe: str = AUTO  # its name
    changed: Recipe | None = None  # with the changes made in the form; None without any
    by_hand: bool = False  # whether any of its settings was changed, not only those in the form
    minutes: float | None = None  # None: the default
    start_from: str | None = None  # a checkpoint, `starter` or `none`; None: as the recipe says
    name: str = ""  # of the run; empty: that of the folder
    cluster: Cluster = Cluster()  # noqa: RUF009 - frozen

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "folder": None if self.folder is None else str(self.folder),
            "recipe": self.recipe,
            "changed": None if self.changed is None else self.changed.to_json(),
            "by_hand": self.by_hand,
            "minutes": self.minutes,
            "start_from": self.start_from,
            "name": self.name,
            "processes": self.cluster.processes,
            "machines": self.cluster.machines,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FormState:
        """RunProblem when the changed recipe cannot be read. Other values of the wrong type become their defaults."""
        folder, minutes, changed = _text(values.get("folder")), values.get("minutes"), values.get("changed")
        usable = isinstance(minutes, (int, float)) and not isinstance(minutes, bool) and 1 <= minutes <= LONGEST_MINUTES
        return cls(
            Path(folder) if folder else None,
            _text(values.get("recipe")) or AUTO,
            None if changed is None else Recipe.from_json(changed),
            values.get("by_hand") is True,
            float(minutes) if usable and minutes is not None else None,
            _text(values.get("start_from")) or None,
            _text(values.get("name")),
            _cluster(values.get("processes"), values.get("machines")),
        )


@dataclass(frozen=True, slots=True)
class LoadedForm:
    state: FormState
    problem: str = ""  # a sentence to show when the file could not be read


def read_form(path: Path | None = None) -> LoadedForm:
    """What was kept. Never raises; a file that is damaged, or of a newer program, is set aside."""
    path = path or paths.training_form_file()
    stored = read_object(path, FORMAT)
    why = stored.why
    if not why:
        try:
            return LoadedForm(FormState.from_json(stored.values))
        except DiffstudioError as error:
            why = str(error).rstrip(".")
    return LoadedForm(FormState(), set_aside(path, _WHAT, why, "the form for a new run starts with the defaults"))


def save_form(state: FormState, path: Path | None = None) -> None:
    """StorageProblem when it cannot be written."""
    write_object(path or paths.training_form_file(), state.to_json(), _WHAT)


def _text(value: object) -> str:
    return value if isinstance(value, str) and "\0" not in value and len(value) <= _LONGEST_TEXT else ""


def _cluster(processes: object, machines: object) -> Cluster:
    if not isinstance(processes, int) or not isinstance(machines, int):
        return Cluster()
    try:
        return Cluster(processes, machines)
    except BadRequest:
        return Cluster()
