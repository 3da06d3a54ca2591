"""VAE and GAN checkpoints: saved, read back, and sampled in one call, each image from its own seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models import loading
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.families import pixel_file
from diffstudio.models.families.one_call import OneCallModel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import recommended_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.autoencoder import Autoencoder, AutoencoderConfig
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.gan import GanConfig, Generator
from tests.networks.test_one_call import stirred

CPU = torch.device("cpu")
TOKENIZER = CaptionTokenizer.learn(["a red square", "a blue square"], 300)


def written(path: Path, kind: str, conditioning: Conditioning = Conditioning.CLASS) -> Path:
    shape = {
        "image_size": 16,
        "patch_size": 4,
        "hidden_size": 8,
        "cond_dim": 8,
        "conditioning": conditioning,
        "num_classes": 2 if conditioning is Conditioning.CLASS else 0,
        "vocab_size": TOKENIZER.vocabulary if conditioning is Conditioning.TEXT else 0,
        "text_tokens": 4 if conditioning is Conditioning.TEXT else 0,
    }
    torch.manual_seed(0)
    network = stirred(
        Autoencoder(AutoencoderConfig(**shape, latent_channels=3, prior_width=16))  # type: ignore[arg-type]
        if kind == "vae"
        else Generator(GanConfig(**shape, latent_size=6))  # type: ignore[arg-type]
    )
    assert isinstance(network, Autoencoder | Generator)
    pixel_file.save(
        path,
        network,
        title=path.stem,
        tokenizer=TOKENIZER if conditioning is Conditioning.TEXT else None,
        classes=("red", "blue") if conditioning is Conditioning.CLASS else (),
    )
    return path


def loaded(path: Path) -> OneCallModel:
    model = loading.load(read_checkpoint(path), CPU)
    assert isinstance(model, OneCallModel)
    return model


def images(model: OneCallModel, prompts: list[str], seeds: list[int], truncation: float = 1.0) -> torch.Tensor:
    options = SampleOptions(seeds, steps=30, sampler="dpmpp_2m", spacing="karras", truncation=truncation)
    steps = list(sample(model, model.encode_prompt(prompts), options))
    assert len(steps) == 1 and steps[0].t == 0
    return steps[0].x


@pytest.mark.parametrize("kind", ["vae", "gan"])
@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_a_file_becomes_the_same_model_again(tmp_path: Path, kind: str, conditioning: Conditioning) -> None:
    path = written(tmp_path / f"{kind}.safetensors", kind, conditioning)
    record = read_checkpoint(path)
    assert (record.family, record.conditioning, record.width, record.can_generate) == (kind, conditioning, 16, True)
    assert recommended_values(record)["steps"] == 1 and recommended_values(record)["guidance"] == 1
    model = loaded(path)
    prompts = {"class": ["red", "blue"], "text": ["a red square", "a blue square"]}.get(conditioning, ["", ""])
    found = images(model, prompts, [5, 6])
    assert found.shape == (2, 3, 16, 16) and model.decode(found).shape == found.shape
    torch.testing.assert_close(images(model, prompts[1:], [6]), found[1:])  # image i is that of seed + i, in any batch
    assert torch.equal(images(loaded(path), prompts, [5, 6]), found)
    assert (PromptFeature.TEXT in model.prompt_features) == (conditioning is Conditioning.TEXT)
    other = images(model, prompts[::-1], [5, 6])
    assert torch.equal(other, found) == (conditioning is Conditioning.NONE)


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_truncation_draws_images_towards_one(tmp_path: Path, kind: str) -> None:
    model = loaded(written(tmp_path / "a.safetensors", kind, Conditioning.NONE))
    spread = [float(images(model, [""] * 8, list(range(8)), t).std(dim=0).mean()) for t in (0.0, 0.5, 1.0)]
    assert spread[0] == pytest.approx(0, abs=1e-5) and spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_what_it_cannot_do_is_said(tmp_path: Path, kind: str) -> None:
    model = loaded(written(tmp_path / "a.safetensors", kind))
    with pytest.raises(BadRequest, match="one network call"):
        next(iter(sample(model, model.encode_prompt(["red"]), SampleOptions([0], init=torch.zeros(1, 3, 16, 16)))))
    with pytest.raises(BadRequest, match="one network call"):
        model.encode_image(torch.zeros(1, 3, 16, 16))
    with pytest.raises(BadRequest, match="step by step"):
        model.denoiser(model.encode_prompt(["red"]), 1.0)
    with pytest.raises(BadRequest, match="16 × 16"):
        model.check_size(32, 16)
    with pytest.raises(BadRequest, match="Try: red"):
        model.encode_prompt(["green"])


def with_header(path: Path, target: Path, **network: object) -> Path:
    """The file with other values in its header's `network`."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    described = json.loads(header["__metadata__"]["diffstudio.network"]) | network
    header["__metadata__"]["diffstudio.network"] = json.dumps(described)
    text = json.dumps(header).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "Update diffstudio"),
        ({"kind": "oracle"}, "unknown kind"),
        ({"depth": 10**9}, "more parameters"),
        ({"classes": 10**9}, "more parameters"),
        ({"patch": 3}, "power of two"),
        ({"latent": 5}, "a.safetensors"),
    ],
)
def test_a_header_that_does_not_fit_its_tensors_is_damage(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    for kind in ("vae", "gan"):
        path = with_header(written(tmp_path / "b.safetensors", kind), tmp_path / "a.safetensors", **change)
        with pytest.raises(CheckpointDamaged, match=message):
            loading.load(read_checkpoint(path), CPU)
