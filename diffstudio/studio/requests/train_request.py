"""TrainRequest: a training run in a process of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffstudio.errors import CHOOSE_IMAGE_FOLDER, NO_FOLDER, BadRequest
from diffstudio.studio.requests.checks import check_steps, check_types, shown
from diffstudio.studio.requests.json_values import FORMAT, created, known_values, with_paths
from diffstudio.training.distributed.cluster import PORT, Cluster


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """Train on a folder of images, in a separate process that writes into the folder `run`."""

    folder: Path | None  # None only when a run is resumed
    recipe: str = "auto"  # a recipe's name, the path of a .toml, or `auto`: chosen from what the folder holds
    run: Path | None = None  # None for a new folder below paths.runs()
    steps: int | None = None  # None for the recipe's
    minutes: float | None = None  # a time budget, in place of steps
    resume: bool = False  # with steps or minutes: train for so much longer; with a folder: its images are there now
    start_from: str | None = (
        None  # a checkpoint's path, an included one's name or `none`; None for what the recipe says
    )
    processes: int = 1  # on this machine; 0: one for each GPU
    machines: int = 1  # together with those that join
    port: int = PORT  # where they join

    def __post_init__(self) -> None:
        check_types(self)
        if self.steps is not None and self.minutes is not None:
            raise BadRequest("Both steps and minutes were given", remedy="Give one of them")
        if self.steps is not None:
            check_steps(self.steps, 100_000_000)
        if self.minutes is not None and not 0 < self.minutes < 1e6:
            raise BadRequest(
                f"The time to train is {shown(self.minutes)} minutes", "it must be more than 0 and less than a million"
            )
        if self.folder is None and not self.resume:
            raise BadRequest(NO_FOLDER, remedy=CHOOSE_IMAGE_FOLDER)
        Cluster(self.processes, self.machines, self.port)  # checks its limits

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.processes, self.machines, self.port)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"format": FORMAT, "kind": "train"}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainRequest:
        return created(cls, with_paths(known_values(cls, values), "folder", "run"))
