"""RunFolder: the folder of a training run, through which the run's process and the window communicate.

    recipe.toml     the complete recipe
    chosen.toml     the recipe chosen in the window, which the process reads when it starts
    run.json        what never changes: format, folder of images, time of creation
    events.jsonl    one JSON object per line, appended as things happen: see `events`
    control.json    {"format": 1, "command": "run" | "pause" | "stop", "sample": 2, "save": 1, "prompts": [...]}, written
                    by the window: samples and saves are asked for by counting up; prompts of the sample sheets
    samples/        00000500-ema.png and 00000500-raw.png, grids of `columns` by `rows`
    checkpoints/    00000500.safetensors, with EMA weights; latest.safetensors is a copy of the best by its held-out loss,
                    or of the newest without one
    dataset.json    what was trained on: images, captions, classes, which are held out
    folder.json     the report on the folder of images: every file that is left out, and why
    tokenizer.json  trained on the captions
    state.pt        everything that resuming needs; good-state.pt: what the run goes back to if it diverges
    splits.pt       the networks of a cross-validation, until it has chosen the steps of the run
    tensorboard/    the events in TensorBoard's format
    log.txt         the process's standard error
    run.lock        locked by the process that trains the run
    process.json    the process that the window started last, and process.lock, which that process locks

Reading needs no torch. A process that is killed leaves at most one incomplete last line in events.jsonl, which is
skipped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import FREE_SPACE_OR_FOLDER, NOT_A_JSON_OBJECT, RunProblem, newer_format, why_unreadable
from diffstudio.models.recommended import DEFAULTS_OF_0_1
from diffstudio.storage_errors import storage_problem
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.recipe import read_table
from diffstudio.training.run.events import RunEvent, event_line, parse_events

RESUME_WITH_SPACE = "Free some space, then resume the run"
FORMAT = 1
CONTROL = "control.json"
_LOOKED_AT_SECONDS = 0.5  # far longer than another process takes that only looks whether the lock is held
_LATEST_TIME = 1e11  # seconds since the epoch; what is later is damage


_log = logging.getLogger(__name__)


class Command(StrEnum):
    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"  # after the current step; writes a checkpoint, and can be resumed


class RunRequest(StrEnum):
    """What a run's process can be asked for while it trains."""

    SAMPLE = "sample"
    SAVE = "save"


class Status(StrEnum):
    """What a run is doing, judged by its last events and whether its process is alive."""

    STARTING = "starting"
    TRAINING = "training"
    WAITING = "waiting"  # for the accelerator, while images are generated
    PAUSED = "paused"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its process ended without an event: killed, or the machine crashed


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path

    @classmethod
    def create(cls, path: Path, recipe: Recipe, image_folder: Path) -> RunFolder:
        """A new run. RunProblem when the folder already holds one, StorageProblem when it cannot be written."""
        run = cls(path)
        if run.recipe_file.exists():
            raise RunProblem(already_a_run(path), remedy="Resume it, or choose another folder")
        try:
            for folder in (path / "samples", path / "checkpoints"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_problem(not_writable(path), path, error, when_full=FREE_SPACE_OR_FOLDER) from error
        run._write_json(
            "run.json", {"format": FORMAT, "pictures": str(image_folder.resolve()), "created": creation_time(path)}
        )
        if not (path / CONTROL).exists():  # a command sent during the setup counts
            run.send(Command.RUN)
        recipe.write(run.recipe_file)  # last: a folder without it is not a run yet
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run. RunProblem if the folder holds no run, it is damaged, or a newer version of the program wrote it."""
        run = cls(path)
        if not paths.is_run(path):
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
    def good_state_file(self) -> Path:
        """The state that the run goes back to if it diverges."""
        return self.path / "good-state.pt"

    @property
    def splits_file(self) -> Path:
        """The state of the networks of a cross-validation, until it has chosen the steps of the run."""
        return self.path / "splits.pt"

    @property
    def dataset_file(self) -> Path:
        return self.path / "dataset.json"

    @property
    def folder_file(self) -> Path:
        """The report on the folder of images, as `diffstudio train --dry-run --json` prints it."""
        return self.path / "folder.json"

    @property
    def ema_folder(self) -> Path:
        """The snapshots of the averages of post-hoc EMA: `training.power_ema`."""
        return self.path / "ema"

    def checkpoint(self, step: int) -> Path:
        return self.path / "checkpoints" / f"{step:08d}.safetensors"

    @property
    def tokenizer_file(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "run.lock"

    @property
    def latest_checkpoint(self) -> Path:
        return paths.latest_checkpoint(self.path)

    def recipe(self) -> Recipe:
        """The recipe of the run. Version 0.1 named no sampler for its sample sheets: it was Heun, uniformly spaced."""
        values = read_table(self.recipe_file)
        if isinstance(run := values.get("run"), dict):
            run.setdefault("sample_sampler", DEFAULTS_OF_0_1["sampler"])
            run.setdefault("sample_spacing", DEFAULTS_OF_0_1["spacing"])
        return Recipe.from_run(values)

    def move_image_folder(self, folder: Path) -> None:
        """Note that the images are in another folder now. RunProblem, StorageProblem."""
        self._write_json("run.json", self.info() | {"pictures": str(folder.resolve())})

    def info(self) -> dict[str, Any]:
        """`pictures` (the folder trained on) and `created` (seconds since the epoch).

        RunProblem when run.json is damaged or a newer version of the program wrote it.
        """
        values = self._read_json("run.json")
        written = values.get("format")
        if not isinstance(written, int):
            raise RunProblem(self.damaged("run.json"), "its format is missing")
        if written > FORMAT:
            raise newer_format(f"The run {self.name}", written, FORMAT)
        return values

    def append(self, event: RunEvent) -> None:
        """Append an event to events.jsonl. StorageProblem when that fails; earlier events stay."""
        line = event_line(event)
        try:
            with (self.path / "events.jsonl").open("a", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
                if file.tell() and not self._ends_with_newline():
                    file.write("\n")  # a killed process left an incomplete line
                file.write(line + "\n")
        except OSError as error:
            what = f"{self.path / 'events.jsonl'} cannot be written"
            raise storage_problem(what, self.path, error, when_full=RESUME_WITH_SPACE) from error

    def events(self, offset: int = 0) -> tuple[list[RunEvent], int]:
        """The events from byte `offset` on, and the offset after them: pass it to the next call to get new events.

        Incomplete lines and unknown events are skipped.
        """
        try:
            with (self.path / "events.jsonl").open("rb") as file:
                file.seek(offset)
                data = file.read()
        except OSError:  # not written yet, or deleted meanwhile
            return [], 0
        lines = data[: data.rfind(b"\n") + 1]
        return list(parse_events(lines)), offset + len(lines)

    def send(self, command: Command) -> None:
        """Write the command into the control file. StorageProblem when that fails."""
        self._write_json(CONTROL, self._control() | {"format": FORMAT, "command": str(command)})

    def ask_for(self, what: RunRequest, prompts: Sequence[str] | None = None) -> None:
        """Ask the process of the run for samples or a checkpoint at its next step. StorageProblem.

        `prompts` are those of all sample sheets from now on; none for those of the recipe.
        """
        values = self._control()
        if prompts is not None:
            values["prompts"] = list(prompts)
        count = values.get(what)
        self._write_json(CONTROL, values | {str(what): count + 1 if isinstance(count, int) else 1})

    def asked(self) -> dict[RunRequest, int]:
        """How often the process was asked for each of these."""
        values = self._control()
        return {what: count if isinstance(count := values.get(what), int) else 0 for what in RunRequest}

    def prompts(self) -> tuple[str, ...]:
        """The prompts of the sample sheets that were set while it runs; empty for those of the recipe."""
        prompts = self._control().get("prompts")
        return tuple(text for text in prompts if isinstance(text, str)) if isinstance(prompts, list) else ()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the process that trains the run; the system releases it when the process is killed.

        RunProblem when another process holds it, StorageProblem when the folder cannot be written.
        """
        lock = FileLock(self.lock_file, thread_local=False)
        try:
            lock.acquire(timeout=_LOOKED_AT_SECONDS)
        except Timeout:
            raise RunProblem(
                f"The run {self.name} is already being trained",
                "another process is training it",
                "Wait until it ends, or stop it",
            ) from None
        except OSError as error:
            when_full = "Free some space, or make the folder writable"
            raise storage_problem(not_writable(self.path), self.path, error, when_full=when_full) from error
        try:
            yield
        finally:
            lock.release()

    def command(self) -> Command:
        """The command in the control file; RUN without one, and where it is damaged, which the log says."""
        command = self._control().get("command", Command.RUN)
        try:
            return Command(command)
        except ValueError:
            _log_once(self.path, f"{self.damaged(CONTROL)}: “{command!s:.80}” is no command")
            return Command.RUN

    def _control(self) -> dict[str, Any]:
        try:
            return self._read_json(CONTROL)
        except RunProblem as problem:
            if not isinstance(problem.__cause__, FileNotFoundError):
                _log_once(self.path, str(problem))
            return {"format": FORMAT}

    def _ends_with_newline(self) -> bool:
        with (self.path / "events.jsonl").open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"

    def damaged(self, name: str) -> str:
        return f"{name} of the run {self.name} is damaged"

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunProblem(f"{name} of the run {self.name} cannot be read", why_unreadable(error)) from error
        if not isinstance(value, dict):
            raise RunProblem(self.damaged(name), NOT_A_JSON_OBJECT)
        return value

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        write_text(self.path / name, json.dumps(value))


@cache
def _log_once(run: Path, damage: str) -> None:
    """In each process: the control file is read several times a second."""
    _log.warning("%s. The work goes on as without a command.", damage.rstrip("."))


def creation_time(run: Path) -> float:
    """The time now, in seconds since the epoch, but after the creation of every run beside this one.

    Runs are listed by it, and the clock may have been set back since the last one was created.
    """
    newest = 0.0
    for file in (*run.parent.glob("*/run.json"), *run.parent.glob("*/process.json")):
        with suppress(OSError, ValueError, TypeError, RecursionError):
            values = json.loads(file.read_text(encoding="utf-8"))
            time_of_it = values.get("created", values.get("born")) if isinstance(values, dict) else None
            if isinstance(time_of_it, int | float) and newest < time_of_it < _LATEST_TIME:
                newest = time_of_it
    return max(time.time(), newest + 0.001)


def already_a_run(path: Path) -> str:
    return f"There is already a run in {path}"


def not_writable(path: Path) -> str:
    return f"The run folder {path} cannot be written"
