"""Previews: by a TAESD where the model has one, else by a linear map, at most 512 px a side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from diffstudio.models.model import Model
from diffstudio.studio.generation.preview import APPROXIMATE, LARGEST_SIDE, decode_preview, preview_images, to_images


class Decoder(nn.Module):
    """Each latent px becomes 8 x 8 px of its first three channels; records what it is called with."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.scale, self.error = nn.Parameter(torch.ones((), dtype=torch.float64)), error
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, latents: Tensor) -> Tensor:
        self.sizes.append(tuple(latents.shape))
        if self.error is not None:
            raise self.error
        assert latents.dtype is torch.float64
        return cast(Tensor, latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3) * self.scale)


def model(decoder: nn.Module | None) -> Model:
    def linear(state: Tensor) -> Tensor:
        return torch.zeros(len(state), 3, *state.shape[-2:])

    return cast(Model, SimpleNamespace(preview_decoder=decoder, latents_to_rgb=linear, load_notes=()))


def test_without_a_decoder_the_linear_map_is_used() -> None:
    (image,) = preview_images(torch.ones(1, 4, 6, 5), model(None))
    assert image.shape == (6, 5, 3) and (image == 128).all()


def test_a_tiny_vae_decodes_the_estimate_as_diffusers_does() -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny().eval()
    latents = torch.randn(2, 4, 6, 5)
    with torch.no_grad():
        expected = to_images(tiny.decode(latents).sample)
    found = preview_images(latents, model(tiny.decoder))
    assert len(found) == 2 and all(
        np.abs(one.astype(int) - other).max() <= 1 for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("size", [(96, 64), (128, 128), (256, 64), (64, 200)])
def test_large_latents_are_reduced(size: tuple[int, int]) -> None:
    decoder, latents = Decoder(), torch.full((2, 4, *size), 0.5)
    images = preview_images(latents, model(decoder))
    assert len(images) == 2 and all(max(image.shape[:2]) <= LARGEST_SIDE for image in images)
    assert all(max(shape[2:]) <= 128 and shape[0] == 1 for shape in decoder.sizes) and len(decoder.sizes) == 2
    height, width = images[0].shape[:2]
    assert abs(width / height - size[1] / size[0]) < 0.05 and (images[0] == 191).all()


def test_values_keep_their_places() -> None:
    latents = torch.rand(1, 3, 4, 5)
    found = decode_preview(Decoder(), latents)
    assert found.dtype is torch.float32 and torch.equal(found[..., ::8, ::8], latents)


def test_without_memory_for_it_the_linear_map_is_used_from_then_on() -> None:
    decoder = Decoder(torch.OutOfMemoryError("CUDA out of memory"))
    some: Any = model(decoder)
    for _ in range(2):
        (image,) = preview_images(torch.ones(1, 4, 6, 5), some)
        assert image.shape == (6, 5, 3)
    assert some.preview_decoder is None and len(decoder.sizes) == 1 and some.load_notes == (APPROXIMATE,)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        preview_images(torch.ones(1, 4, 6, 5), model(Decoder(RuntimeError("shapes do not match"))))
