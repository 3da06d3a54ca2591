"""RunFolder: what is written is read again, by whoever, after whatever happened to the process or to the files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import typing
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffstudio.errors import RunProblem, StorageProblem
from diffstudio.training.recipe import Recipe
from diffstudio.training.run import run_folder
from diffstudio.training.run.events import (
    RunCheckpoint,
    RunCheckpointChosen,
    RunComparing,
    RunCrossValidated,
    RunDiversity,
    RunEarlyDecay,
    RunEarlyStop,
    RunEvent,
    RunFailed,
    RunFinished,
    RunHeldOut,
    RunPaused,
    RunPreparing,
    RunResumed,
    RunRolledBack,
    RunSamples,
    RunStarted,
    RunStep,
    RunStopped,
    RunVerdict,
    RunWaiting,
)
from diffstudio.training.run.run_folder import Command, RunFolder, RunRequest

ONE_OF_EACH: list[RunEvent] = [
    RunPreparing(0, 7, 36),
    RunStarted(0, 100, 4321, 8_500_000, 1792, 36, "cpu", "bfloat16", 2, "bfloat16 measures 1.4 times as fast here"),
    RunStep(10, 100, 640, 0.25, 1.5, 6e-4, 91.0, 7.0, 63.0),
    RunHeldOut(10, 0.24),
    RunHeldOut(10, 0.24, (0.1, 0.5), (0.5, 0.1), 0.2, (0.4, 0.1), True),
    RunHeldOut(5, 0.24, (0.1,), (0.5,), 0.2, (0.4,), True, splits=4, low=0.2, high=0.3),
    RunCrossValidated(0, 4, 16, 5, 100, 0.24, 0.2, 0.3, (5, 10), (0.24, 0.3), "Cross-validated", 0.5),
    RunDiversity(10, 0.9, 4.0, 5.0),
    RunDiversity(10, 0.5, 2.5, 5.0, 16, 0.9, 0.8, 0.3, 0.6, 0.2, 0.8),
    RunVerdict(10, "copying", "These are copies", ("3 of 8",), None, ("a.png",)),
    RunRolledBack(5, 10, 0.5, "The loss is NaN"),
    RunEarlyStop(10, 5, "The held-out loss has risen"),
    RunEarlyDecay(10, 5, "The learning rate falls from now on"),
    RunComparing(10, 32, 512),
    RunCheckpointChosen(10, 5, "The checkpoint of step 5 is kept", (5, 10), (0.2, 0.3), (0, 1), 256),
    RunSamples(
        10, "samples/00000010-ema.png", "samples/00000010-raw.png", 4, 2, 64, ("ein Löwe", "赤いリンゴ", "a\nb\u2028c")
    ),
    RunCheckpoint(10, "checkpoints/00000010.safetensors"),
    RunCheckpoint(10, "checkpoints/00000010.safetensors", 0.24, True),
    RunWaiting(11),
    RunWaiting(11, "training emoji"),
    RunResumed(11),
    RunPaused(12),
    RunResumed(12),
    RunStopped(13),
    RunFailed(14, "The disk is full"),
    RunFinished(100, "checkpoints/latest.safetensors", True, "It learnt"),
]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs" / "first", Recipe(name="mine"), tmp_path)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_new_run_is_complete_and_found_again(run: RunFolder, tmp_path: Path) -> None:
    assert names(run.path) == {"recipe.toml", "run.json", "control.json", "samples", "checkpoints"}
    again = RunFolder.open(run.path)
    assert again == run
    assert again.name == "first"
    assert again.recipe() == Recipe(name="mine")
    assert again.info()["pictures"] == str(tmp_path.resolve())
    assert again.info()["format"] == run_folder.FORMAT
    assert again.command() is Command.RUN
    assert again.events() == ([], 0)


def test_every_kind_of_event_comes_back_as_it_was(run: RunFolder) -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(typing.get_args(RunEvent))
    for event in ONE_OF_EACH:
        run.append(event)
    events, offset = run.events()
    assert events == ONE_OF_EACH
    assert offset == (run.path / "events.jsonl").stat().st_size
    lines = (run.path / "events.jsonl").read_text(encoding="utf-8").split("\n")
    assert all(json.loads(line)["format"] == run_folder.FORMAT for line in lines if line)


def test_lines_without_later_fields_are_read_and_damaged_fields_are_not(run: RunFolder) -> None:
    lines = (
        {"event": "waiting", "step": 3},
        {"event": "waiting", "step": 3, "holder": 7},
        {"event": "held_out", "step": 4, "loss": 0.5, "levels": [0.5, "high"]},
        {"event": "held_out", "step": 5, "loss": 0.5, "training_loss": None, "levels": [1, 0.5]},
        {"event": "held_out", "step": 6},
    )
    text = "".join(json.dumps({"format": 1, "at": 0.0} | line) + "\n" for line in lines)
    (run.path / "events.jsonl").write_text(text, encoding="utf-8")
    assert run.events()[0] == [RunWaiting(3, ""), RunHeldOut(5, 0.5, (1.0, 0.5))]


def test_samples_and_checkpoints_are_asked_for_without_losing_the_command(run: RunFolder) -> None:
    assert run.asked() == {RunRequest.SAMPLE: 0, RunRequest.SAVE: 0} and run.prompts() == ()
    run.send(Command.PAUSE)
    run.ask_for(RunRequest.SAMPLE, ["a red apple", "a boat"])
    run.ask_for(RunRequest.SAMPLE)
    run.ask_for(RunRequest.SAVE)
    run.send(Command.RUN)
    assert run.asked() == {RunRequest.SAMPLE: 2, RunRequest.SAVE: 1} and run.prompts() == ("a red apple", "a boat")
    assert run.command() is Command.RUN
    run.ask_for(RunRequest.SAMPLE, [])
    assert run.prompts() == ()
    (run.path / "control.json").write_text('{"command": 3, "sample": "x", "prompts": [1, "a"]}', encoding="utf-8")
    assert (run.command(), run.asked()[RunRequest.SAMPLE], run.prompts()) == (Command.RUN, 0, ("a",))
    run.ask_for(RunRequest.SAMPLE)
    assert run.asked()[RunRequest.SAMPLE] == 1


def test_reading_goes_on_from_where_it_was(run: RunFolder) -> None:
    run.append(RunPaused(1))
    first, offset = run.events()
    assert run.events(offset) == ([], offset)
    run.append(RunResumed(1))
    second, end = run.events(offset)
    assert (first, second) == ([RunPaused(1)], [RunResumed(1)])
    assert end > offset


def test_a_process_killed_in_the_middle_of_a_line(run: RunFolder) -> None:
    run.append(RunPaused(1))
    whole = (run.path / "events.jsonl").read_bytes()
    for cut in range(len(whole)):
        (run.path / "events.jsonl").write_bytes(whole + whole[:cut])
        events, offset = run.events()
        assert (events, offset) == (
            [RunPaused(1)],
            len(whole),
        )  # the unfinished line is not passed: it may be finished yet
        run.append(RunResumed(2))
        assert run.events(offset)[0] == ([RunPaused(1)] if cut == len(whole) - 1 else []) + [RunResumed(2)]
        assert run.events()[0][0] == RunPaused(1)


def test_a_writer_killed_at_any_moment_leaves_a_readable_run(run: RunFolder) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from diffstudio.training.run.events import RunPaused\n"
        "from diffstudio.training.run.run_folder import RunRequest, Command, RunFolder\n"
        "run = RunFolder.open(Path(sys.argv[1]))\n"
        "for step in range(10**9):\n"
        "    run.append(RunPaused(step)); run.send(Command.PAUSE)\n"
        "    if step == 20: print('going', flush=True)\n"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program, run.path], stdout=subprocess.PIPE)
        with writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            writer.kill()
        assert run.command() is Command.PAUSE
        assert RunFolder.open(run.path).recipe() == Recipe(name="mine")
    events, _ = run.events()
    steps = [event.step for event in events]
    assert steps.count(0) == 3
    assert steps.count(20) == 3


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"step"',
        b"\xff\xfe\x00",
        b'{"event": "paused"}',
        b'{"event": ["paused"], "step": 1}',
        b'{"format": 1, "event": "paused", "step": "one"}',
        b'{"format": 1, "event": "paused", "step": true}',
        b'{"format": 1, "event": "held_out", "step": 1, "loss": null}',
        b"[" * 100_000,
        b'{"event": "dreamt", "step": 1}',
        b'{"format": 2, "event": "paused", "step": 1}',
        b'{"format": "x", "event": "paused", "step": 1}',
        b'{"format": 1, "event": "samples", "step": 1, "ema": "", "raw": "", "columns": 1, "rows": 1, "size": 1, "prompts": "cat"}',
        b'{"format": 1, "event": "samples", "step": 1, "ema": "", "raw": "", "columns": 1, "rows": 1, "size": 1, "prompts": [1]}',
    ],
)
def test_lines_that_are_no_event_are_passed_over(run: RunFolder, line: bytes) -> None:
    run.append(RunPaused(1))
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(line + b"\n")
    run.append(RunResumed(2))
    assert run.events()[0] == [RunPaused(1), RunResumed(2)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(garbage=st.binary(max_size=300))
def test_whatever_is_in_the_file_reading_and_appending_go_on(run: RunFolder, garbage: bytes) -> None:
    (run.path / "events.jsonl").write_bytes(garbage)
    _, offset = run.events()
    run.append(RunResumed(2))
    assert run.events(offset)[0][-1] == RunResumed(2)


def test_what_a_later_program_adds_does_no_harm(run: RunFolder) -> None:
    values = {"format": 1, "event": "held_out", "at": 0.0, "weather": "fine"} | asdict(RunHeldOut(3, 0.5))
    (run.path / "events.jsonl").write_text(json.dumps(values) + "\n", encoding="utf-8")
    assert run.events()[0] == [RunHeldOut(3, 0.5)]


def test_whole_numbers_stand_for_fractions_and_words_that_are_not_text_are_kept(run: RunFolder) -> None:
    (run.path / "events.jsonl").write_text(
        '{"format": 1, "event": "held_out", "step": 3, "loss": 1}\n', encoding="utf-8"
    )
    (event,), _ = run.events()
    assert event == RunHeldOut(3, 1.0)
    assert isinstance(event, RunHeldOut)
    assert isinstance(event.loss, float)
    run.append(RunFailed(4, "a name like \udcff"))  # how Python holds a file name that is not text
    assert run.events()[0][-1] == RunFailed(4, "a name like \udcff")


def test_a_loss_that_is_no_number_is_still_an_event(run: RunFolder) -> None:
    run.append(RunHeldOut(3, float("nan")))
    (event,), _ = run.events()
    assert isinstance(event, RunHeldOut)
    assert event.loss != event.loss


@pytest.mark.parametrize("command", list(Command))
def test_commands_reach_the_run(run: RunFolder, command: Command) -> None:
    RunFolder.open(run.path).send(command)
    assert run.command() is command


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b'{"command": "dance"}', b'{"command": ["stop"]}', b"\xff", b"[" * 100_000]
)
def test_a_damaged_control_file_lets_the_run_go_on_and_the_log_says_so(
    run: RunFolder, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (run.path / "control.json").write_bytes(content)
    assert [run.command() for _ in range(3)] == [Command.RUN] * 3
    (message,) = caplog.messages
    assert message.startswith(f"control.json of the run {run.name} ")
    assert message.endswith(". The work goes on as without a command.")
    (run.path / "control.json").unlink()
    assert run.command() is Command.RUN and len(caplog.messages) == 1


def test_commands_from_many_hands_at_once(run: RunFolder) -> None:
    problems: list[Exception] = []

    def send(command: Command) -> None:
        try:
            for _ in range(40):
                run.send(command)
                assert run.command() in (Command.PAUSE, Command.STOP)
        except Exception as problem:  # noqa: BLE001 - told below, in the thread that can fail
            problems.append(problem)

    run.send(Command.PAUSE)
    hands = [threading.Thread(target=send, args=[command]) for command in (Command.PAUSE, Command.STOP) * 2]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert problems == []
    assert not [name for name in names(run.path) if name.endswith(".part")]


def test_a_second_run_in_the_same_place_is_refused_and_the_first_untouched(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunProblem, match="already"):
        RunFolder.create(run.path, Recipe(name="other"), tmp_path)
    assert run.recipe().name == "mine"


def test_a_run_whose_making_was_cut_short_can_be_made_again(run: RunFolder, tmp_path: Path) -> None:
    run.recipe_file.unlink()  # it is written last
    with pytest.raises(RunProblem, match="no training run"):
        RunFolder.open(run.path)
    assert RunFolder.create(run.path, Recipe(name="again"), tmp_path).recipe().name == "again"


@pytest.mark.parametrize("where", ["nowhere", "empty", "a file"])
def test_no_run_to_open(tmp_path: Path, where: str) -> None:
    path = tmp_path / "place"
    if where == "empty":
        path.mkdir()
    elif where == "a file":
        path.touch()
    with pytest.raises(RunProblem, match="no training run") as problem:
        RunFolder.open(path)
    assert problem.value.remedy


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"pictures": 5}', '{"format": "one"}', "[" * 100_000])
def test_a_run_with_a_damaged_description_is_refused_in_words(run: RunFolder, content: str) -> None:
    (run.path / "run.json").write_text(content)
    with pytest.raises(RunProblem, match="run.json"):
        RunFolder.open(run.path).info()


def test_a_run_of_a_newer_program_is_refused_in_words(run: RunFolder) -> None:
    (run.path / "run.json").write_text(json.dumps(run.info() | {"format": run_folder.FORMAT + 1}))
    with pytest.raises(RunProblem, match="Update diffstudio"):
        RunFolder.open(run.path)


@pytest.mark.parametrize("content", [b"", b"= what", b"\xff\xfe", b"name = 5", b'[data]\nsize = "big"'])
def test_a_damaged_recipe_is_told(run: RunFolder, content: bytes) -> None:
    run.recipe_file.write_bytes(content)
    if content:
        with pytest.raises(RunProblem):
            run.recipe()
    else:
        assert run.recipe() == Recipe()


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((RunProblem, StorageProblem)) as problem:
        RunFolder.create(tmp_path / "file" / "run", Recipe(), tmp_path)
    assert problem.value.remedy


def test_a_full_disk_is_told_and_keeps_what_was_written(run: RunFolder) -> None:
    resource = pytest.importorskip("resource", reason="this system has no limit on file sizes")
    run.append(RunPaused(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(StorageProblem, match="events.jsonl"):
            run.append(RunFailed(2, "x" * 1000))
        with pytest.raises(StorageProblem, match=r"recipe.toml"):
            Recipe(name="y" * 1000).write(run.recipe_file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert run.recipe().name == "mine"
    assert not [name for name in names(run.path) if name.endswith(".part")]
    run.append(RunResumed(3))
    assert run.events()[0] == [RunPaused(1), RunResumed(3)]


def test_a_run_deleted_while_it_is_watched(run: RunFolder) -> None:
    run.append(RunPaused(1))
    _, offset = run.events()
    shutil.rmtree(run.path)
    assert run.events(offset) == ([], 0)
    assert run.command() is Command.RUN
    run.path.touch()
    assert run.events(offset) == ([], 0)


def test_events_are_plain_values_that_json_holds() -> None:
    for event in ONE_OF_EACH:
        for field in fields(event):
            assert isinstance(getattr(event, field.name), (bool, int, float, str, tuple, type(None)))


def test_reading_needs_no_torch(run: RunFolder) -> None:
    program = "import sys; from diffstudio.training.run.run_folder import RunFolder; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False"
