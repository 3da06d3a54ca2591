"""The whole of an evaluation: what is measured, said, refused, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointMissing, FolderProblem, Interrupted
from diffstudio.evaluation.features import folder_network
from diffstudio.evaluation.features.feature_network import FeatureNetwork
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations import evaluate as module
from diffstudio.studio.evaluations.evaluate import RESULT, evaluate
from diffstudio.studio.evaluations.measure import FeatureFiles, views_of
from diffstudio.studio.evaluations.request import EvaluateRequest
from diffstudio.studio.evaluations.result import Evaluation
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.run.run_folder import Command, RunFolder
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images

FIGURES = {"frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage", "vendi"}
TESTS = {"copies", "nearer_to_training"}


def pixels(name: str, *_: object) -> FeatureNetwork:
    """In place of a network that would have to be trained: an image's pixels at 4 px."""
    return FeatureNetwork("pixels", 48, "resized to 4 px", lambda images: F.avg_pool2d(images, 4).flatten(1))


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Pixels as features, unless the network is named, and few resamples."""
    choose = module.feature_network

    def chosen(name: str, *given: Any) -> FeatureNetwork:
        return pixels(name) if name == "auto" else choose(name, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_network, "STEPS", 25)
        patch.setattr(module, "feature_network", chosen)
        for name in ("real_row", "row"):
            full = getattr(module, name)
            patch.setattr(module, name, lambda *given, full=full, **named: full(*given, resamples=12, **named))
        yield


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough images that both halves have 100, with captions."""
    return write_images(tmp_path_factory.mktemp("real"), 250, seed=0, captions=True)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("made"), 110, seed=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "squares.safetensors")


def run(*subjects: Path, folder: Path, **options: Any) -> Evaluation:
    request = EvaluateRequest(tuple(map(str, subjects)), folder, **({"device": "cpu"} | options))
    return evaluate(request, Library())


@pytest.fixture(scope="module")
def both(real: Path, generated: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFSTUDIO_HOME", str(tmp_path_factory.mktemp("home")))
        return run(checkpoint, generated, folder=real, seed=7, features="folder")


def test_the_table_has_the_real_row_first_and_all_rows_are_of_one_size(both: Evaluation) -> None:
    found = json.loads(json.dumps(both.to_json()))
    rows = found["rows"]
    assert [row["name"] for row in rows] == ["real images (training part)", "squares", both.subjects[1].name]
    assert {row["count"] for row in rows} == {found["counts"]["compared"]} and rows[0]["count"] >= 100
    for row in rows:
        assert set(row) > FIGURES | TESTS
        for name in set(row) - {"name", "count"}:
            assert set(row[name]) == {"value", "low", "high"}
            assert row[name]["value"] is None or row[name]["low"] <= row[name]["value"]
    random, faithful = rows[1:]
    assert faithful["frechet_distance"]["value"] < random["frechet_distance"]["low"]
    assert rows[0]["copies"]["value"] == 1.0 and faithful["copies"]["value"] < 0.1
    assert faithful["agreement"]["value"] > 0.9 > random["agreement"]["value"]
    assert "loss_gap" in random and "loss_gap" not in faithful
    assert len(found["details"][0]["loss_gap_by_noise_level"]) == 9


def test_it_says_how_it_was_made_and_how_to_read_it(both: Evaluation) -> None:
    found, text = both.to_json(), both.text()
    assert "a small network trained on the folder's training part (2 classes" in found["features"]
    assert found["resizing"] == "resized to 16 px, bilinear"
    assert found["counts"]["training"] + found["counts"]["held_out"] == 250
    sampling = found["details"][0]["sampling"]
    assert sampling["seed"] == 7 and sampling["sampler"] == "euler" and sampling["weights"] == "EMA"
    assert sampling["images"] == found["counts"]["held_out"]
    lines = text.split("\n")
    header = next(line for line in lines if "Fréchet" in line)
    assert lines.index(header) < next(i for i, line in enumerate(lines) if line.startswith("real images"))
    assert lines[-3].startswith("The first row compares real") and "95% intervals" in lines[-3]
    assert lines[-1].startswith("Mode collapse shows in the second table")
    assert "agreement by chance would be 0.5" in text


def test_its_second_table_shows_mode_collapse_by_class_and_by_duplicates(both: Evaluation) -> None:
    found, text = both.to_json(), both.text()
    assert [one["name"] for one in found["diversity"]] == [row["name"] for row in found["rows"]]
    for one, row in zip(found["diversity"], found["rows"], strict=True):
        assert one["birthday"]["images"] == row["count"] and one["birthday"]["support"] == row["support"]
        assert {"modes", "classes", "class_vendi"} < set(row)
        assert set(one["by_class"]) <= {"red", "blue"}
        for figures in one["by_class"].values():
            assert figures["vendi"] >= 1 and figures["real_vendi"] >= 1 and 0 <= figures["coverage"] <= 1
    random, faithful = found["rows"][1:]
    assert faithful["modes"]["value"] > random["modes"]["value"]
    header = next(line for line in text.split("\n") if "Vendi in a class" in line)
    assert header.split()[:3] == ["images", "modes", "classes"] and header.split()[-1] == "support"
    assert "duplicates among" in text and "Vendi score by class, and that of as many real images" in text
    assert "no image of the classes" in text or random["classes"]["value"] == 1


def test_the_same_request_gives_the_same_figures(
    both: Evaluation, real: Path, generated: Path, checkpoint: Path
) -> None:
    again = run(checkpoint, generated, folder=real, seed=7, features="folder").to_json()
    assert again["rows"] == both.to_json()["rows"]


def test_captions_and_no_condition(real: Path, tmp_path: Path) -> None:
    by_text = write_checkpoint(tmp_path / "text.safetensors", Conditioning.TEXT)
    unconditional = write_checkpoint(tmp_path / "none.safetensors", Conditioning.NONE)
    found = run(by_text, unconditional, folder=real, count=100)
    assert {"a red square", "a blue square"} == set(found.subjects[0].agreement_by_label)
    assert found.subjects[1].agreement_chance is None and "agreement" not in found.subjects[1].figures
    assert found.subjects[1].row is not None and found.subjects[1].row.count == 100
    assert found.real is not None and found.real.count == 100


def test_too_few_images_are_no_table_but_copies_are_told(tmp_path: Path, checkpoint: Path) -> None:
    folder = write_images(tmp_path / "few", 40, seed=0)
    found = run(checkpoint, folder=folder)
    assert found.real is None and found.to_json()["rows"] == []
    assert "too few training images to compare: 100 are needed and there are" in found.to_json()["problem"]
    assert "Fréchet" not in found.text() and "0 of 100 images are copies" in found.text()
    assert set(found.to_json()["details"][0]["memorisation"]) >= {"copies", "loss_gap"}
    with pytest.raises(BadRequest, match="There are too few training images to compare: 100 are needed and there are"):
        run(checkpoint, folder=write_images(tmp_path / "three", 3, seed=0))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderProblem, match="the folder is empty"):
        run(checkpoint, folder=tmp_path / "empty")


def test_few_generated_images_do_not_take_the_table_from_others(real: Path, generated: Path, tmp_path: Path) -> None:
    few = write_images(tmp_path / "few", 12, seed=3)
    found = run(generated, few, folder=real)
    assert [row["name"] for row in found.to_json()["rows"]][1:] == [generated.name]
    assert "There are too few images of few to compare: 100 are needed and there are 12" in found.to_json()["problem"]
    assert any("No checkpoint says which images were held out" in note for note in found.notes)


def test_only_as_many_generated_images_as_can_be_compared_get_features(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extracted: dict[str, int] = {}
    extract = FeatureFiles.extract

    def counted(self: FeatureFiles, name: str, what: str, batches: Any, count: int, views: Any) -> Any:
        extracted[name] = count
        return extract(self, name, what, batches, count, views)

    monkeypatch.setattr(FeatureFiles, "extract", counted)
    many = write_images(tmp_path / "many", 300, seed=4)
    found = run(many, folder=real)
    part = min(extracted["training"], extracted["held-out"])
    assert extracted["generated-0"] == part < 250
    (row,) = found.to_json()["rows"][1:]
    assert row["count"] == part
    assert any(note.startswith(f"{part} of the 300 images of many, drawn at random") for note in found.notes)


def test_generated_images_that_are_real_ones_or_all_equal(real: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderProblem, match=r"250 of 250 images in \w+ are real images"):
        run(real, folder=real)
    (tmp_path / "flat").mkdir()
    for number in range(100):
        Image.new("RGB", (16, 16), "red").save(tmp_path / "flat" / f"{number}.png")
    found = run(tmp_path / "flat", folder=real)
    assert "All 100 images of flat are identical." in found.notes
    assert "100 of 100 images of flat are of a single colour." in found.text()


def test_copies_of_training_images_are_called_copies_flipped_ones_too(
    real: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """The recipe flips images; without its flips the copies would be new images."""
    dataset = module.read_real(real, RECIPE.data, lambda *_: None, lambda: None)
    rng = np.random.default_rng(0)
    (tmp_path / "copied").mkdir()
    for number, index in enumerate(dataset.training[:100]):
        pixels = dataset.dataset.images[index][:, ::-1].astype(float)
        pixels = (pixels + rng.normal(size=pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "copied" / f"{number:03d}.png")
    found = run(checkpoint, tmp_path / "copied", folder=real, count=100)
    copied = found.subjects[1]
    assert copied.figures["copies"].value >= 0.9
    near = {one.image: one.training for one in copied.copies}
    paths = [dataset.dataset.paths[index].as_posix() for index in dataset.training[:100]]
    assert all(paths[int(image.split(".")[0])] == training for image, training in near.items())


def test_one_class_alone_and_another_folder_are_said(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 250, seed=0)
    run_folder = RunFolder.create(tmp_path / "run", RECIPE, tmp_path / "elsewhere")
    write_checkpoint(run_folder.latest_checkpoint)
    one = run(run_folder.path, folder=folder, count=100)
    assert any(note.startswith(f"run was trained on {tmp_path / 'elsewhere'}") for note in one.notes)
    (folder / "blue").rename(folder / "not blue")
    only = run(run_folder.path, folder=folder, count=100)
    assert any("have a class that it does not know" in note for note in only.notes)
    captioned = write_images(tmp_path / "same", 250, seed=2, classes=False)
    for image in captioned.glob("*.png"):
        image.with_suffix(".txt").write_text("a red square")
    by_text = write_checkpoint(tmp_path / "text.safetensors", Conditioning.TEXT)
    found = run(by_text, folder=captioned, count=100)
    assert any("All held-out images have the same caption" in note for note in found.notes)
    assert "agreement" not in found.subjects[0].figures


def test_values_that_are_not_finite_are_named(
    real: Path, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = write_checkpoint(tmp_path / "spoiled.safetensors", spoil=True)
    with pytest.raises(CheckpointDamaged, match="spoiled cannot be measured: .* have NaN or infinite values"):
        run(spoiled, folder=real)

    def broken(images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 3), float("nan"))

    monkeypatch.setattr(module, "feature_network", lambda *_: FeatureNetwork("broken", 3, "", broken))
    with pytest.raises(BadRequest, match=r"features cannot be measured: \d+ of \d+ are not finite"):
        run(generated, folder=real)


def test_it_is_stopped_by_the_caller_and_by_the_control_file(real: Path, checkpoint: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    request = EvaluateRequest((str(checkpoint),), real, features="folder", device="cpu", out=tmp_path / "out")

    def show(what: str, done: int, total: int) -> None:
        seen.append(what)
        if what.startswith("Generating"):
            RunFolder(tmp_path / "out").send(Command.STOP)

    with pytest.raises(Interrupted, match="The evaluation was stopped"):
        evaluate(request, Library(), on_progress=show)
    assert any(what.startswith("Training the feature network") for what in seen)
    assert not (tmp_path / "out" / RESULT).exists()
    with pytest.raises(Interrupted):
        evaluate(replace(request, out=None), Library(), cancelled=lambda: True)


def test_the_result_is_written(real: Path, generated: Path, tmp_path: Path) -> None:
    found = run(generated, folder=real, out=tmp_path / "new" / "out")
    assert json.loads((tmp_path / "new" / "out" / RESULT).read_text()) == json.loads(json.dumps(found.to_json()))


def test_a_network_that_is_not_there_is_said(real: Path, generated: Path) -> None:
    with pytest.raises(CheckpointMissing, match="There is no DINOv2 in the model folders"):
        run(generated, folder=real, features="dinov2")
    with pytest.raises(CheckpointMissing, match="There is no feature network at /nowhere"):
        run(generated, folder=real, features="/nowhere")


def test_views_are_the_augmentations_of_the_recipe() -> None:
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    assert len(views_of(DataRecipe(size=16, flips=0.0))) == 1
    same, flipped = views_of(DataRecipe(size=16))
    torch.testing.assert_close(same(image), image)
    torch.testing.assert_close(flipped(flipped(image)), image)
    moved = views_of(DataRecipe(size=16, rotation_degrees=20))
    assert len(moved) == 8
    torch.testing.assert_close(moved[3](image), moved[3](image))
    assert not torch.equal(moved[3](image), moved[4](image))
    assert len(views_of(DataRecipe(size=16, flips=0.0, translation=0.01))) == 1  # less than a pixel


def test_features_are_kept_in_files(tmp_path: Path) -> None:
    network = FeatureNetwork("mean", 3, "", lambda images: images.mean(dim=(2, 3)))
    files = FeatureFiles(network, 3, tmp_path, lambda *_: None, lambda: None)
    images = torch.rand(70, 3, 4, 4)
    found = files.extract("a", "", images.split(32), 70, [lambda images: images, lambda images: -images])
    np.testing.assert_allclose(found[0, :, :3], images.mean(dim=(2, 3)).numpy(), rtol=1e-6)
    np.testing.assert_allclose(found[1], -found[0])
    assert found.shape == (2, 70, 3 + 3 * 256) and (tmp_path / "a.npy").stat().st_size > found.nbytes
