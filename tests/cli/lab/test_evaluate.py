"""`diffstudio evaluate`: what goes to which stream, exit codes, and Ctrl+C."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffstudio import cli
from diffstudio.cli.lab import lab_verb
from diffstudio.evaluation.features import folder_network
from diffstudio.studio.evaluations import evaluate as module
from diffstudio.studio.evaluations.job_folder import JobFailed, JobFinished, JobFolder, JobProgress
from diffstudio.studio.evaluations.job_recording import recorded
from tests.studio.evaluations.small_models import write_checkpoint, write_images


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_network, "STEPS", 5)
        for name in ("real_row", "row"):
            full = getattr(module, name)
            patch.setattr(module, name, lambda *given, full=full, **named: full(*given, resamples=4, **named))
        yield


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("squares"), 250, seed=0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "own.safetensors")


def run(*arguments: str | Path) -> int:
    return cli.main(["evaluate", *map(str, arguments), "--features", "folder", "--device", "cpu"])


def test_the_table_is_printed_and_progress_goes_to_standard_error(
    real: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, real, "--count", "100") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{real}: ") and "\nreal images (training part) " in captured.out
    assert "Generating with own, 100 of 100" in captured.err and "Generating" not in captured.out
    assert captured.err.count("Generating with own") == 1  # not a line for each batch


def test_json_alone_goes_to_standard_output(
    real: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generated = write_images(tmp_path / "made", 100, seed=1)
    assert run(checkpoint, generated, real, "--count", "100", "--json", "--seed", "3", "--out", tmp_path / "out") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in printed["rows"]] == ["real images (training part)", "own", "made"]
    assert printed["details"][0]["sampling"]["seed"] == 3
    job = JobFolder(tmp_path / "out")
    assert job.result("evaluation.json") == printed
    assert job.request().arguments[:3] == (str(checkpoint), str(generated), str(real))
    events = job.events()[0]
    assert JobProgress("Generating with own", 100, 100) in events and events[-1] == JobFinished("evaluation.json")


def test_a_refused_command_keeps_the_finished_result(
    tmp_path: Path, real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with recorded("evaluate", ["starter", str(real)], out := tmp_path / "ev") as recording:
        (out / "evaluation.json").write_text("{}")
        recording.finish()
    assert run("starter", real, "--count", "60", "--out", out) == 2
    assert run("starter", tmp_path / "nothing", "--out", out) == 2
    assert cli.main(["likelihood", "starter", str(real), "--out", str(out)]) == 2
    messages = capsys.readouterr().err
    assert messages.count(f"The earlier result in {out} was kept.") == 2
    assert f"cannot be written to {out}: it belongs to a job of `diffstudio evaluate`" in messages
    assert (out / "evaluation.json").read_text() == "{}"
    assert isinstance(JobFolder(out).last_event(), JobFinished) and len(JobFolder(out).request().arguments) == 2


@pytest.mark.parametrize("out", ["loop", "loop/out", "file", "file/out"])
def test_a_place_that_is_no_folder_is_named(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()
    Path("images").mkdir()
    assert run("starter", "images", "--out", out) != 0
    said = "leads back to itself" if out.startswith("loop") else "file is not a folder. Choose another folder."
    assert said in capsys.readouterr().err


def test_too_few_images_end_with_a_sentence_and_an_exit_code(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_images(tmp_path / "few", 40, seed=0)
    assert run(checkpoint, few, "--count", "100", "--json", "--out", tmp_path / "out") == 2
    finished = JobFolder(tmp_path / "out").events()[0][-1]
    assert isinstance(finished, JobFinished) and finished.problem.startswith("There are too few training images")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"] == []
    assert captured.err.splitlines()[-1].startswith("diffstudio: There are too few training images to compare: 100")
    three = write_images(tmp_path / "three", 3, seed=0)
    assert run(checkpoint, three) == 2
    assert "There are too few" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "CHECKPOINT|IMAGES"),
        (["starter"], "FOLDER"),
        (["nothing", "."], "no checkpoint called 'nothing'"),
        (["starter", "."], "There is nothing to measure in"),
        (["starter", "nowhere"], "the folder does not exist"),
        (["starter", ".", "--count", "3"], "The number of images is 3"),
        (["starter", ".", "--count", "many"], "not a whole number"),
        (["starter", ".", "--seed", "-1"], "The seed is -1"),
        (["starter", ".", "--features", ""], "No features were named"),
        (["starter", ".", "--device", "abacus"], "The device 'abacus' cannot be used: this machine has cpu"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *arguments]) != 0
    captured = capsys.readouterr()
    assert expected in captured.err and captured.out == "" and "Internal error" not in captured.err


def test_a_mistake_is_recorded_for_the_window(tmp_path: Path) -> None:
    assert (
        cli.main(["evaluate", "starter", str(tmp_path / "images"), "--seed", "-1", "--out", str(tmp_path / "out")]) == 2
    )
    failed = JobFolder(tmp_path / "out").events()[0][-1]
    assert isinstance(failed, JobFailed) and failed.what == "The seed is -1"


def test_ctrl_c_ends_it_cleanly(
    real: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    def show(self: object, what: str, done: int, total: int) -> None:
        if what.startswith("Generating"):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(lab_verb._Progress, "__call__", show)
    assert run(checkpoint, real) == 130
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines()[-1] == "diffstudio: The evaluation was stopped."
    assert list((home / "cache").glob("evaluation-*")) == []
