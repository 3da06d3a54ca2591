"""The latents of VAEs and GANs: the same as in Generate, moved, interpolated and decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.errors import BadRequest, CheckpointUnknown
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.latents.latent_space import LatentSpace
from tests.models.families.test_one_call import written
from tests.models.tiny import write_tiny_checkpoint

CPU = torch.device("cpu")


def space(tmp_path: Path, kind: str) -> LatentSpace:
    found = LatentSpace.load(read_checkpoint(written(tmp_path / f"{kind}.safetensors", kind, Conditioning.CLASS)), CPU)
    network = found.model.one_call_network
    if isinstance(network, Autoencoder):
        network.set_directions(torch.randn(60, 48, generator=torch.Generator().manual_seed(0)) * 2)
    return found


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_a_seed_gives_the_image_of_generate(tmp_path: Path, kind: str) -> None:
    found = space(tmp_path, kind)
    model = found.model
    prompt = model.encode_prompt(["red"])
    for truncation in (1.0, 0.4):
        *_, step = sample(model, prompt, SampleOptions([7], truncation=truncation))
        expected = ((model.decode(step.x)[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
        shown = found.images([found.of_seed(7, "red", truncation)], "red")[0]
        assert np.array_equal(np.asarray(shown), expected.numpy())


def test_directions_move_an_image_and_back(tmp_path: Path) -> None:
    found = space(tmp_path, "vae")
    assert found.encodes and found.directions == 32
    latent = found.of_seed(1, "blue")
    moved = found.moved(latent, {0: 2.0, 5: -1.0})
    network = found.model.one_call_network
    assert isinstance(network, Autoencoder)
    amounts = network.latent_directions @ (moved - latent) / network.latent_deviations
    expected = torch.zeros(32)
    expected[0], expected[5] = 2, -1
    torch.testing.assert_close(amounts, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.moved(moved, {0: -2.0, 5: 1.0}), latent)
    with pytest.raises(BadRequest, match="no latent direction 32"):
        found.moved(latent, {32: 1.0})


def test_an_image_is_encoded_and_decoded_at_the_models_size(tmp_path: Path) -> None:
    found = space(tmp_path, "vae")
    image = Image.effect_noise((40, 24), 80).convert("RGB")
    shown = found.reconstruction(image, "red")
    assert shown.size == (16, 16) and shown.mode == "RGB"
    square = image.resize((16, 16), Image.Resampling.LANCZOS, box=(8, 0, 32, 24))  # as in training
    pixels = torch.from_numpy(np.asarray(square).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    network = found.model.one_call_network
    assert isinstance(network, Autoencoder)
    with torch.no_grad():
        expected = network.decode(*_mean(network, pixels, found))
    near = np.asarray(shown).astype(int) - ((expected[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(near).max() <= 1


def _mean(network: Autoencoder, pixels: torch.Tensor, found: LatentSpace) -> tuple[torch.Tensor, torch.Tensor]:
    c = network.condition(found.model.condition(["red"]), 1)
    return network.encode(pixels, c)[0], c


@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_interpolation_has_both_ends_and_keeps_the_length_of_noise(tmp_path: Path, kind: str) -> None:
    found = space(tmp_path, kind)
    first, last = found.of_seed(1, "red"), found.of_seed(2, "red")
    row = found.between(first, last, 5)
    torch.testing.assert_close(row[0], first)
    torch.testing.assert_close(row[-1], last)
    lengths = torch.stack([one.norm() for one in row])
    if kind == "gan":  # between the two lengths, as a straight line is not
        assert float(lengths.min()) > 0.95 * min(float(first.norm()), float(last.norm()))
    else:
        torch.testing.assert_close(row[2], (first + last) / 2)
    same = found.between(first, first, 3)
    assert all(torch.allclose(one, first) for one in same)
    assert len(found.images(row, "red")) == 5
    with pytest.raises(BadRequest, match="at least 2"):
        found.between(first, last, 1)


def test_what_has_no_latents_is_said(tmp_path: Path) -> None:
    found = space(tmp_path, "gan")
    assert found.directions == 0 and not found.encodes
    for call in (lambda: found.of_image(Image.new("RGB", (8, 8))), lambda: found.moved(found.of_seed(1), {0: 1.0})):
        with pytest.raises(BadRequest, match="no encoder"):
            call()
    with pytest.raises(BadRequest, match="green"):
        found.images([found.of_seed(1)], "green")
    tiny = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    with pytest.raises(CheckpointUnknown, match="no latent space"):
        LatentSpace.load(tiny, CPU)
