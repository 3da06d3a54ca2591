"""Runs: the training runs in one folder. Starts each in its own process, finds them again, and reports their status.

A run outlives the window that started it, so all of its state is in its folder: its events
(`training.run.run_folder`), and the process last started for it (`process.json`). No torch is imported here.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffstudio.errors import (
    CHOOSE_IMAGE_FOLDER,
    FREE_SPACE_OR_FOLDER,
    NO_FOLDER,
    DiffstudioError,
    RunProblem,
    StorageProblem,
)
from diffstudio.storage_errors import storage_problem
from diffstudio.studio.requests import TrainRequest
from diffstudio.studio.runs.process import LOCK, Detached, Launch, read_launch, start_detached, terminate, write_launch
from diffstudio.studio.runs.status import ALIVE, RunProgress, find_process, modified, size_of, status_of, waiting_text
from diffstudio.studio.system_trash import move_to_system_trash
from diffstudio.training.distributed.cluster import ALL_DEVICES
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import RecipeChoice, read_choice
from diffstudio.training.run.run_folder import Command, RunFolder, RunRequest, Status, creation_time

LONGEST_NAME = 60  # characters of a run's folder name


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run's state for display. Numbers are None until the run has reported them."""

    run: RunFolder
    status: Status
    step: int = 0
    steps: int = 0
    loss: float | None = None
    held_out: float | None = None
    images_seen: int = 0
    images_per_second: float | None = None
    left_seconds: float | None = None
    pid: int | None = None  # of its process while it is running, if it is known
    verdict: str = ""  # how it ended, in a sentence; empty while it is running
    learned: bool | None = None  # of a finished run
    outcome: str = ""  # what was learned so far, a value of Outcome; empty until that is judged
    evidence: tuple[str, ...] = ()  # for the outcome, in sentences
    best_step: int | None = None  # with the lowest held-out loss, or chosen by images at the end
    progress: float | None = None  # the share of its steps or its time that is done, 0 to 1
    waiting: str = ""  # what it waits for, while it waits: `waiting for 1 more machine`
    join_command: str = ""  # while it waits for machines: to enter on each of them
    image_folder: Path | None = None  # of its training images
    compared: float | None = None  # the share of the images that choose a checkpoint at the end, 0 to 1
    prepared: float | None = None  # the share of its images that is decoded, 0 to 1, during preparation
    created: float = 0.0  # seconds since the epoch; later for each new run, however the clock was set
    checkpoint: Path | None = None  # the newest one to generate from, once it exists
    folds: int = 0  # networks of the cross-validation that goes on; 0: none does

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def alive(self) -> bool:
        return self.status in ALIVE

    @property
    def fraction(self) -> float:
        """How much of the run is done, 0 to 1; of the comparison of its checkpoints, while that goes on."""
        if self.status is Status.FINISHED:
            return 1.0
        if self.compared is not None:
            return self.compared
        if self.progress is not None:
            return min(1.0, max(0.0, self.progress))
        return min(1.0, self.step / self.steps) if self.steps > 0 else 0.0


class Runs:
    """The runs below one folder. All methods may be called from any thread; they read only events that are new."""

    def __init__(self, folder: Path, *, command: Sequence[str] = (sys.executable, "-m", "diffstudio")) -> None:
        self.folder = folder
        self._command = tuple(command)
        self._progress: dict[Path, RunProgress] = {}
        self._children: list[Detached] = []
        self._lock = threading.RLock()

    def start(self, request: TrainRequest, choice: RecipeChoice | None = None, *, name: str = "") -> RunFolder:
        """Start a new run in its own process or, with `resume`, continue the one in `request.run`.

        `choice` is the recipe to train with; without one the process chooses by `request.recipe`. `name` is the run's
        name if the request gives no folder for it; by default it is named after its image folder. StorageProblem when
        its folder cannot be created, RunProblem when the process cannot be started.
        """
        if request.resume:
            if request.run is None:
                raise RunProblem("No run to resume was given")
            return self._resumed(RunFolder.open(request.run), None)
        if request.folder is None:
            raise RunProblem(NO_FOLDER, remedy=CHOOSE_IMAGE_FOLDER)
        run = RunFolder(self._new_folder(request.run, name or request.folder.resolve().name))
        if choice is not None:
            choice.write(run.chosen_recipe_file)
            request = replace(request, recipe=str(run.chosen_recipe_file))
        arguments = ["train", str(request.folder), "--recipe", request.recipe, "--run", str(run.path)]
        if request.minutes is not None:
            arguments += ["--minutes", f"{request.minutes:g}"]
        if request.steps is not None:
            arguments += ["--steps", str(request.steps)]
        if request.start_from is not None and choice is None:  # a recipe that was chosen says what it starts from
            arguments += ["--from", request.start_from]
        arguments += _cluster_arguments(request)
        self._launch(run, arguments, request)
        return run

    def list(self) -> list[RunSummary]:
        """All runs in the folder, newest first. StorageProblem when it cannot be read."""
        try:
            folders = [path for path in self.folder.iterdir() if path.is_dir()]
        except FileNotFoundError:  # not created yet, or deleted
            return []
        except OSError as error:
            raise StorageProblem(
                f"The training runs in {self.folder} cannot be read",
                error.strerror or str(error),
                "Check the folder's permissions, and that its drive is connected",
            ) from error
        with self._lock:
            self._reap()
            summaries = [self.summary(RunFolder(path)) for path in folders if _is_run(path)]
        return sorted(summaries, key=lambda summary: (-summary.created, summary.name))

    def summary(self, run: RunFolder) -> RunSummary:
        """The state of one run, from its events and its process."""
        with self._lock:
            progress = self._progress.get(run.path)
            if progress is None or progress.is_stale(run):
                progress = self._progress[run.path] = RunProgress()
            progress.read(run)
            launch = read_launch(run.path)
            running, pid = find_process(run, progress, launch)
            status, verdict = status_of(run, progress, launch, running)
            latest = run.latest_checkpoint
            waiting = progress.waiting if status is Status.WAITING else None
            return RunSummary(
                run=run,
                status=status,
                step=progress.step,
                steps=progress.steps,
                loss=progress.loss,
                held_out=progress.held_out,
                images_seen=progress.images_seen,
                images_per_second=progress.images_per_second,
                left_seconds=progress.left_seconds if status in ALIVE and progress.compared is None else None,
                pid=pid,
                verdict=verdict,
                learned=progress.learned if status is Status.FINISHED else None,
                outcome=progress.outcome,
                evidence=progress.evidence,
                best_step=progress.best_step,
                progress=progress.progress,
                waiting=waiting_text(waiting.holder, waiting.machines) if waiting is not None else "",
                join_command=waiting.join_command if waiting is not None else "",
                image_folder=_image_folder(run, launch),
                prepared=progress.prepared if status is Status.STARTING else None,
                compared=progress.compared if status in ALIVE else None,
                created=_created(run, launch),
                checkpoint=latest if latest.is_file() else None,
                folds=progress.folds,
            )

    def pause(self, run: RunFolder) -> None:
        """Pause the run at its next step. Does nothing if it is not running."""
        if self.summary(run).alive:
            _send(run, Command.PAUSE)

    def resume(self, run: RunFolder, folder: Path | None = None) -> None:
        """Resume a paused run; restart a stopped or interrupted one from its last checkpoint.

        `folder`: where its images are now, if they were moved.
        """
        if self.summary(run).status is Status.PAUSED:  # it may have no recipe file yet, which RunFolder.open needs
            _send(run, Command.RUN)
        else:
            self._resumed(RunFolder.open(run.path), folder)

    def train_longer(
        self, run: RunFolder, *, steps: int | None = None, minutes: float | None = None, folder: Path | None = None
    ) -> None:
        """Train a finished or stopped run for so many more steps or minutes; `folder` as in `resume`.

        RunProblem while it is running.
        """
        with self._lock:
            if self.summary(run).alive:
                raise RunProblem(f"The run {run.name} is running", remedy="Wait until it ends, or stop it first")
            length = ["--steps", str(steps)] if steps is not None else ["--minutes", f"{minutes or 0:g}"]
            _send(run, Command.RUN)
            arguments = ["train", "--continue", str(run.path), *length, *_moved_to(folder), *_on_this_machine(run)]
            self._launch(run, arguments, None)

    def sample_now(self, run: RunFolder, prompts: Sequence[str] | None = None) -> None:
        """Have the run draw a sample sheet at its next step; `prompts` are those of its sheets from then on.

        Does nothing if it is not running. StorageProblem.
        """
        self._ask(run, RunRequest.SAMPLE, prompts)

    def save_now(self, run: RunFolder) -> None:
        """Have the run write a checkpoint at its next step. Does nothing if it is not running. StorageProblem."""
        self._ask(run, RunRequest.SAVE)

    def _ask(self, run: RunFolder, what: RunRequest, prompts: Sequence[str] | None = None) -> None:
        if self.summary(run).alive:
            with _sending(run, what):
                run.ask_for(what, prompts)

    def stop(self, run: RunFolder) -> None:
        """Stop the run at its next step, keeping its checkpoints."""
        with self._lock:
            summary = self.summary(run)
            launch = read_launch(run.path)
            if not summary.alive:
                return
            preparing = summary.status is Status.STARTING or not run.recipe_file.is_file()
            if preparing and launch is not None and launch.pid == summary.pid:
                write_launch(run.path, replace(launch, stopped=True))  # it may not have read its control file yet
                terminate(launch.pid)
            else:
                _send(run, Command.STOP)

    def remove(self, run: RunFolder) -> None:
        """Move the run's folder with its checkpoints to the system trash; the training images stay.

        RunProblem while it is running, StorageProblem when moving it fails. May take as long as copying.
        """
        with self._lock:
            if self.summary(run).alive:
                raise RunProblem(f"The run {run.name} is still running", remedy="Stop it first, then remove it")
            with run.locked():  # raises RunProblem if a process has it open that has not written an event yet
                pass
        move_to_system_trash(run.path, f"The run {run.name} could not be moved to the trash")
        with self._lock:
            self._progress.pop(run.path, None)

    def again(self, run: RunFolder) -> RunFolder:
        """Start a new run with the request of a failed one. RunProblem when that is unknown."""
        launch = read_launch(run.path)
        if launch is None or not launch.request:
            raise RunProblem(
                f"The settings of the run {run.name} are unknown", remedy="Choose its image folder and start a new run"
            )
        request = TrainRequest.from_json(launch.request | {"run": None, "resume": False})
        choice = read_choice(run.chosen_recipe_file) if run.chosen_recipe_file.is_file() else None
        return self.start(request, choice, name=run.name)

    def images_per_second(self, recipe: Recipe) -> float | None:
        """The throughput that the newest run of the same network, size and batch measured here; None without such a run."""
        for summary in self.list():
            if not summary.images_per_second:
                continue
            with contextlib.suppress(DiffstudioError):
                other = summary.run.recipe()
                network = replace(recipe.network, text_tokens=other.network.text_tokens)  # set when a run starts
                measured = other.network, other.upper, other.data.size, other.run.batch
                if measured == (network, recipe.upper, recipe.data.size, recipe.run.batch):
                    return summary.images_per_second
        return None

    def _resumed(self, run: RunFolder, folder: Path | None) -> RunFolder:
        with self._lock:
            summary = self.summary(run)
            if summary.status is Status.FINISHED:
                raise RunProblem(f"The run {run.name} is finished", remedy="Train it for longer")
            _send(run, Command.RUN)
            if not summary.alive:
                arguments = ["train", "--resume", "--run", str(run.path), *_moved_to(folder), *_on_this_machine(run)]
                self._launch(run, arguments, None)
        return run

    def _new_folder(self, given: Path | None, name: str) -> Path:
        try:
            if given is not None:
                given.mkdir(parents=True, exist_ok=True)
                return given
            self.folder.mkdir(parents=True, exist_ok=True)
            stem = file_name(name)
            for number in range(1, 10_000):
                path = self.folder / (stem if number == 1 else f"{stem} {number}")
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    return path
        except OSError as error:
            folder = given or self.folder
            what = f"The run folder in {folder} cannot be created"
            raise storage_problem(what, folder, error, when_full=FREE_SPACE_OR_FOLDER) from error
        raise RunProblem(f"There are too many runs called {name}", remedy="Delete some of them, or choose another name")

    def _launch(self, run: RunFolder, arguments: Sequence[str], request: TrainRequest | None) -> None:
        before = read_launch(run.path)
        values = request.to_json() if request is not None else (before.request if before is not None else {})
        offset = size_of(run.path / "events.jsonl")
        try:
            with (run.path / "log.txt").open("ab") as log:
                log_offset = log.tell()
                child = start_detached([*self._command, *arguments], log, run.path / LOCK)
        except OSError as error:
            raise RunProblem(
                "The training process cannot be started",
                error.strerror or str(error),
                "Free some space or memory, then try again",
            ) from error
        with self._lock:
            self._children.append(child)
        with contextlib.suppress(StorageProblem):  # the events contain the pid too
            write_launch(run.path, Launch(child.pid, creation_time(run.path), offset, log_offset, values))

    def _reap(self) -> None:
        """Reap ended children: a zombie would seem to be running to other processes."""
        self._children = [child for child in self._children if child.poll() is None]


def _cluster_arguments(request: TrainRequest) -> list[str]:
    """Those that say on how many devices and machines a run trains; none for one process."""
    cluster, arguments = request.cluster, []
    if cluster.processes != 1:
        arguments += ["--processes", "all" if cluster.processes == ALL_DEVICES else str(cluster.processes)]
    if cluster.machines != 1:
        arguments += ["--machines", str(cluster.machines), "--port", str(cluster.port)]
    return arguments


def _moved_to(folder: Path | None) -> list[str]:
    return [] if folder is None else ["--folder", str(folder)]


def _on_this_machine(run: RunFolder) -> list[str]:
    """A run goes on with the devices of this machine that it started with; other machines are not waited for."""
    launch = read_launch(run.path)
    with contextlib.suppress(DiffstudioError):
        if launch is not None and launch.request:
            return _cluster_arguments(replace(TrainRequest.from_json(launch.request), machines=1))
    return []


def file_name(name: str) -> str:
    """`name` as a file name that is valid on every file system."""
    plain = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', " ", name)
    plain = re.sub(r"\s+", " ", plain)[:LONGEST_NAME].strip(" .")
    return plain or "run"


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.toml").is_file() or (folder / "process.json").is_file()


def _image_folder(run: RunFolder, launch: Launch | None) -> Path | None:
    with contextlib.suppress(DiffstudioError, KeyError, TypeError):
        return Path(run.info()["pictures"])
    folder = launch.request.get("folder") if launch is not None else None
    return Path(folder) if isinstance(folder, str) else None


def _created(run: RunFolder, launch: Launch | None) -> float:
    with contextlib.suppress(DiffstudioError, KeyError, TypeError, ValueError):
        return float(run.info()["created"])
    return launch.born if launch is not None else modified(run.path)


def _send(run: RunFolder, command: Command) -> None:
    with _sending(run, command):
        run.send(command)


@contextlib.contextmanager
def _sending(run: RunFolder, command: Command | RunRequest) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageProblem(
            f"The command to {command} could not be sent to the run {run.name}",
            error.strerror or str(error),
            "Free some space, then try again",
        ) from error
