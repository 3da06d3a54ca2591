"""The runs of a comparison: their recipes, their split, and how long all of it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio import cli, paths
from diffstudio.errors import BadRequest, RunProblem
from diffstudio.studio.evaluations.compare.history import history
from diffstudio.studio.evaluations.compare.plan import check_models, prepare, total_sentence
from diffstudio.studio.evaluations.compare.request import CompareRequest
from diffstudio.studio.evaluations.compare.result import Entry, plain
from diffstudio.studio.evaluations.job_runs import State
from diffstudio.training.data.folder_report import FolderReport, ImageRecord
from diffstudio.training.data.split import count_held_out
from diffstudio.training.recipe_choice import named_recipes, read_choice
from diffstudio.training.run.events import (
    RunEarlyDecay,
    RunEarlyStop,
    RunFailed,
    RunFinished,
    RunHeldOut,
    RunRolledBack,
    RunStarted,
    RunStep,
    RunStopped,
)


def report(count: int, side: int) -> FolderReport:
    records = [
        ImageRecord(Path(f"{number % 2}/{number}.png"), side, side, (), str(number % 2), False)
        for number in range(count)
    ]
    return FolderReport(Path("/photos"), tuple(records))


def test_the_total_is_that_of_all_runs() -> None:
    request = CompareRequest(Path("x"), 20.0, ("diffusion", "tiny", "small"), seeds=3)
    assert request.training_minutes == 180
    assert total_sentence(request).startswith("3 models, 3 seeds, 20 min each: 3 h 0 min of training in all")
    assert total_sentence(CompareRequest(Path("x"), 1.0, (), subjects=("starter",))) == "No model is trained."


def test_all_models_share_the_split_and_the_size_and_differ_in_seeds(tmp_path: Path) -> None:
    found = report(600, 28)
    request = CompareRequest(found.folder, 2.0, ("diffusion", "small"), seeds=2)
    runs = prepare(request, tmp_path, found, accelerator=False)
    assert [run.name for run in runs] == ["diffusion, seed 0", "small, seed 0", "diffusion, seed 1", "small, seed 1"]
    assert {run.state() for run in runs} == {State.NEW}
    recipes = [read_choice(run.recipe_file).recipe for run in runs]
    assert len({recipe.data for recipe in recipes}) == 1 and [recipe.run.seed for recipe in recipes] == [0, 0, 1, 1]
    assert recipes[0].data.size == 28 and 28 % recipes[0].network.patch == 0 and recipes[0].run.start_from == ""
    assert 100 <= count_held_out(found, recipes[0].data) <= 200
    assert recipes[0].network.width == named_recipes()["tiny"].network.width


def test_a_second_call_takes_the_recipes_of_the_first(tmp_path: Path) -> None:
    request = CompareRequest(Path("/photos"), 2.0, ("tiny",), seeds=1)
    first = prepare(request, tmp_path, report(600, 28), accelerator=False)
    recipe = read_choice(first[0].recipe_file).recipe
    more = prepare(replace(request, seeds=2, models=("tiny", "small")), tmp_path, report(900, 64), accelerator=False)
    assert {read_choice(run.recipe_file).recipe.data for run in more} == {recipe.data}
    with pytest.raises(BadRequest, match=r"holds another comparison: it trains on /photos, 2.0 minutes"):
        prepare(replace(request, minutes=3.0), tmp_path, report(600, 28), accelerator=False)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(RunProblem, match="plan.json cannot be read"):
        prepare(request, tmp_path, report(600, 28), accelerator=False)


def test_small_folders_keep_what_training_needs(tmp_path: Path) -> None:
    few = prepare(CompareRequest(Path("/photos"), 2.0, ("tiny",)), tmp_path / "few", report(60, 64), accelerator=False)
    assert 4 <= count_held_out(report(60, 64), read_choice(few[0].recipe_file).recipe.data) <= 24
    some = prepare(
        CompareRequest(Path("/photos"), 2.0, ("tiny",)), tmp_path / "some", report(260, 64), accelerator=False
    )
    assert count_held_out(report(260, 64), read_choice(some[0].recipe_file).recipe.data) >= 100


def test_the_command_line_makes_the_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[CompareRequest] = []

    def compare(request: CompareRequest, *_: object, **__: object) -> None:
        seen.append(request)
        raise BadRequest("Enough was seen")

    monkeypatch.setattr("diffstudio.studio.evaluations.compare.compare.compare", compare)
    options = [
        "--models",
        "diffusion, tiny",
        "--seeds",
        "2",
        "--with",
        "starter",
        "made",
        "--device",
        "cpu",
        "--seed",
        "4",
    ]
    (photos := tmp_path / "photos").mkdir()
    assert cli.main(["compare", str(photos), "--minutes", "1.5", *options]) == BadRequest.exit_code
    out = paths.lab() / "compare photos"
    names = ("diffusion", "tiny")
    assert seen == [CompareRequest(photos, 1.5, names, 2, ("starter", "made"), seed=4, device="cpu", out=out)]
    assert (out / "events.jsonl").is_file()
    cli.main(
        [
            "compare",
            str(photos),
            "--minutes",
            "1",
            "--models",
            "none",
            "--with",
            "starter",
            "--out",
            str(tmp_path / "out"),
        ]
    )
    assert seen[1].models == () and seen[1].out == tmp_path / "out"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"minutes": 0.0}, "The time for each model and seed is 0 minutes"),
        ({"minutes": float("nan")}, "The time for each model and seed is nan minutes"),
        ({"seeds": 0}, "The number of seeds is 0"),
        ({"models": ()}, "There is nothing to compare"),
        ({"models": ("vae", "vae")}, "The model vae was named twice"),
        ({"count": 20}, "20 images of each model"),
        ({"seed": -1}, "The seed of the images is -1"),
    ],
)
def test_requests_that_cannot_be(changes: dict[str, object], match: str) -> None:
    with pytest.raises(BadRequest, match=match):
        CompareRequest(Path("x"), **({"minutes": 1.0} | changes))  # type: ignore[arg-type]


def test_models_that_are_no_recipes_are_named_before_anything_is_trained() -> None:
    with pytest.raises(RunProblem, match="There is no recipe named 'transformer'"):
        check_models(("diffusion", "transformer"))
    with pytest.raises(RunProblem, match="cannot be read"):
        check_models(("/nowhere/mine.toml",))


def test_the_history_of_a_run() -> None:
    started = RunStarted(0, 100, 1, 5000, 80, 20, "cpu", "float32", 1, "")
    step = RunStep(10, 100, 640, 0.5, 2.0, 1e-3, 9.0, 30.0, 60.0)
    again = RunStep(20, 100, 1280, 0.25, 1.0, 1e-3, 9.0, 90.0, 0.0)
    rolled_back = RunRolledBack(5, 10, 0.5, "The loss rose.")
    stopped = RunEarlyStop(20, 10, "Ended early: no lower.")
    events = [started, step, RunHeldOut(10, 0.6), rolled_back, started, again, stopped]
    found = history([*events, RunFinished(20, "x", True, "It learned.")])
    assert (found.steps, found.images_seen, found.seconds, found.parameters, found.restarts) == (
        20,
        1280,
        90.0,
        5000,
        1,
    )
    assert found.loss == ((0.5, 1.5), (0.5, 0.25)) and found.held_out == ((0.5,), (0.6,))
    assert found.sentence() == "1 roll-back, resumed once, Ended early: no lower." and not found.is_stable
    shortened = history([started, step, RunEarlyDecay(10, 5, "Shortened to 8.1 of 10 minutes."), again])
    assert shortened.ended == "Shortened to 8.1 of 10 minutes." and shortened.is_stable
    failed = history([started, step, RunFailed(10, "Out of memory.")])
    assert failed.ended == "Failed: Out of memory." and not failed.is_stable
    assert history([]).sentence() == "no roll-backs" and history([]).is_stable


def test_a_failed_run_is_not_stable_and_stays_so_in_results_of_older_versions() -> None:
    failed = history([RunFailed(3, "no space is left")])
    stopped = history([RunStopped(3)])
    assert (failed.ended, failed.is_stable) == ("Failed: no space is left", False)
    assert (stopped.ended, stopped.is_stable) == ("Stopped at step 3", True)
    for one in (failed, stopped):
        values = plain(Entry("tiny", "tiny", training=one).to_json())
        assert Entry.from_json(values).training == one
        del values["training"]["failed"]
        assert Entry.from_json(values).training == one
