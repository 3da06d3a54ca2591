"""Events and commands before the first step of a run; it can be stopped at each stage and resumed."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.cli.terminal import stop_signals
from diffstudio.errors import Interrupted, RunProblem
from diffstudio.imaging.value_range import SampleType
from diffstudio.training.data.folder_report import RangeInFolder
from diffstudio.training.loop import train
from diffstudio.training.recipe import Recipe, RunRecipe
from diffstudio.training.run import setup
from diffstudio.training.run.events import RunEvent, RunFinished, RunPaused, RunPreparing, RunResumed, RunStarted
from diffstudio.training.run.run_folder import Command, RunFolder
from diffstudio.training.run.setup_progress import SetupProgress
from tests.training.test_loop import assert_same


def test_decoding_is_told_as_a_count_once(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", folder, recipe=recipe_file)
    preparing = [event for event in run.events()[0] if isinstance(event, RunPreparing)]
    assert preparing[-1] == RunPreparing(0, 24, 24)
    assert run.events()[0].index(preparing[-1]) < [type(event) for event in run.events()[0]].index(RunStarted)
    again = train(tmp_path / "again", folder, recipe=recipe_file)  # from the cache
    assert not [event for event in again.events()[0] if isinstance(event, RunPreparing)]


def test_a_pause_holds_the_setup_until_it_is_resumed(tmp_path: Path) -> None:
    run, message = RunFolder(tmp_path), list[RunEvent]()
    run.send(Command.PAUSE)
    paused = threading.Event()

    def say(event: RunEvent) -> None:
        message.append(event)
        if isinstance(event, RunPaused):
            paused.set()

    progress = SetupProgress(run, say, lambda: False, step=7)
    waiting = threading.Thread(target=progress.raise_if_stopped)
    waiting.start()
    assert paused.wait(30)
    run.send(Command.RUN)
    waiting.join(30)
    assert not waiting.is_alive()
    assert message == [RunPaused(7), RunResumed(7)]


@pytest.mark.parametrize("how", ["control", "cancelled"])
def test_a_paused_setup_can_be_stopped(tmp_path: Path, how: str) -> None:
    run, ended = RunFolder(tmp_path), threading.Event()
    run.send(Command.PAUSE)

    def say(event: RunEvent) -> None:
        if how == "control":
            run.send(Command.STOP)
        else:
            ended.set()

    with pytest.raises(Interrupted):
        SetupProgress(run, say, ended.is_set).raise_if_stopped()


def test_a_stop_in_the_control_file_ends_decoding_within_a_picture_and_leaves_nothing(
    folder: Path, recipe_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, counted = tmp_path / "run", list[int]()
    monkeypatch.setattr("diffstudio.training.run.setup_progress.POLL_SECONDS", 0)
    before = SetupProgress.decoded

    def decoded(self: SetupProgress, done: int, images: int) -> None:
        before(self, done, images)
        counted.append(done)
        if done == 5:
            RunFolder(path).send(Command.STOP)

    monkeypatch.setattr(SetupProgress, "decoded", decoded)
    with pytest.raises(Interrupted):
        train(path, folder, recipe=recipe_file)
    assert counted == [1, 2, 3, 4, 5]
    assert not path.exists()
    assert not list(tmp_path.rglob("*.part"))


# Signals at each stage: the place in the code at which one arrives, and how many times it is passed before that

STAGES = {
    "inspection": ("diffstudio.training.data.inspect_folder._read", 3),
    "decoding": ("diffstudio.training.data.image_cache.prepare_image", 3),
    "measuring": ("diffstudio.training.trainer.Trainer.step", 2),
    "first steps": ("diffstudio.training.trainer.Trainer.step", 1),
    "writing a checkpoint": ("diffstudio.training.run.checkpoints.checkpointing.Checkpointer.save_checkpoint", 1),
}


def strike(monkeypatch: pytest.MonkeyPatch, place: str, times: int, number: signal.Signals) -> None:
    """The process gets the signal the moment it comes to that place for that time, from the main thread or another."""
    import importlib

    names = place.split(".")
    module_name = ".".join(names[:3])
    owner = importlib.import_module(module_name)
    for name in names[3:-1]:
        owner = getattr(owner, name)
    before: Callable[..., object] = getattr(owner, names[-1])
    lock, passed = threading.Lock(), [0]

    def struck(*arguments: object, **options: object) -> object:
        with lock:
            passed[0] += 1
            now = passed[0] == times
        if now:
            signal.raise_signal(number)
        return before(*arguments, **options)

    monkeypatch.setattr(owner, names[-1], struck)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_at_any_stage_ends_it_cleanly_and_it_goes_on_as_if_nothing_had_been(
    stage: str,
    number: signal.Signals,
    folder: Path,
    recipe: Recipe,
    recipe_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diffstudio import paths

    path = tmp_path / "run"
    if stage == "measuring":  # which data type is faster
        measured = replace(recipe, run=replace(recipe.run, dtype="auto"))
        measured.write(Path(recipe_file))
        monkeypatch.setattr("diffstudio.training.preparation.machine_speed._HOPELESS", float("inf"))
    with monkeypatch.context() as struck:
        strike(struck, *STAGES[stage], number)

        def ask_to_stop() -> None:
            if (path / "control.json").exists():
                RunFolder(path).send(Command.STOP)

        with stop_signals(ask_to_stop) as stop:
            try:
                train(path, folder, recipe=recipe_file, cancelled=lambda: stop.requested)
                begun = True
            except Interrupted:
                begun = False
            assert stop.requested
    assert begun == (stage in ("first steps", "writing a checkpoint"))
    assert not list(tmp_path.rglob("*.part")) and not list(paths.cache().rglob("*.part"))
    assert path.exists() == begun
    resumed = train(path, resume=True) if begun else train(path, folder, recipe=recipe_file)
    assert isinstance(resumed.events()[0][-1], RunFinished)
    assert_same(train(tmp_path / "whole", folder, recipe=recipe_file), resumed)


@pytest.mark.parametrize(
    ("steps", "sheets"), [(160, [54, 108, 160]), (20, [7, 14, 20]), (1200, [250, 500, 750, 1000, 1200])]
)
def test_a_short_run_is_seen_on_its_way(steps: int, sheets: list[int]) -> None:
    lasted = setup.with_steps(RunRecipe(sample_every=250, checkpoint_every=250, held_out_every=125), steps)
    assert [step for step in range(1, steps + 1) if step % lasted.sample_every == 0 or step == steps] == sheets
    assert lasted.held_out_every <= lasted.checkpoint_every == lasted.sample_every


def test_a_run_that_cannot_be_made_leaves_no_folder_above_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[data]\nsize = 33\n")
    with pytest.raises(RunProblem, match="not a multiple"):
        train(tmp_path / "not" / "yet" / "run", folder, recipe=str(tmp_path / "wrong.toml"), steps=1)
    assert not (tmp_path / "not").exists()


def test_the_ranges_of_deep_images_are_kept_with_the_run(folder: Path, recipe_file: str, tmp_path: Path) -> None:
    """A later file of another range changes nothing: the run's own recipe has the range."""
    recipe = setup.Recipe()
    report = replace(
        setup.finish_inspection(folder, SetupProgress(RunFolder(tmp_path / "run"), lambda event: None, lambda: False)),
        ranges=(RangeInFolder(SampleType.UINT16, 0.0, 4095.0, (Path("a.png"),)),),
    )
    kept = setup._with_pixels(recipe, report)
    assert kept.data.ranges.as_mapping() == {SampleType.UINT16: (0.0, 4095.0)}
    wider = replace(report, ranges=(RangeInFolder(SampleType.UINT16, 0.0, 65535.0, (Path("a.png"),)),))
    assert setup._with_pixels(kept, wider) == kept
