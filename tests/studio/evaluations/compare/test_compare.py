"""A whole comparison on small images: trained, judged, ended and continued, and what it refuses before it trains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch.nn.functional as F
from PIL import Image

from diffstudio import paths
from diffstudio.errors import BadRequest, Diverged, FolderProblem, Interrupted
from diffstudio.evaluation import classifier
from diffstudio.evaluation.features.feature_network import FeatureNetwork
from diffstudio.models.library.library import Library
from diffstudio.studio.evaluations.compare import compare as module
from diffstudio.studio.evaluations.compare import measuring, training
from diffstudio.studio.evaluations.compare.compare import compare
from diffstudio.studio.evaluations.compare.request import CompareRequest
from diffstudio.studio.evaluations.compare.result import PAGE, Comparison, read_comparison
from diffstudio.studio.evaluations.likelihood.likelihood import likelihood
from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
from diffstudio.studio.evaluations.likelihood.result import ELBO
from diffstudio.studio.evaluations.subjects import CHOSEN_BY_HELD_OUT
from diffstudio.studio.runs.runs import Runs
from diffstudio.training.run.events import RunFinished, RunStarted
from diffstudio.training.run.run_folder import Command, RunFolder
from tests.studio.evaluations.likelihood.test_autoencoder import write_vae
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pixels as features, few resamples and few steps of the classifier."""

    def pixels(*_: object) -> FeatureNetwork:
        return FeatureNetwork("pixels", 48, "resized to 4 px", lambda images: F.avg_pool2d(images, 4).flatten(1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFSTUDIO_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(module, "feature_network", pixels)
        trained = classifier.train_classifier
        patch.setattr(measuring, "train_classifier", lambda *given, **named: trained(*given, **named, steps=20))
        for name in ("real_row", "row"):
            full = getattr(measuring, name)
            patch.setattr(measuring, name, lambda *given, full=full, **named: full(*given, resamples=6, **named))
        yield


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("real"), 250, seed=0)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "squares.toml"
    rates = replace(RECIPE.optimiser, name=type(RECIPE.optimiser.name).ADAMW, warm_up_steps=1)
    path.write_text(tomli_w.dumps(replace(RECIPE, optimiser=rates).to_json()))
    return path


@pytest.fixture(scope="module")
def made(real: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, CompareRequest]:
    generated = write_images(tmp_path_factory.mktemp("made"), 110, seed=1)
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("models") / "random.safetensors")
    out = tmp_path_factory.mktemp("compared")
    request = CompareRequest(
        real, 0.05, (str(recipe),), 2, (str(generated), str(checkpoint)), count=100, device="cpu", out=out
    )
    found = run(request)
    names = {f"{out.name}, {entry.name}" for entry in found.entries[:2]}
    assert {summary.name for summary in Runs(paths.runs()).list()} >= names, "the Train room shows the runs"
    return found, request


def run(request: CompareRequest, **given: Any) -> Comparison:
    return compare(request, Library(), **given)


def test_every_run_and_every_subject_has_its_row_and_its_images(made: tuple[Comparison, CompareRequest]) -> None:
    found, request = made
    assert request.out is not None
    generated = Path(request.subjects[0]).name
    assert found.models == ("squares", generated, "random") and found.problem is None
    assert [entry.name for entry in found.entries[:2]] == ["squares, seed 0", "squares, seed 1"]
    assert found.real is not None and {entry.compared for entry in (found.real, *found.entries)} == {100}
    assert {"frechet_distance", "recall", "coverage", "vendi", "copies", "nearer_to_training"} <= set(found.measures())
    run_entry, folder, random = found.entries[0], found.entries[2], found.entries[3]
    assert {"loss_gap", "agreement", "trained_on_synthetic"} <= set(run_entry.figures)
    assert "loss_gap" not in folder.figures and folder.figures["trained_on_synthetic"].value > 0.9
    assert folder.figures["frechet_distance"].value < random.figures["frechet_distance"].value
    assert random.seconds_per_image and random.parameters and random.training is None
    bits = run_entry.likelihood.value
    assert bits is not None and bits.low <= bits.value and folder.likelihood.value is None and folder.likelihood.note
    history = run_entry.training
    assert history is not None and history.steps >= 1 and history.loss[0] and history.gradient_norm[0]
    assert run_entry.parameters == history.parameters and run_entry.memory_bytes
    assert len(run_entry.pairs) == 6 and [pair.ratio for pair in run_entry.pairs] == sorted(
        pair.ratio for pair in run_entry.pairs
    )
    files = [found.held_out_grid, *(entry.grid for entry in found.entries)]
    files += [file for entry in found.entries for pair in entry.pairs for file in (pair.image_file, pair.training_file)]
    for file in files:
        with Image.open(request.out / file) as image:
            assert min(image.size) >= 48
    assert all((request.folder / pair.training).is_file() for pair in run_entry.pairs)


def test_all_rows_are_of_as_many_images_and_vaes_are_measured_as_diffusion_models_are(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = partial(LikelihoodRequest, count=6, draws=2)
    monkeypatch.setattr("diffstudio.studio.evaluations.likelihood.likelihood.LikelihoodRequest", few)
    checkpoint = write_vae(tmp_path / "grey.safetensors")
    fewer, more = (str(write_images(tmp_path / f"{count} images", count, seed=count)) for count in (104, 112))
    found = run(CompareRequest(real, 0.05, (), 1, (fewer, more, str(checkpoint)), device="cpu", out=tmp_path / "out"))
    assert found.real is not None and [entry.count for entry in found.entries[:2]] == [104, 112]
    assert {entry.compared for entry in (found.real, *found.entries)} == {104}
    assert all("trained_on_synthetic" in entry.figures for entry in (found.real, *found.entries))
    assert CHOSEN_BY_HELD_OUT in found.notes
    alone = likelihood(few(str(checkpoint), real, device="cpu"), Library())
    assert CHOSEN_BY_HELD_OUT in alone.notes
    bits = found.entries[2].likelihood.value
    assert bits == alone.parts[0].means[ELBO] and bits is not None and bits.low < bits.value < bits.high


def test_it_is_written_as_a_page_as_json_and_as_plots(made: tuple[Comparison, CompareRequest]) -> None:
    found, request = made
    assert request.out is not None
    assert read_comparison(request.out).to_json() == json.loads(json.dumps(found.to_json()))
    text = (request.out / PAGE).read_text(encoding="utf-8")
    assert "squares (2 seeds)" in text and text.count("data:image/png;base64,") >= 5
    plots = {path.name for path in (request.out / "plots").iterdir()}
    for name in ("fidelity-and-diversity", "fid", "copying", "loss-squares", "gradient-squares"):
        assert {f"{name}.svg", f"{name}.png", f"{name}.csv"} <= plots


def test_a_second_call_trains_and_measures_nothing_again(
    made: tuple[Comparison, CompareRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, request = made

    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("done before")

    monkeypatch.setattr(training, "train", unwanted)
    monkeypatch.setattr(measuring, "row", unwanted)
    monkeypatch.setattr(measuring, "real_row", unwanted)
    seen: list[str] = []
    again = run(request, on_progress=lambda what, done, total: seen.append(what))
    assert again.to_json() == found.to_json()
    assert seen[0].startswith("1 model, 2 seeds, 0.05 min each: 0.1 min of training in all")


def test_it_is_stopped_by_its_control_file_and_goes_on(real: Path, recipe: Path, tmp_path: Path) -> None:
    request = CompareRequest(real, 0.1, (str(recipe),), 1, count=100, device="cpu", out=tmp_path / "out")
    planned = RunFolder(tmp_path / "out" / "runs" / "squares-0")

    def show(what: str, done: int, total: int) -> None:
        if "seconds of training" in what and any(isinstance(event, RunStarted) for event in planned.events()[0]):
            RunFolder(tmp_path / "out").send(Command.STOP)

    with pytest.raises(Interrupted, match="The comparison was stopped"):
        run(request, on_progress=show)
    assert not any(isinstance(event, RunFinished) for event in planned.events()[0])
    RunFolder(tmp_path / "out").send(Command.RUN)
    found = run(request)
    assert found.entries[0].training is not None and found.entries[0].training.restarts == 1
    assert found.entries[0].training.ended == ""


def test_what_would_spoil_it_is_refused_before_anything_is_trained(real: Path, recipe: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in sorted(real.rglob("*.png"))[:5]:
        (copied / path.name).write_bytes(path.read_bytes())
    request = CompareRequest(real, 0.05, (str(recipe),), 1, device="cpu", out=tmp_path / "out")
    with pytest.raises(FolderProblem, match="5 of 5 images in copied are real images of"):
        run(replace(request, subjects=(str(copied),)))
    with pytest.raises(BadRequest, match="it is inside the folder of images"):
        run(replace(request, out=real / "out"))
    other = write_checkpoint(tmp_path / "large.safetensors", recipe=replace(RECIPE, data=replace(RECIPE.data, size=32)))
    with pytest.raises(BadRequest, match="cannot be compared in one table"):
        run(replace(request, subjects=(str(other), str(write_checkpoint(tmp_path / "small.safetensors")))))
    assert not list((tmp_path / "out").glob("runs/*"))


def test_a_small_folder_of_one_class_has_what_can_be_told(recipe: Path, tmp_path: Path) -> None:
    folder, said = write_images(tmp_path / "few", 40, seed=0, classes=False), list[str]()
    request = CompareRequest(folder, 0.05, (str(recipe),), 1, count=100, device="cpu", out=tmp_path / "out")
    found = run(request, on_progress=lambda what, *_: said.append(what))
    before = said[: next(index for index, what in enumerate(said) if what.startswith("Run 1"))]
    assert any("100 are needed" in what and "without a table" in what for what in before)
    assert found.real is None and "100 are needed" in str(found.problem)
    assert set(found.entries[0].figures) == {"copies", "nearer_to_training", "loss_gap"}
    assert [one.aspect for one in found.verdicts[0].findings] == ["copying"]
    assert any("no classes, so no classifier is trained" in note for note in found.notes)
    assert found.entries[0].pairs and "100 are needed" in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")


def test_a_run_that_fails_does_not_take_the_page_from_others(
    real: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*_: object, **__: object) -> None:
        raise Diverged("The training diverged", "at step 3 the loss is 9e9")

    monkeypatch.setattr("diffstudio.training.run.training.Training._step", diverges)
    found = run(CompareRequest(real, 0.05, (str(recipe),), 1, count=100, device="cpu", out=tmp_path / "out"))
    assert found.entries[0].problem.startswith("Failed: The training diverged") and not found.entries[0].figures
    assert found.real is not None and "The training diverged" in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
