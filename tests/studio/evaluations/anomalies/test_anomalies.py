"""A search for anomalies from folders to files: what is called anomalous, said and refused."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import BadRequest, CheckpointDamaged, FolderProblem, Interrupted
from diffstudio.evaluation.anomalies import neighbours
from diffstudio.models.library.library import Library
from diffstudio.models.memory.lease import Lease
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.anomalies import anomalies as module
from diffstudio.studio.evaluations.anomalies import training
from diffstudio.studio.evaluations.anomalies.anomalies import HEAT_MAPS, RESULT, TABLE, anomalies
from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
from diffstudio.studio.evaluations.anomalies.result import (
    COMBINED,
    COMBINED_LOCAL,
    DENOISING,
    HOW_TO_READ,
    LIKELIHOOD,
    LOCAL,
    OF_WHOLE_IMAGES,
    PATCHES,
    PIXELS,
    TITLES,
    AnomaliesResult,
)
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.training.recipe import ObjectiveRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.run.events import RunFinished, RunStopped
from diffstudio.training.run.run_folder import Command, RunFolder
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images

ALL = {DENOISING, LOCAL, LIKELIHOOD, PATCHES, PIXELS, COMBINED, COMBINED_LOCAL}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Patches of images enlarged to 64 px rather than 224."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "SIDE", 64)
        yield


def run(normals: Path, folder: Path, **options: Any) -> AnomaliesResult:
    return anomalies(AnomaliesRequest(normals, folder, **({"device": "cpu", "draws": 1} | options)), Library())


@pytest.fixture(scope="module")
def normals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("normals"), 50, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight normal images and two with a black cross."""
    path = write_images(tmp_path_factory.mktemp("searched"), 10, seed=1)
    for name in ("red/000-1.png", "blue/001-1.png"):
        pixels = np.array(Image.open(path / name))
        pixels[6:9, :] = pixels[:, 6:9] = 0
        Image.fromarray(pixels).save(path / name)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "squares.safetensors", Conditioning.NONE)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def found(
    normals: Path, folder: Path, checkpoint: Path, out: Path, tmp_path_factory: pytest.TempPathFactory
) -> AnomaliesResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFSTUDIO_HOME", str(tmp_path_factory.mktemp("home")))
        return run(normals, folder, checkpoint=str(checkpoint), out=out)


def test_a_checkpoint_without_its_run_may_have_seen_what_is_held_out(found: AnomaliesResult) -> None:
    assert any("squares is not in the folder of its run" in note for note in found.notes)


def test_the_defective_images_are_worst_and_called_anomalous(found: AnomaliesResult) -> None:
    assert {image.path for image in found.images[:2]} == {"red/000-1.png", "blue/001-1.png"}
    assert all(image.anomalous and image.p_value <= 0.05 for image in found.images[:2])
    p_values = [image.p_value for image in found.images]
    assert p_values == sorted(p_values) and sum(image.anomalous for image in found.images) <= 4
    assert found.false_alarm == 0.05 and found.smallest_false_alarm == pytest.approx(1 / (1 + found.held_out))


def test_every_detector_stands_beside_the_one_that_decides(found: AnomaliesResult) -> None:
    assert {one.name for one in found.detectors} == ALL
    best = max(found.detectors, key=lambda one: one.area.value)
    assert found.detector == best.name and f"(AUROC {best.area.value:.3f})" in found.why
    assert all(one.area.low <= one.area.value <= one.area.high for one in found.detectors)
    assert {one.name: one.weight for one in found.detectors if one.weight} == OF_WHOLE_IMAGES
    assert {one.name for one in found.detectors if one.pixel_area is not None} == ALL - {LIKELIHOOD}
    assert set(found.images[0].p_values) == ALL - {COMBINED}
    shown = max((one for one in found.detectors if one.pixel_area), key=lambda one: one.pixel_area.value)
    assert f"The heat maps are those of “{TITLES[shown.name]}”, which show best where defects were drawn" in found.why
    text = found.text()
    assert "AUROC, drawn defects" in text and found.why in text and text.endswith(HOW_TO_READ)


def test_result_table_and_heat_maps_are_written(found: AnomaliesResult, out: Path) -> None:
    values = json.loads((out / RESULT).read_text())
    assert values == json.loads(json.dumps(found.to_json()))
    assert AnomaliesResult.from_json(values).to_json() == values
    lines = list(csv.DictReader(io.StringIO((out / TABLE).read_text())))
    assert [line["path"] for line in lines] == [image.path for image in found.images]
    assert lines[0]["anomalous"] == "1" and float(lines[0]["p_denoising"]) > 0
    assert len(list((out / HEAT_MAPS).rglob("*.png"))) == 10
    heat = np.array(Image.open(out / found.images[0].heat_map)).astype(int)
    assert heat.shape == (256, 256, 3)
    assert np.abs(heat[..., 0] - heat[..., 2]).max() > 50  # coloured somewhere


def test_without_a_model_the_distances_alone_are_compared(normals: Path, folder: Path, checkpoint: Path) -> None:
    alone = run(normals, folder)
    assert {one.name for one in alone.detectors} == {PATCHES, PIXELS, COMBINED, COMBINED_LOCAL}
    assert alone.model.startswith("No model of the normal images") and alone.images[0].heat_map == ""
    chosen = run(normals, folder, detector=PIXELS, false_alarm=0.2)
    assert "The heat maps are those of “nearest normal image”." in chosen.why
    assert chosen.detector == PIXELS and "is used, as requested" in chosen.why and chosen.false_alarm == 0.2
    with pytest.raises(BadRequest, match="The detector denoising needs a model"):
        run(normals, folder, detector=DENOISING)
    seen: list[str] = []
    with pytest.raises(BadRequest, match="A false-alarm rate of 0.001 needs more normal images"):
        anomalies(
            AnomaliesRequest(normals, folder, device="cpu", false_alarm=0.001),
            Library(),
            on_progress=lambda what, *_: seen.append(what),
        )
    assert seen and not any(what.startswith("Scoring") for what in seen)  # before anything is scored


def test_a_gan_has_no_denoising_errors(normals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = module._subject(str(write_checkpoint(tmp_path / "gan.safetensors")), Library())
    recipe = replace(RECIPE, objective=ObjectiveRecipe(kind=ObjectiveName.GAN))
    model, sentence = module._model(replace(subject, recipe=recipe), None, lambda *_: None)  # type: ignore[arg-type]
    assert model is None and sentence.startswith("gan is not a diffusion model")


def test_what_makes_scores_doubtful_is_said(normals: Path, tmp_path: Path) -> None:
    searched = write_images(tmp_path / "searched", 4, seed=2)
    (searched / "red" / "copy.png").write_bytes(next((normals / "red").glob("*.png")).read_bytes())
    Image.new("RGB", (16, 16), "red").save(searched / "flat.png")
    notes = run(normals, searched).notes
    assert any("1 of 6 images is also among the normal ones, such as red/copy.png" in note for note in notes)
    assert any("of a single colour" in note for note in notes)


def test_images_that_are_all_normal_ones_are_not_searched(normals: Path) -> None:
    for inside in (normals, normals / "red"):
        with pytest.raises(BadRequest, match="they are in the folder of normal images"):
            run(normals, inside)


def test_anomalies_among_the_images_to_compare_with_are_said(tmp_path: Path, folder: Path) -> None:
    """They are not held out, so that no score says it, and similar anomalies are near to them."""
    spoiled = write_images(tmp_path / "normals", 60, seed=0)
    rng = np.random.default_rng(0)
    names = [f"noise-{number}.png" for number in range(12)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(spoiled / "red" / name)
    real = module.read_real(spoiled, None, lambda *_: None, lambda: None)
    training_names = {real.dataset.paths[index].name for index in real.training} & set(names)
    for name in set(names) - training_names:
        (spoiled / "red" / name).unlink()
    for name in sorted(training_names)[1:]:
        (spoiled / "red" / name).unlink()
    notes = run(spoiled, folder, detector=PIXELS).notes
    assert any(
        "1 of " in note and "is unlike the others, alone or in small groups: red/noise-" in note for note in notes
    )


def test_anomalies_among_the_normal_images_are_listed(tmp_path: Path, folder: Path) -> None:
    """A black image whose name makes it one of the held-out ones."""
    spoiled = write_images(tmp_path / "normals", 60, seed=0)
    for number in range(20):
        path = spoiled / "red" / f"black-{number}.png"
        Image.new("RGB", (16, 16)).save(path)
        real = module.read_real(spoiled, None, lambda *_: None, lambda: None)
        if path.relative_to(spoiled) in [real.dataset.paths[index] for index in real.held_out]:
            break
        path.unlink()
    found = run(spoiled, folder, detector=PIXELS)
    assert found.suspicious_normals == [path.relative_to(spoiled).as_posix()]
    assert any("held-out normal images score far above the others" in note for note in found.notes)


def test_held_out_images_that_are_compared_with_themselves_do_not_calibrate(tmp_path: Path, folder: Path) -> None:
    """Their distances are 0: with them, every new normal image would be called anomalous."""
    repeated = tmp_path / "repeated"
    trained_on = write_images(repeated / "train", 40, seed=0)  # divided by the person, or copies were on one side
    held_out = write_images(repeated / "val", 24, seed=5)
    for path in sorted(trained_on.rglob("*.png"))[:12]:
        (held_out / path.parent.name / path.name).write_bytes(path.read_bytes())
    found = run(repeated, folder, detector=PIXELS)
    assert any("held-out normal images are equal to images to compare with, such as" in note for note in found.notes)
    assert min(found.normal_scores) > 0 and sum(image.anomalous for image in found.images) < 6
    five = tmp_path / "five"
    five.mkdir()
    for number in range(100):
        Image.new("RGB", (16, 16), (40 * (number % 5), 90, 10)).save(five / f"{number}.png")
    with pytest.raises(
        FolderProblem, match="8 different ones must be held out to calibrate the scores, and 2 of 100 are"
    ):
        run(five, folder)


def test_few_normals_raise_the_rate_or_are_refused(tmp_path: Path, folder: Path) -> None:
    few = write_images(tmp_path / "few", 22, seed=3)
    found = run(few, folder)
    assert found.false_alarm > 0.05 and any("the lowest that" in note for note in found.notes)
    with pytest.raises(
        FolderProblem, match="There are too few normal images in three: 8 different ones must be held out"
    ):
        run(write_images(tmp_path / "three", 3, seed=0), folder)


def test_a_checkpoint_that_is_broken_or_none_is_said(normals: Path, folder: Path, tmp_path: Path) -> None:
    spoiled = write_checkpoint(tmp_path / "spoiled.safetensors", spoil=True)
    with pytest.raises(CheckpointDamaged, match="it returns NaN or infinite values"):
        run(normals, folder, checkpoint=str(spoiled))
    with pytest.raises(BadRequest, match="is a folder of images, not a checkpoint"):
        run(normals, folder, checkpoint=str(folder))
    with pytest.raises(Interrupted):
        anomalies(AnomaliesRequest(normals, folder, device="cpu"), Library(), cancelled=lambda: True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"checkpoint": "a", "minutes": 1.0}, "Both a checkpoint and a training time were given"),
        ({"minutes": 1.0}, "There is no folder for the model to train"),
        ({"false_alarm": 0.0}, "The false-alarm rate is 0"),
        ({"draws": 0}, "The number of noise samples is 0"),
        ({"detector": "best"}, "There is no detector called 'best'. Choose one of auto, denoising"),
        ({"detector": "likelihood"}, "The detector likelihood needs a model"),
        ({"seed": -1}, "The seed is -1"),
    ],
)
def test_requests_that_cannot_be_carried_out(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadRequest, match=expected):
        AnomaliesRequest(Path("a"), Path("b"), **options)


class Trainer:
    """In place of training: writes a half-trained checkpoint, waits for a command, and finishes where no stop was asked for."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.wait_for: Command | None = None

    def __call__(self, path: Path, images: Path | None = None, **given: Any) -> None:
        self.asked.append(given)
        run = RunFolder(path)
        if given.get("resume"):
            run.send(Command.RUN)
        else:
            assert images is not None
            recipe = replace(RECIPE, run=replace(RECIPE.run, minutes=given["minutes"]))
            RunFolder.create(path, recipe, images)
        write_checkpoint(run.latest_checkpoint, Conditioning.NONE)
        deadline = time.monotonic() + 30
        while self.wait_for not in (None, run.command()):
            assert time.monotonic() < deadline and not Lease().is_held
            time.sleep(0.01)
        stopped = run.command() is Command.STOP
        run.append(RunStopped(1) if stopped else RunFinished(2, "latest.safetensors", True, "It has learned."))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    trainer = Trainer()
    monkeypatch.setattr(training, "train", trainer)
    return trainer


def test_a_model_is_trained_once_and_goes_on_where_it_was_stopped(
    normals: Path, folder: Path, tmp_path: Path, trainer: Trainer
) -> None:
    """A half-trained model is not taken for the one that was asked for."""
    request = AnomaliesRequest(normals, folder, minutes=0.5, draws=1, device="cpu", out=tmp_path / "out")
    trainer.wait_for = Command.STOP
    with pytest.raises(Interrupted, match="The training was stopped. Start it again with its result in"):
        anomalies(request, Library(), cancelled=lambda: bool(trainer.asked))
    JobFolder(tmp_path / "out").send(Command.STOP)
    with pytest.raises(Interrupted):
        anomalies(request, Library())
    JobFolder(tmp_path / "out").send(Command.RUN)
    trainer.wait_for = None
    found = anomalies(request, Library())
    assert [given.get("minutes") for given in trainer.asked] == [0.5, None, None]
    assert all(given["resume"] for given in trainer.asked[1:]) and found.model.startswith("Model: run")
    assert training.trained(request, tmp_path / "out", lambda *_: None, lambda: None, lambda: False)
    assert len(trainer.asked) == 3
    with pytest.raises(BadRequest, match=r"holds another search for anomalies: it trains on .*, 0.5 minutes"):
        anomalies(replace(request, minutes=2.0), Library())
    with pytest.raises(BadRequest, match="holds another search for anomalies"):
        anomalies(replace(request, normals=folder, folder=normals), Library())


def test_a_run_of_another_folder_is_not_taken(normals: Path, folder: Path, tmp_path: Path, trainer: Trainer) -> None:
    trainer(tmp_path / "out" / "run", folder, minutes=0.5)
    with pytest.raises(BadRequest, match="holds another search for anomalies"):
        run(normals, folder, minutes=0.5, out=tmp_path / "out")
    trainer(tmp_path / "same" / "run", normals, minutes=0.5)
    request = AnomaliesRequest(normals, folder, minutes=0.5, out=tmp_path / "same")
    training.trained(request, tmp_path / "same", lambda *_: None, lambda: None, lambda: False)
    assert len(trainer.asked) == 2
