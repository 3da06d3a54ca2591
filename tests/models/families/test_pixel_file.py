"""A checkpoint made here comes back as it was, says what it is in its header, and refuses what is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from diffstudio.diffusion.denoiser import denoiser_for
from diffstudio.diffusion.objectives.parameterisation import Parameterisation, Prediction
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.errors import CheckpointDamaged, StorageProblem
from diffstudio.models.families import pixel, pixel_file
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.unet import PixelUNet
from tests.networks.test_transformer import small, stirred
from tests.networks.test_unet import small as small_unet
from tests.training.test_trainer import OLD, predicted


@pytest.fixture
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.learn(["red apple", "ghost"], 300)


@pytest.fixture
def network(tokenizer: CaptionTokenizer) -> PixelTransformer:
    return stirred(small(conditioning=Conditioning.TEXT, vocab_size=tokenizer.vocabulary, text_tokens=4))


def test_comes_back_as_it_was(tmp_path: Path, network: PixelTransformer, tokenizer: CaptionTokenizer) -> None:
    path = tmp_path / "a.safetensors"
    pixel_file.save(
        path,
        network,
        title="An apple",
        tokenizer=tokenizer,
        thumbnail=Image.new("RGB", (8, 8), "red"),
        run={"steps": 3},
    )
    loaded = pixel_file.load(path)
    assert loaded.tokenizer is not None
    x, t = torch.randn(2, 3, 16, 16), torch.rand(2)
    condition = Condition(token_ids=loaded.tokenizer.encode(["red apple", "ghost"], 4))
    assert torch.equal(loaded.network(x, t, condition), network(x, t, condition))
    about = read_checkpoint(path)
    assert (about.family, about.conditioning, about.width, about.title) == ("pixel", Conditioning.TEXT, 16, "An apple")
    assert about.json("run") == {"steps": 3} and about.json("schedule")["kind"] == "rectified_flow"
    picture = pixel_file.thumbnail(about)
    assert picture is not None and picture[:4] == b"RIFF"
    assert sorted(file.name for file in tmp_path.glob("a*")) == [path.name]


@pytest.mark.parametrize("conditioning", [Conditioning.CLASS, Conditioning.TEXT])
def test_a_checkpoint_of_version_0_1_opens_with_its_old_keys(conditioning: Conditioning, tmp_path: Path) -> None:
    """And is the same network when it is saved under the current ones."""
    old = pixel_file.load(OLD / f"{conditioning}.safetensors")
    expected = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))[str(conditioning)]
    torch.testing.assert_close(
        predicted(old.network, conditioning), torch.tensor(expected["prediction_at_step_3"]), rtol=1e-5, atol=1e-7
    )
    path = tmp_path / "new.safetensors"
    pixel_file.save(path, old.network, title="x", tokenizer=old.tokenizer, classes=old.classes)
    assert set(safetensors.torch.load_file(path)) == set(old.network.state_dict())
    assert (
        read_checkpoint(path).json("format") == 2
        and read_checkpoint(OLD / f"{conditioning}.safetensors").json("format") == 1
    )
    new = pixel_file.load(path)
    assert new.network.config == old.network.config
    assert torch.equal(predicted(new.network, conditioning), predicted(old.network, conditioning))


def test_half_precision_is_half_the_file(tmp_path: Path, network: PixelTransformer) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    pixel_file.save(whole, network, title="x")
    pixel_file.save(half, network, title="x", dtype=torch.float16)
    tensors = 4 * sum(parameter.numel() for parameter in network.parameters())
    assert abs(whole.stat().st_size - half.stat().st_size - tensors // 2) < 500  # headers write offsets in decimals
    assert (read_checkpoint(whole).dtype, read_checkpoint(half).dtype) == ("F32", "F16")


def test_numbers_that_are_not_finite_are_refused(
    tmp_path: Path, network: PixelTransformer, tokenizer: CaptionTokenizer
) -> None:
    with torch.no_grad():
        network.final_layer.linear.bias[0] = float("nan")
    pixel_file.save(tmp_path / "a.safetensors", network, title="x", tokenizer=tokenizer)
    with pytest.raises(CheckpointDamaged, match="NaN or Inf"):
        pixel_file.load(tmp_path / "a.safetensors")


def test_tensors_that_do_not_fit_the_header_are_refused(
    tmp_path: Path, network: PixelTransformer, tokenizer: CaptionTokenizer
) -> None:
    path = tmp_path / "a.safetensors"
    pixel_file.save(path, network, title="x", tokenizer=tokenizer)
    tensors, metadata = safetensors.torch.load_file(path), dict(read_checkpoint(path).metadata)
    tensors.pop("final_layer.linear.bias")
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(CheckpointDamaged, match="do not match"):
        pixel_file.load(path)


def test_a_header_that_lies_is_refused(tmp_path: Path, network: PixelTransformer) -> None:
    path = tmp_path / "a.safetensors"
    pixel_file.save(path, network, title="x")  # without the tokenizer that a text network needs
    with pytest.raises(CheckpointDamaged):
        pixel_file.load(path)


@pytest.mark.parametrize("prediction", Prediction)
def test_the_header_says_what_the_network_predicts(tmp_path: Path, prediction: Prediction) -> None:
    """That of the clean image, as in all earlier files, needs no entry and no newer version of the program."""
    path, network = tmp_path / "a.safetensors", stirred(small(conditioning=Conditioning.NONE))
    about = Parameterisation(prediction)
    pixel_file.save(path, network, title="x", parameterisation=about)
    record = read_checkpoint(path)
    assert pixel_file.load(record).parameterisation == record.parameterisation == about
    assert record.prediction == {"x0": "", "velocity": "flow"}.get(prediction, str(prediction))
    plain = prediction is Prediction.X0
    assert ("diffstudio.prediction" not in record.metadata) is plain and record.json("format") == (2 if plain else 3)
    kinds = {"x0": "sample", "velocity": "flow_prediction", "eps": "epsilon", "v": "v", "edm": "edm"}
    assert record.metadata["modelspec.prediction_type"] == kinds[prediction]
    model = pixel.load(record, torch.device("cpu"), torch.float32)
    x_t, t = torch.randn(2, 3, 16, 16), torch.tensor([0.3, 0.9])
    expected = denoiser_for(about, network, RectifiedFlow())(x_t, t)
    torch.testing.assert_close(model.denoiser(model.encode_prompt("", count=2), 1.0)(x_t, t), expected)


def test_an_unknown_prediction_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network = stirred(small(conditioning=Conditioning.NONE))
    pixel_file.save(path, network, title="x", parameterisation=Parameterisation(Prediction.EPS))
    metadata = dict(read_checkpoint(path).metadata) | {"diffstudio.prediction": '{"type": "score", "sigma_data": 0.5}'}
    safetensors.torch.save_file(network.state_dict(), path, metadata)
    with pytest.raises(CheckpointDamaged, match="score"):
        read_checkpoint(path)


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path, network: PixelTransformer) -> None:
    with pytest.raises(StorageProblem):
        pixel_file.save(tmp_path / "missing" / "a.safetensors", network, title="x")
    assert not list(tmp_path.glob("**/a*"))


@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_a_unet_comes_back_as_it_was_and_says_what_it_is(
    conditioning: Conditioning, tmp_path: Path, tokenizer: CaptionTokenizer
) -> None:
    network = small_unet(conditioning, vocab_size=tokenizer.vocabulary)
    path = tmp_path / "a.safetensors"
    words = tokenizer if conditioning is Conditioning.TEXT else None
    classes = ("a", "b", "c") if conditioning is Conditioning.CLASS else ()
    pixel_file.save(path, network, title="An apple", tokenizer=words, classes=classes)
    loaded = pixel_file.load(path)
    assert isinstance(loaded.network, PixelUNet) and loaded.network.config == network.config
    condition = Condition(torch.tensor([[1, 2, 0, 0]]), torch.tensor([1]))
    x_t, t = torch.randn(1, 3, 16, 16), torch.tensor([0.3])
    assert torch.equal(loaded.network(x_t, t, condition), network(x_t, t, condition))
    about = read_checkpoint(path)
    assert (about.family, about.family_title, about.conditioning) == ("pixel", "pixel U-Net", conditioning)
    assert about.json("network") | {"patch": 2, "kind": "unet", "version": 1} == about.json("network")
    assert about.metadata["modelspec.architecture"] == "diffstudio-pixel-unet"
    assert about.metadata["modelspec.prediction_type"] == "sample" and loaded.schedule["kind"] == "rectified_flow"


@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_a_unet_larger_than_its_file_is_not_built(
    conditioning: Conditioning, tmp_path: Path, tokenizer: CaptionTokenizer
) -> None:
    path = tmp_path / "a.safetensors"
    pixel_file.save(path, small_unet(conditioning, vocab_size=tokenizer.vocabulary), title="x", tokenizer=tokenizer)
    tensors, metadata = safetensors.torch.load_file(path), dict(read_checkpoint(path).metadata)
    network = json.loads(metadata["diffstudio.network"])
    key = {Conditioning.TEXT: "vocabulary", Conditioning.CLASS: "classes", Conditioning.NONE: "layers_per_block"}
    metadata["diffstudio.network"] = json.dumps(network | {key[conditioning]: 10**9})
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(CheckpointDamaged, match="more parameters than the file"):
        pixel_file.load(path)
