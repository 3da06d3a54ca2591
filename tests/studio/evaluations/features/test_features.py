"""Features of a folder: against a direct computation, the choice by validation, the files, and what is said and refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.errors import BadRequest, CheckpointDamaged, DiffstudioError, FolderProblem, Interrupted
from diffstudio.models import loading
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.evaluations.features.features import features
from diffstudio.studio.evaluations.features.probing import small_pixels
from diffstudio.studio.evaluations.features.request import FeaturesRequest
from diffstudio.studio.evaluations.features.result import NEIGHBOURS, PROBE, FeaturesResult
from tests.models.families.test_one_call import written
from tests.models.inspection.models import load
from tests.studio.evaluations.small_models import write_checkpoint, write_images


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "own.safetensors")


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "squares", 40, seed=0)


def run(checkpoint: Path, folder: Path, **options: Any) -> FeaturesResult:
    few: dict[str, Any] = {"levels": (0.1, 0.5), "device": "cpu"}
    return features(FeaturesRequest(str(checkpoint), folder, **(few | options)), Library())


def test_classes_are_told_apart_and_files_written(checkpoint: Path, squares: Path, tmp_path: Path) -> None:
    """Red and blue squares: any features tell them apart, and so do raw pixels."""
    found = run(checkpoint, squares, out=tmp_path / "out")
    assert found.classes == ["blue", "red"] and found.parts == {"training": 24, "validation": 8, "test": 8}
    linear = found.accuracy[PROBE]
    assert np.shape(linear.validation) == (1, 2) and linear.test.value == 1.0 == linear.pixels.value
    assert found.accuracy[NEIGHBOURS].test.value == 1.0 and linear.layer == "block 0" and linear.level in (0.1, 0.5)
    exported = np.load(tmp_path / "out" / "features.npy", allow_pickle=False)
    assert exported.shape == (40, 16) and exported.dtype == np.float32
    with (tmp_path / "out" / "ids.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(40)) and rows[0]["path"].startswith("blue/")
    assert {row["part"] for row in rows} == {"training", "validation", "test"}
    ids = json.loads((tmp_path / "out" / "ids.json").read_text())
    assert [one["path"] for one in ids["images"]] == [row["path"] for row in rows]
    assert FeaturesResult.from_json(json.loads((tmp_path / "out" / "features.json").read_text())) == found
    assert "about as well as raw pixels" in found.verdict and "best on the validation part" in found.text()


def test_features_are_means_of_a_block_over_patches(checkpoint: Path, squares: Path, tmp_path: Path) -> None:
    run(checkpoint, squares, out=tmp_path / "out", layer="block 0", level=0.5, seed=3)
    exported = np.load(tmp_path / "out" / "features.npy")
    model = loading.load(read_checkpoint(checkpoint), torch.device("cpu"), torch.float32)
    path = sorted(squares.rglob("*.png"))[7]
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None] / 127.5 - 1
    noise = torch.randn((3, 16, 16), generator=torch.Generator().manual_seed(3 * 1_000_003 + 7))
    outputs: list[torch.Tensor] = []
    handle = model.network.blocks[0].register_forward_hook(lambda module, args, out: outputs.append(out))  # type: ignore[operator,union-attr,index]
    prompt = model.prompt_encoder(None)(StepTexts.plain([""], [""]))
    model.denoiser(prompt, 1.0)(0.5 * pixels + 0.5 * noise, torch.tensor([0.5], dtype=torch.float64))
    handle.remove()
    expected = outputs[0][0, 1:].mean(0)  # without the token of the class
    np.testing.assert_allclose(exported[7], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_copies_in_two_parts_are_said(checkpoint: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "made" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "made" / name / f"{number}.png")
    assert not any("duplicates" in note for note in run(checkpoint, tmp_path / "made", levels=(0.1,)).notes)
    for number in range(6):
        (tmp_path / "made" / "a" / f"copy-{number}.png").write_bytes(
            (tmp_path / "made" / "a" / f"{number}.png").read_bytes()
        )
    notes = run(checkpoint, tmp_path / "made", levels=(0.1,)).notes
    assert any("The accuracies may be too high: of" in note for note in notes)


def test_the_largest_seed_can_be_used(checkpoint: Path, squares: Path) -> None:
    assert run(checkpoint, squares, levels=(0.1,), count=12, seed=2**62).images == 12


def test_features_of_parts_of_the_image(checkpoint: Path, squares: Path, tmp_path: Path) -> None:
    found = run(checkpoint, squares, out=tmp_path / "out", pool=2, count=20)
    assert np.load(tmp_path / "out" / "features.npy").shape == (20, 4 * 16) and found.dimensions == [64]


def test_the_best_is_chosen_by_validation(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that know the classes at one level alone: that level is chosen and exported."""
    from diffstudio.studio.evaluations.features import features as module

    def known(denoiser: Any, blocks: Any, x_t: torch.Tensor, t: torch.Tensor, side: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(int(1000 * float(t[0])))
        noise = torch.randn(len(x_t), 4, generator=generator)
        if float(t[0]) == 0.5:
            noise[:, 0] = 100 * x_t[:, 0].mean((1, 2)) - 100 * x_t[:, 2].mean((1, 2))
        return [noise]

    monkeypatch.setattr(module, "block_features", known)
    path = write_checkpoint(tmp_path / "own.safetensors")
    found = run(path, squares, levels=(0.1, 0.5, 0.9), out=tmp_path / "out")
    assert found.exported_level == 0.5 == found.accuracy[PROBE].level and found.accuracy[PROBE].test.value == 1.0
    exported = np.load(tmp_path / "out" / "features.npy")
    assert abs(exported[:, 0]).mean() > 10  # those of that level


def test_a_folder_without_classes_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "plain", 6, seed=1, classes=False)
    found = run(checkpoint, folder, out=tmp_path / "out")
    assert found.accuracy == {} and "no classes" in found.verdict and found.exported_level == 0.1
    assert np.load(tmp_path / "out" / "features.npy").shape == (6, 16)
    assert found.verdict in found.text() and "features.npy" in found.text()


def test_small_classes_have_no_part_in_the_probe(checkpoint: Path, squares: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "few", 30, seed=1)
    (folder / "green").mkdir()
    Image.new("RGB", (16, 16), "green").save(folder / "green" / "one.png")
    found = run(checkpoint, folder, out=tmp_path / "out")
    assert found.images == 31 and found.classes == ["blue", "red"]
    assert any(note.startswith("Not used in the probe, only exported: 1 of 31 images") for note in found.notes)
    rows = json.loads((tmp_path / "out" / "ids.json").read_text())["images"]
    assert [one["part"] for one in rows if one["class"] == "green"] == [""]
    three = write_images(tmp_path / "three", 6, seed=1)
    few = run(checkpoint, three)
    assert few.accuracy == {} and "A probe needs two classes with 5 images each." in few.notes and few.files == []
    assert run(checkpoint, squares, count=20).images == 20


def test_the_held_out_images_of_a_run_are_the_test_part(
    checkpoint: Path, squares: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffstudio.studio.evaluations.features import features as module

    monkeypatch.setattr(module, "run_of", lambda subject: object())
    monkeypatch.setattr(module, "folder_of", lambda run: squares.resolve())
    monkeypatch.setattr(module, "with_split_of_run", lambda real, subjects, report, check: (real, ""))
    found = run(checkpoint, squares)
    assert "The test part is the images that the run held out." in found.notes
    assert found.parts["test"] > 8  # half of them, by the recipe


def test_latents_of_other_families(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A U-Net on latents, with as many blocks as it has levels, and a middle."""
    from dataclasses import replace

    from diffstudio.studio.evaluations.features import features as module
    from tests.models.small_flow import checkpoint_of

    model = load("sd1", tmp_path / "sd1")
    record = replace(checkpoint_of(tmp_path / "sd1", "sd1"), width=64, height=64)
    monkeypatch.setattr(module, "find_checkpoint", lambda name, library: record)
    monkeypatch.setattr(module.loading, "load", lambda *args, **named: model)
    found = run(Path("sd1"), squares, count=12, levels=(0.1,))
    assert len(found.layers) == 9 and found.layers[4] == "middle" and found.dimensions[4] == 64
    assert np.shape(found.accuracy[PROBE].validation) == (9, 1)


def test_models_of_one_call_are_refused(squares: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "vae.safetensors", "vae")
    with pytest.raises(BadRequest, match="The features of vae cannot be read"):
        run(path, squares)


def test_pixels_of_large_images_are_averaged() -> None:
    images = np.random.default_rng(0).random((2, 3, 64, 48)).astype(np.float32)
    small = small_pixels(images)
    assert small.shape == (2, 3 * 32 * 24) and small[0, 0] == pytest.approx(images[0, 0, :2, :2].mean())
    assert small_pixels(images[:, :, :8, :8]).shape == (2, 192)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"levels": (0.0,)}, BadRequest, "The noise level is 0.0"),
        ({"levels": ()}, BadRequest, "The count of noise levels is 0"),
        ({"level": 0.3}, BadRequest, "The noise level 0.3 is not measured"),
        ({"layer": "block 9"}, BadRequest, "has no layer 'block 9'"),
        ({"pool": 9}, BadRequest, "The pooling is 9"),
        ({"count": 0}, BadRequest, "The number of images is 0"),
        ({"folder": Path("nowhere")}, FolderProblem, "nowhere"),
    ],
)
def test_mistakes_are_named(
    options: dict[str, Any], error: type[DiffstudioError], said: str, checkpoint: Path, squares: Path
) -> None:
    folder = options.pop("folder", squares)
    with pytest.raises(error) as raised:
        run(checkpoint, folder, **options)
    assert said in str(raised.value)


def test_it_can_be_stopped(squares: Path, checkpoint: Path) -> None:
    calls = iter([False] * 60 + [True] * 10_000)
    with pytest.raises(Interrupted):
        features(FeaturesRequest(str(checkpoint), squares, device="cpu"), Library(), cancelled=lambda: next(calls))


def test_what_is_not_finite_is_said(squares: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffstudio.studio.evaluations.features import features as module

    monkeypatch.setattr(module, "block_features", lambda *args: [torch.full((1, 4), torch.nan)])
    with pytest.raises(CheckpointDamaged, match="NaN"):
        run(checkpoint, squares)
