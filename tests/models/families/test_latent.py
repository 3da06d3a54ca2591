"""Previews of latent spaces of which no colours are published: by a map that the autoencoder's own encoder shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.models.families import flux
from diffstudio.models.families.latent import LatentModel, _palette, fit_rgb_factors
from tests.models import small_flow as small


@pytest.fixture
def model(tmp_path: Any) -> flux.FluxModel:
    from diffstudio.models.components.components import FolderComponents

    small.small_flux(tmp_path)
    return flux.load(small.checkpoint_of(tmp_path, "flux"), FolderComponents(tmp_path), small.CPU, torch.float32)


def pictures(count: int, seed: int, side: int = 64) -> Tensor:
    """Colours that flow into each other, [B,3,H,W] in [-1,1]."""
    random = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(2 * random - 1, (side, side), mode="bilinear")


def test_a_linear_latent_space_is_found_out_exactly(model: flux.FluxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    mix, away = (
        torch.randn(16, 3, generator=torch.Generator().manual_seed(1)),
        torch.linspace(-1, 1, 16).view(1, 16, 1, 1),
    )
    asked: list[tuple[int, ...]] = []

    def encode(self: LatentModel, image: Tensor) -> Tensor:
        asked.append(tuple(image.shape))
        return torch.einsum("bchw,dc->bdhw", F.avg_pool2d(image, 8), mix) + away

    monkeypatch.setattr(LatentModel, "_encode", encode)
    image = pictures(2, 3)
    state = model.encode_image(image)
    for _ in range(2):
        assert (model.latents_to_rgb(state) - F.avg_pool2d(image, 8)).abs().max() < 1e-4
    assert asked == [(2, 3, 64, 64), (1, 3, 128, 128)]  # the palette is encoded once for a loaded model


def test_colours_come_out_nearer_than_from_three_channels_where_nothing_is_linear(
    model: flux.FluxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix = 0.7 * torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(
        LatentModel,
        "_encode",
        lambda self, image: torch.tanh(torch.einsum("bchw,dc->bdhw", F.avg_pool2d(image, 8), mix) + 0.5),
    )
    image = pictures(4, 1000)
    state, wanted = model.encode_image(image), F.avg_pool2d(image, 8)

    def off(shown: Tensor) -> float:
        return float((shown - wanted).square().mean().sqrt())

    assert off(model.latents_to_rgb(state)) < 0.1 * off(state[:, :3].clamp(-1, 1))


@pytest.fixture(params=[8, 16])
def palette(request: pytest.FixtureRequest) -> Iterator[Tensor]:
    yield _palette(request.param)


def test_the_palette_has_all_colours_and_is_where_each_channel_goes_its_own_way(palette: Tensor) -> None:
    flat = palette[0].flatten(1)
    assert flat.min() == -1 and flat.max() == 1
    assert (torch.corrcoef(flat) - torch.eye(3)).abs().max() < 0.25
    latents = F.avg_pool2d(palette, palette.shape[-1] // 16)
    weights, bias = fit_rgb_factors(latents, palette)
    torch.testing.assert_close(weights, torch.eye(3), atol=1e-4, rtol=0)
    assert bias.abs().max() < 1e-4
