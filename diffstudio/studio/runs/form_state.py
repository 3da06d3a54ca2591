"""What is chosen for the next training run, as it is kept from one start of the program to the next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.studio.stored_json import write_object
from diffstudio.studio.stored_values import Loaded, StoredValues, load
from diffstudio.training.distributed.cluster import ALL_DEVICES, MOST_MACHINES, MOST_PROCESSES, Cluster
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import AUTO

FORMAT = 1
LONGEST_MINUTES = 60.0 * 24 * 30
_WHAT = "The settings of the Train room"


@dataclass(frozen=True, slots=True)
class FormState:
    """Changed with `dataclasses.replace`."""

    folder: Path | None = None  # which may be gone
    recipe: str = AUTO  # its name
    changed: Recipe | None = None  # with the changes made in the form; None without any
    by_hand: bool = False  # whether any of its settings was changed, not only those in the form
    minutes: float | None = None  # None: the default
    start_from: str | None = None  # a checkpoint, an included one's name or `none`; None: as the recipe says
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
    def from_stored(cls, values: StoredValues) -> FormState:
        """RunProblem when the changed recipe cannot be read."""
        return cls(
            values.optional_path("folder", "folder of images"),
            values.text("recipe", AUTO) or AUTO,
            values.read("changed", None, Recipe.from_json, "changed settings of the recipe"),
            values.flag("by_hand", label="whether settings were changed"),
            values.number("minutes", None, 1, LONGEST_MINUTES, "training time"),
            values.optional_text("start_from"),
            values.text("name", label="run name"),
            Cluster(
                values.whole("processes", 1, ALL_DEVICES, MOST_PROCESSES, "devices"),
                values.whole("machines", 1, 1, MOST_MACHINES),
            ),
        )


def read_form(path: Path | None = None) -> Loaded[FormState]:
    """What was kept. Never raises; a file that is damaged, or of a newer program, is set aside."""
    return load(
        path or paths.training_form_file(),
        FORMAT,
        FormState.from_stored,
        FormState(),
        what=_WHAT,
        instead="the form for a new run starts with the defaults",
    )


def save_form(state: FormState, path: Path | None = None) -> None:
    """StorageProblem when it cannot be written."""
    write_object(path or paths.training_form_file(), state.to_json(), _WHAT)
