"""RunFolder: a training run on disk, which is all that the window and the run itself share.

    recipe.toml     the recipe, complete
    chosen.toml     the recipe that the run was started with, where the window chose it; read once
    run.json        what does not change: format, folder of pictures, when it was made
    events.jsonl    one object a line, appended as things happen
    control.json    what a person asks of it: {"format": 1, "command": "run" | "pause" | "stop"}
    samples/        00000500-ema.png and 00000500-raw.png, grids of `columns` by `rows`
    checkpoints/    00000500.safetensors; latest.safetensors is the newest EMA
    tokenizer.json  the words learnt from its captions
    state.pt        what resuming needs, replaced whole
    log.txt         the process's own standard error
    run.lock        held by the one process that works on the run

Reading imports no torch. A process killed at any moment leaves at worst one unfinished last line, which is passed over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, get_type_hints

from filelock import FileLock, Timeout

from diffstudio.atomic import write_text
from diffstudio.errors import RunProblem, StorageProblem
from diffstudio.training.recipe import Recipe, read_recipe

FORMAT = 1


class Command(StrEnum):
    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"  # at the next step boundary, after writing a checkpoint; can be resumed


class Status(StrEnum):
    """What a run is doing, told from its last events and whether its process lives."""

    STARTING = "starting"
    TRAINING = "training"
    WAITING = "waiting"  # for the accelerator, while pictures are made
    PAUSED = "paused"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its process is gone without a word: killed, or the machine went down


@dataclass(frozen=True, slots=True)
class RunPreparing:
    """Before RunStarted, about twice a second: so many pictures are decoded. Not said when they were already."""

    event: ClassVar[str] = "preparing"
    step: int  # 0, or about where it resumes
    done: int
    images: int


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Once for every process that works on the run; `step` is 0, or where it resumed."""

    event: ClassVar[str] = "started"
    step: int
    steps: int
    pid: int
    parameters: int
    images: int
    held_out: int
    device: str
    dtype: str
    threads: int
    why: str  # the choices made for this machine, in a sentence


@dataclass(frozen=True, slots=True)
class RunStep:
    """About once a second, not for every step: the mean over the steps since the last one."""

    event: ClassVar[str] = "step"
    step: int
    steps: int
    images_seen: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    elapsed_seconds: float  # of training, pauses and earlier processes included and excluded respectively
    left_seconds: float


@dataclass(frozen=True, slots=True)
class RunHeldOut:
    event: ClassVar[str] = "held_out"
    step: int
    loss: float  # of the EMA weights on the pictures kept apart, fixed noise


@dataclass(frozen=True, slots=True)
class RunSamples:
    event: ClassVar[str] = "samples"
    step: int
    ema: str  # paths inside the run folder
    raw: str
    columns: int
    rows: int
    size: int  # px a side of one sample
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunCheckpoint:
    event: ClassVar[str] = "checkpoint"
    step: int
    path: str  # inside the run folder


@dataclass(frozen=True, slots=True)
class RunPaused:
    event: ClassVar[str] = "paused"
    step: int


@dataclass(frozen=True, slots=True)
class RunResumed:
    """After a pause or a wait, in the same process."""

    event: ClassVar[str] = "resumed"
    step: int


@dataclass(frozen=True, slots=True)
class RunWaiting:
    """The accelerator was given up for pictures."""

    event: ClassVar[str] = "waiting"
    step: int


@dataclass(frozen=True, slots=True)
class RunStopped:
    event: ClassVar[str] = "stopped"
    step: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    event: ClassVar[str] = "finished"
    step: int
    checkpoint: str
    learned: bool  # the held-out (or training) loss ended clearly below that of a network that knows nothing
    verdict: str  # the sentence to show


@dataclass(frozen=True, slots=True)
class RunFailed:
    event: ClassVar[str] = "failed"
    step: int
    why: str


RunEvent: TypeAlias = (
    RunPreparing
    | RunStarted
    | RunStep
    | RunHeldOut
    | RunSamples
    | RunCheckpoint
    | RunPaused
    | RunResumed
    | RunWaiting
    | RunStopped
    | RunFinished
    | RunFailed
)
_KINDS: dict[str, type[Any]] = {
    kind.event: kind
    for kind in (
        RunPreparing,
        RunStarted,
        RunStep,
        RunHeldOut,
        RunSamples,
        RunCheckpoint,
        RunPaused,
        RunResumed,
        RunWaiting,
        RunStopped,
        RunFinished,
        RunFailed,
    )
}
# Keys of events.jsonl where they differ from the names of the fields
_JSON_KEYS = {"images": "pictures", "images_seen": "pictures_seen", "images_per_second": "pictures_per_second"}


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path

    @classmethod
    def create(cls, path: Path, recipe: Recipe, image_folder: Path) -> RunFolder:
        """A new run. RunProblem when a run is there already, StorageProblem when the place cannot be written to."""
        run = cls(path)
        if run.recipe_file.exists():
            raise RunProblem(f"There is a run in {path} already", remedy="Resume it, or choose another folder")
        try:
            for folder in (path / "samples", path / "checkpoints"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageProblem(
                f"The run folder {path} cannot be written",
                error.strerror or str(error),
                "Choose another place or free some space",
            ) from error
        run._write_json("run.json", {"format": FORMAT, "pictures": str(image_folder.resolve()), "created": time.time()})
        if not (path / "control.json").exists():  # what was asked while it was prepared counts
            run.send(Command.RUN)
        recipe.write(run.recipe_file)  # last: a folder without it is no run yet
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run that is there. RunProblem when it is not, is damaged, or comes from a newer program."""
        run = cls(path)
        if not run.recipe_file.is_file() or not (path / "run.json").is_file():
            raise RunProblem(f"There is no training run in {path}", remedy="Start one with `diffstudio train FOLDER`")
        run.info()
        return run

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def chosen_recipe_file(self) -> Path:
        return self.path / "chosen.toml"

    @property
    def state_file(self) -> Path:
        return self.path / "state.pt"

    @property
    def tokenizer_file(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def latest_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "latest.safetensors"

    def recipe(self) -> Recipe:
        return read_recipe(self.recipe_file)

    def info(self) -> dict[str, Any]:
        """`pictures` (the folder trained on) and `created` (seconds since the epoch).

        RunProblem when the file that says so is damaged or comes from a newer program.
        """
        values = self._read_json("run.json")
        written = values.get("format")
        if not isinstance(written, int):
            raise RunProblem(f"run.json of the run {self.name} is damaged", "it names no format")
        if written > FORMAT:
            raise RunProblem(
                f"The run {self.name} is of format {written}", f"this program reads up to {FORMAT}", "Update diffstudio"
            )
        return values

    def append(self, event: RunEvent) -> None:
        """StorageProblem when it cannot be written: the events before it stay."""
        values = {_JSON_KEYS.get(name, name): value for name, value in asdict(event).items()}
        line = json.dumps({"format": FORMAT, "event": event.event, "at": time.time()} | values, ensure_ascii=False)
        try:
            with (self.path / "events.jsonl").open("a", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
                if file.tell() and not self._ends_with_newline():
                    file.write("\n")  # a process was killed in the middle of a line
                file.write(line + "\n")
        except OSError as error:
            raise StorageProblem(
                f"{self.path / 'events.jsonl'} cannot be written",
                error.strerror or str(error),
                "Free some space, then resume the run",
            ) from error

    def events(self, offset: int = 0) -> tuple[list[RunEvent], int]:
        """The whole lines from byte `offset` on, and the offset after them: call again with it for what is new.

        Lines that are not an event this program knows are passed over.
        """
        try:
            with (self.path / "events.jsonl").open("rb") as file:
                file.seek(offset)
                data = file.read()
        except OSError:  # not begun yet, or deleted while it was watched
            return [], 0
        whole = data[: data.rfind(b"\n") + 1]
        return list(_parse_events(whole)), offset + len(whole)

    def send(self, command: Command) -> None:
        self._write_json("control.json", {"format": FORMAT, "command": str(command)})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Around the work of the one process that writes this run; the system lets go when that is killed.

        RunProblem when another process works on it, StorageProblem when the place cannot be written to.
        """
        lock = FileLock(self.path / "run.lock", thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunProblem(
                f"The run {self.name} is being trained already",
                "another process works on it",
                "Wait until it ends, or stop it first",
            ) from None
        except OSError as error:
            raise StorageProblem(
                f"The run folder {self.path} cannot be written",
                error.strerror or str(error),
                "Free some space or allow writing there",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def command(self) -> Command:
        try:
            return Command(self._read_json("control.json")["command"])
        except (RunProblem, KeyError, ValueError):
            return Command.RUN

    def _ends_with_newline(self) -> bool:
        with (self.path / "events.jsonl").open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunProblem(f"{name} of the run {self.name} cannot be read", str(error)) from error
        if not isinstance(value, dict):
            raise RunProblem(f"{name} of the run {self.name} is not a table")
        return value

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        write_text(self.path / name, json.dumps(value))


def _parse_events(lines: bytes) -> Iterator[RunEvent]:
    for line in lines.splitlines():
        try:
            values = json.loads(line)
            kind = _KINDS[values["event"]]
            if values["format"] > FORMAT:
                continue
            yield kind(
                **{
                    name: _checked_value(hint, values[_JSON_KEYS.get(name, name)])
                    for name, hint in _field_types(kind.event).items()
                }
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue


@cache
def _field_types(event: str) -> dict[str, Any]:
    """The types of an event's values by their names."""
    hints = get_type_hints(_KINDS[event])
    return {field.name: hints[field.name] for field in fields(_KINDS[event])}


def _checked_value(hint: Any, value: Any) -> Any:
    """The value as the event holds it. TypeError when JSON holds something else there."""
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    if hint == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise TypeError(f"{value!r} is no {hint}")
