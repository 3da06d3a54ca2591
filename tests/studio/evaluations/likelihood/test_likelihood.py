"""Bits per dimension of folders: against the entropy of data that is known, and what is said, left out and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm

from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.errors import BadRequest, CheckpointDamaged, Interrupted
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.likelihood import likelihood as module
from diffstudio.studio.evaluations.likelihood.likelihood import RESULT, likelihood
from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
from diffstudio.studio.evaluations.likelihood.result import BOUND, FLOW, HOW_TO_READ, LikelihoodResult
from diffstudio.training.recipe import DataRecipe, ObjectiveRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.run.run_folder import RunFolder
from tests.diffusion.exact import Gaussian
from tests.studio.evaluations.small_models import RECIPE, write_checkpoint, write_images

MEAN, DEVIATION = 0.1, 0.15


class KnownModel:
    """The exact denoiser of images whose values are independent and normal."""

    schedule, device = RectifiedFlow(), torch.device("cpu")

    def prompt_encoder(self, clip_skip: int | None) -> Any:
        return lambda texts: texts

    def denoiser(self, prompt: object, guidance: float) -> Gaussian:
        assert guidance == 1.0
        return Gaussian(self.schedule, MEAN, DEVIATION)


def write_normal_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        values = ((rng.normal(MEAN, DEVIATION, (16, 16)) + 1) * 127.5).round().clip(0, 255)
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{number:03d}.png")
    return folder


def run(checkpoint: Path, folder: Path, **options: Any) -> LikelihoodResult:
    few = {"count": 3, "probes": 2, "levels": 4, "device": "cpu"}
    return likelihood(LikelihoodRequest(str(checkpoint), folder, **(few | options)), Library())


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """The flow of a random network is followed roughly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TOLERANCE", 0.1)
        yield


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("real"), 12, seed=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "squares.safetensors")


@pytest.fixture(scope="module")
def found(real: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> LikelihoodResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFSTUDIO_HOME", str(tmp_path_factory.mktemp("home")))
        return run(checkpoint, real)


def test_images_of_a_known_density_have_its_entropy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways within 1% of the bits of a quantised Gaussian, through files of 8 bits."""
    folder = write_normal_images(tmp_path / "normal", 60)
    recipe = replace(RECIPE, data=DataRecipe(size=16, held_out=0.5, flips=0.0, channels=1))
    path = write_checkpoint(tmp_path / "known.safetensors", Conditioning.NONE, recipe)
    monkeypatch.setattr(module.loading, "load", lambda *_: KnownModel())
    monkeypatch.setattr(module, "_TOLERANCE", 1e-3)
    result = run(path, folder, count=40, levels=48)
    values = np.arange(256)
    half = [norm.cdf(((values + side) / 127.5 - 1 - MEAN) / DEVIATION) for side in (0.5, -0.5)]
    chances = half[0] - half[1]
    entropy = float(-(chances * np.log2(np.maximum(chances, 1e-300))).sum())
    assert {part.name for part in result.parts} == {"held-out images", "training images"}
    for part in result.parts:
        for name in (FLOW, BOUND):
            assert part.means[name].value == pytest.approx(entropy, rel=0.01)
            assert part.means[name].low < entropy < part.means[name].high + 0.01 * entropy
    assert result.dimensions == 256 and result.settings["probes"] == 2
    assert all(gap.low < 0.02 and gap.high > -0.02 for gap in result.gaps.values())
    assert result.smallest_noise == pytest.approx(2 / 255)
    assert "+ 6.9944" in result.formulas[FLOW] and "-log2(2 / 255)" in result.formulas[FLOW]


def test_what_the_figures_depend_on_is_in_the_result(found: LikelihoodResult) -> None:
    values = json.loads(json.dumps(found.to_json()))
    assert values["dimensions"] == 16 * 16 * 3 and values["bits"] == 8
    assert "2 / 255 apart" in values["formulas"][FLOW] and "without an offset" in values["formulas"][FLOW]
    assert "without an offset" in values["formulas"][BOUND]
    assert values["condition"] == "Conditional: each image with its own class. EMA weights, no guidance."
    image = values["parts"][0]["images"][0]
    assert image["label"] in ("red", "blue") and image["probe_error"] > 0 and set(image["bits"]) == {FLOW, BOUND}
    assert LikelihoodResult.from_json(values).to_json() == values
    text = found.text()
    assert "held-out images, 3 of" in text and "probability flow" in text and text.endswith(HOW_TO_READ)
    assert "held-out minus training" in text


def test_the_same_request_gives_the_same_bits(found: LikelihoodResult, real: Path, checkpoint: Path) -> None:
    again = run(checkpoint, real)
    for part, other in zip(found.parts, again.parts, strict=True):
        assert [image.bits for image in part.images] == [image.bits for image in other.images]


def test_the_bound_alone_and_other_conditions(real: Path, tmp_path: Path) -> None:
    by_text = write_checkpoint(tmp_path / "text.safetensors", Conditioning.TEXT)
    bound = run(by_text, real, flow=False)
    assert set(bound.parts[0].means) == set(bound.formulas) == {BOUND} and "probes" not in bound.settings
    assert bound.condition.startswith("Conditional: each image with its own caption, or none.")
    unconditional = run(write_checkpoint(tmp_path / "none.safetensors", Conditioning.NONE), real, flow=False)
    assert unconditional.condition == "Unconditional. EMA weights, no guidance."
    one_probe = run(by_text, real, probes=1, count=2)
    assert one_probe.parts[0].images[0].probe_error is None


def test_classes_that_it_does_not_know_are_left_out(tmp_path: Path, checkpoint: Path) -> None:
    folder = write_images(tmp_path / "real", 16, seed=0)
    (folder / "blue").rename(folder / "green")
    result = run(checkpoint, folder, flow=False)
    assert all(image.label == "red" for part in result.parts for image in part.images)
    assert any("have a class that squares does not know" in note for note in result.notes)
    (folder / "red").rename(folder / "yellow")
    with pytest.raises(BadRequest, match=r"squares knows only the classes blue, red"):
        run(checkpoint, folder, flow=False)


def test_another_folder_is_held_out_and_what_it_shares_is_said(tmp_path: Path) -> None:
    trained_on = write_images(tmp_path / "trained on", 8, seed=1)
    run_folder = RunFolder.create(tmp_path / "run", RECIPE, trained_on)
    write_checkpoint(run_folder.latest_checkpoint)
    other = write_images(tmp_path / "other", 6, seed=2)
    (other / "red" / "copy.png").write_bytes(next((trained_on / "red").glob("*.png")).read_bytes())
    result = run(run_folder.path, other, flow=False)
    assert [part.name for part in result.parts] == ["held-out images"] and result.parts[0].available == 7
    assert not result.gaps
    assert any("1 of 7 images is also in that folder, such as red/copy.png" in note for note in result.notes)
    assert "There are no training images, so only one part is measured and no difference." in result.notes


def test_what_has_no_likelihood_is_said(real: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="is a folder of images and has no likelihood"):
        run(real, real)
    spoiled = write_checkpoint(tmp_path / "spoiled.safetensors", spoil=True)
    with pytest.raises(CheckpointDamaged, match="The likelihood of spoiled cannot be computed"):
        run(spoiled, real)
    unknown = write_images(tmp_path / "unknown", 8, seed=0, classes=False)
    known = write_checkpoint(tmp_path / "known.safetensors")
    with pytest.raises(
        BadRequest, match=r"of \d held-out images, 0 can be measured, .* known knows only the classes blue, red"
    ):
        run(known, unknown)
    with pytest.raises(BadRequest, match="The number of images is 1: it must be between 2 and"):
        LikelihoodRequest("x", real, 1)


def test_a_gan_is_refused(real: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = module.find_subjects

    def found(names: tuple[str, ...], library: Library) -> list[Any]:
        recipe = replace(RECIPE, objective=ObjectiveRecipe(kind=ObjectiveName.GAN))
        return [replace(one, recipe=recipe) for one in find(names, library)]

    monkeypatch.setattr(module, "find_subjects", found)
    with pytest.raises(BadRequest, match="a GAN has no density"):
        run(checkpoint, real)


def test_a_flow_that_is_not_finite_is_said(real: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr(module, "log_likelihood", broken)
    with pytest.raises(CheckpointDamaged, match="its estimates are NaN or infinite"):
        run(checkpoint, real, levels=1)


def test_it_is_written_and_can_be_stopped(real: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, real, out=tmp_path / "out", flow=False)
    assert json.loads((tmp_path / "out" / RESULT).read_text()) == json.loads(json.dumps(result.to_json()))
    with pytest.raises(Interrupted):
        likelihood(LikelihoodRequest(str(checkpoint), real, device="cpu"), Library(), cancelled=lambda: True)
