"""What a job of the Lab leaves in its folder, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest, Interrupted, RunProblem
from diffstudio.studio.evaluations import job_recording
from diffstudio.studio.evaluations.job_folder import (
    JobEvent,
    JobFailed,
    JobFinished,
    JobFolder,
    JobProgress,
    JobRequest,
    JobStarted,
    JobStopped,
    result_name,
)
from diffstudio.studio.evaluations.job_recording import recorded
from diffstudio.training.run.run_folder import Command, RunFolder


def events(folder: Path) -> list[JobEvent]:
    return JobFolder(folder).events()[0]


def test_a_job_records_what_it_does_and_how_far_it_is(tmp_path: Path) -> None:
    out = tmp_path / "new" / "job"
    with recorded("evaluate", ["starter", "photos", "--out", str(out), "--json"], out) as recording:
        for done in range(4):
            recording.progress("Reading", done, 3)
        recording.finish(BadRequest("Too few images"))
    assert events(out) == [
        JobStarted(os.getpid()),
        JobProgress("Reading", 0, 3),
        JobProgress("Reading", 3, 3),  # those between came too soon
        JobFinished("evaluation.json", "Too few images."),
    ]
    request = JobFolder(out).request()
    assert (request.verb, request.arguments) == ("evaluate", ("starter", "photos"))
    assert request.working_folder == os.getcwd() and request.created > 1e9


def test_long_jobs_write_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(job_recording.time, "monotonic", lambda: now[0])
    with recorded("evaluate", [], tmp_path) as recording:
        for second in range(86_400):
            now[0] = float(second)
            recording.progress("Generating", second, 0)
    assert 1000 < len(events(tmp_path)) < 4000  # of a day


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (BadRequest("It failed", "why", "Do this"), JobFailed("It failed", "why", "Do this")),
        (Interrupted(), JobStopped()),
        (KeyboardInterrupt(), JobStopped()),
        (MemoryError("much"), JobFailed("Its process ended with an error, MemoryError", "much")),
    ],
)
def test_how_it_ends_is_recorded_and_raised(raised: BaseException, expected: JobEvent, tmp_path: Path) -> None:
    with pytest.raises(type(raised)), recorded("evaluate", [], tmp_path):
        RunFolder(tmp_path).send(Command.STOP)
        raise raised
    assert events(tmp_path)[-1] == expected
    assert RunFolder(tmp_path).command() is Command.RUN  # carried out: the next job there is not stopped by it


def test_the_request_of_the_window_stays_and_that_of_another_job_is_replaced(tmp_path: Path) -> None:
    job = JobFolder(tmp_path)
    job.write_request(JobRequest("evaluate", ("starter", "photos"), "My photos", 12.0))
    with recorded("evaluate", ["starter", "photos"], tmp_path):
        pass
    assert job.request().name == "My photos"
    with recorded("evaluate", ["starter", "drawings"], tmp_path):
        pass
    assert job.request().arguments == ("starter", "drawings") and job.request().name == ""


def test_two_jobs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with recorded("evaluate", ["a"], tmp_path):
        with pytest.raises(RunProblem, match="is in use"), recorded("evaluate", ["b"], tmp_path):
            pytest.fail("both write")
        assert JobFolder(tmp_path).request().arguments == ("a",)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    with recorded("evaluate", [], None) as recording:
        recording.progress("Reading", 1, 2)
        recording.finish()
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("inside", [".", "sub/result"])
def test_nothing_is_written_into_a_folder_of_images_that_is_read(inside: str, tmp_path: Path) -> None:
    (photos := tmp_path / "photos").mkdir()
    folders = [tmp_path / "other", photos]
    with pytest.raises(BadRequest, match="it is inside .*photos"), recorded("evaluate", [], photos / inside, folders):
        pytest.fail("it is refused")
    assert list(photos.iterdir()) == []


@pytest.mark.parametrize("name", ["request.json", "events.jsonl"])
def test_files_that_are_not_those_of_a_job_stay_as_they_are(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"caption": "A red square"}')
    with (
        pytest.raises(BadRequest, match=f"its {name} does not belong to a Lab job"),
        recorded("evaluate", [], tmp_path),
    ):
        pytest.fail("it is refused")
    assert {path.name for path in tmp_path.iterdir()} <= {name, "home"}  # of the settings
    assert (tmp_path / name).read_text() == '{"caption": "A red square"}'


def finished(out: Path, *arguments: str, verb: str = "evaluate") -> Path:
    """A finished job in a folder; returns the path of its result."""
    with recorded(verb, arguments, out) as recording:
        result = out / result_name(verb)
        result.write_text(str(arguments))
        recording.finish()
    return result


@pytest.mark.parametrize("arguments", [["a", "folder", "--count", "60"], ["a", "folder"]])
@pytest.mark.parametrize("raised", [BadRequest("It failed"), Interrupted(), KeyboardInterrupt(), MemoryError()])
def test_a_finished_result_is_kept_by_a_job_that_ends_without_one(
    raised: BaseException, arguments: list[str], tmp_path: Path
) -> None:
    result, said = finished(out := tmp_path / "ev", "a", "folder"), []
    request = JobFolder(out).request()
    with pytest.raises(type(raised)), recorded("evaluate", arguments, out, (), said.append):
        assert JobFolder(out).request().arguments == tuple(arguments)
        raise raised
    assert result.read_text() == "('a', 'folder')" and JobFolder(out).request() == request
    assert events(out)[-1] == JobFinished("evaluation.json")  # it counts as finished
    assert said == [f"The earlier result in {out} was kept."]


def test_a_finished_result_is_replaced_at_the_end_by_the_next_one(tmp_path: Path) -> None:
    result, said = finished(tmp_path, "a", "folder"), []
    with recorded("evaluate", ["b", "folder"], tmp_path, (), said.append) as recording:
        assert result.read_text() == "('a', 'folder')"
        result.write_text("new")
        recording.finish()
    assert said == [f"The earlier result in {tmp_path} was replaced."]
    assert JobFolder(tmp_path).request().arguments == ("b", "folder")


def test_a_result_whose_files_were_replaced_is_kept_under_another_name(tmp_path: Path) -> None:
    result, said = finished(out := tmp_path / "ev", "a", "folder"), []
    (image := out / "images" / "1.png").parent.mkdir()
    image.write_text("earlier")
    with pytest.raises(Interrupted), recorded("evaluate", ["b", "folder"], out, (), said.append):
        image.write_text("the next one")
        raise Interrupted()
    kept = out / "evaluation-earlier.json"
    assert not result.exists() and kept.read_text() == "('a', 'folder')"
    assert events(out)[-1] == JobStopped() and JobFolder(out).request().arguments == ("b", "folder")
    assert said == [f"The earlier result was kept as {kept}, but some of its files were replaced."]


@pytest.mark.parametrize(("verb", "first"), [("likelihood", "a"), ("models", "ema")])
def test_the_result_of_another_verb_is_not_written_over(verb: str, first: str, tmp_path: Path) -> None:
    other, earlier = ("models", "fit-steps") if verb == "models" else ("evaluate", "a")
    result = finished(tmp_path, earlier, verb=other)
    name = "models fit-steps" if verb == "models" else "evaluate"
    with pytest.raises(BadRequest, match=f"job of `diffstudio {name}`"), recorded(verb, [first], tmp_path):
        pytest.fail("it is refused")
    assert result.exists() and JobFolder(tmp_path).request().verb == other


def test_a_command_can_be_written_before_the_job_begins(tmp_path: Path) -> None:
    JobFolder(tmp_path).send(Command.STOP)
    with recorded("evaluate", ["a"], tmp_path):
        assert JobFolder(tmp_path).command() is Command.STOP


def test_a_refused_command_does_not_keep_other_verbs_out_of_its_folder(tmp_path: Path) -> None:
    with pytest.raises(BadRequest), recorded("evaluate", ["a"], out := tmp_path / "out"):
        raise BadRequest("It failed")
    with recorded("likelihood", ["a"], out):
        assert JobFolder(out).request().verb == "likelihood"


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("reverse", "image.png"),
        ("reverse", "film.gif"),
        ("evaluate", "evaluation.json"),
        ("map", "map-umap.svg"),
        ("features", "features.npy"),
        ("restore", "restored/mine.png"),
        ("evaluate", "control.json"),
    ],
)
def test_files_that_a_verb_would_replace_and_no_job_has_made_are_refused(verb: str, name: str, tmp_path: Path) -> None:
    (file := tmp_path / "out" / name).parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(BadRequest, match=f"its {name.split('/')[0]} "), recorded(verb, [], tmp_path / "out"):
        pytest.fail("it is refused")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [file]


@pytest.mark.parametrize("given", ["restored", "restored/0.png", "mean/below"])
def test_a_result_does_not_replace_what_it_is_made_from(given: str, tmp_path: Path) -> None:
    finished(tmp_path, "starter", "photos", verb="restore")
    path = tmp_path / given
    path.parent.mkdir(exist_ok=True)
    path.write_text("an image") if path.suffix else path.mkdir()
    with pytest.raises(BadRequest, match=f"it would replace {path}"), recorded("restore", [], tmp_path, [path]):
        pytest.fail("it is refused")
    (tmp_path / "mine.png").write_text("an image")
    with recorded("restore", [], tmp_path, [tmp_path / "mine.png"]):
        pass  # the result of an image is not beside it
