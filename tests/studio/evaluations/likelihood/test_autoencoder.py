"""Bits per dimension of folders under a VAE: against the likelihood of a decoder that ignores its latents."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm

from diffstudio.errors import BadRequest
from diffstudio.models.families import pixel_file
from diffstudio.models.library.library import Library
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.studio.evaluations.likelihood.autoencoder import PRIOR_NOTE
from diffstudio.studio.evaluations.likelihood.likelihood import likelihood
from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
from diffstudio.studio.evaluations.likelihood.result import ELBO, IMPORTANCE, LikelihoodResult
from diffstudio.training.objectives.autoencoder import autoencoder_config
from diffstudio.training.recipe import ObjectiveRecipe, OptimiserRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from tests.studio.evaluations.small_models import COLOURS, RECIPE, write_images

VARIANCE = 0.04
NETWORK = replace(RECIPE.network, patch=4, width=8, depth=1, latent=2, prior_width=8, prior_depth=1, condition_width=8)
VAE_RECIPE = replace(
    RECIPE,
    network=NETWORK,
    objective=ObjectiveRecipe(kind=ObjectiveName.VAE),
    optimiser=OptimiserRecipe(OptimiserName.ADAM),
)


def write_vae(path: Path, posterior_mean: float = 0.0) -> Path:
    """A decoder that gives a grey image whatever the latents are, and an encoder that says the same of each image."""
    torch.manual_seed(0)
    network = Autoencoder(autoencoder_config(VAE_RECIPE, len(COLOURS), 0))
    network.variance.fill_(VARIANCE)
    channels = network.config.latent_channels
    with torch.no_grad():
        for layer in (network.encoder.conv_out, network.decoder.conv_out):
            layer.weight.zero_()
            layer.bias.zero_()
        network.encoder.conv_out.bias[:channels] = posterior_mean
    pixel_file.save(path, network, title=path.stem, classes=tuple(sorted(COLOURS)), recipe=VAE_RECIPE.to_json())
    return path


def exact_bits(path: Path) -> float:
    """Bits per dimension of an image of independent normal values around 0, rounded to 8 bits."""
    with Image.open(path) as image:
        values = np.asarray(image, np.float64)
    edges = [(values + side) / 127.5 - 1 for side in (0.5, -0.5)]
    upper, lower = (norm.logcdf(edge, scale=VARIANCE**0.5) for edge in edges)
    upper, lower = np.where(values == 255, 0.0, upper), np.where(values == 0, -np.inf, lower)
    other = [norm.logsf(edge, scale=VARIANCE**0.5) for edge in edges]
    other = [np.where(values == 255, -np.inf, other[0]), np.where(values == 0, 0.0, other[1])]
    high, low = np.where(values > 127, other[1], upper), np.where(values > 127, other[0], lower)
    return float(-(high + np.log1p(-np.exp(low - high))).mean() / np.log(2))


def run(checkpoint: Path, folder: Path, count: int = 4, draws: int = 3) -> LikelihoodResult:
    return likelihood(LikelihoodRequest(str(checkpoint), folder, count, device="cpu", draws=draws), Library())


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("real"), 12, seed=0)


@pytest.fixture(scope="module")
def found(real: Path, tmp_path_factory: pytest.TempPathFactory) -> LikelihoodResult:
    return run(write_vae(tmp_path_factory.mktemp("models") / "grey.safetensors"), real)


def test_with_the_prior_as_posterior_both_bounds_are_the_likelihood(found: LikelihoodResult, real: Path) -> None:
    assert [part.name for part in found.parts] == ["held-out images", "training images"]
    for part in found.parts:
        assert set(part.means) == {ELBO, IMPORTANCE} and len(part.images) == 4
        for image in part.images:
            assert image.bits[ELBO] == pytest.approx(exact_bits(real / image.path), rel=1e-3)
            assert image.bits[IMPORTANCE] == pytest.approx(image.bits[ELBO], rel=1e-4)
        assert part.means[ELBO].low < part.means[ELBO].value < part.means[ELBO].high
    assert set(found.gaps) == {ELBO, IMPORTANCE} and found.smallest_noise is None


def test_a_posterior_beside_the_prior_costs_its_divergence_and_draws_lower_the_other_bound(
    found: LikelihoodResult, real: Path, tmp_path: Path
) -> None:
    beside = run(write_vae(tmp_path / "beside.safetensors", posterior_mean=0.25), real, draws=200)
    latents = 2 * 4**2
    divergence = latents * 0.25**2 / 2 / (16 * 16 * 3 * np.log(2))  # KL(N(0.25, 1) || N(0, 1)) of each latent
    for part, without in zip(beside.parts, found.parts, strict=True):
        for image, other in zip(part.images, without.images, strict=True):
            assert image.bits[ELBO] - other.bits[ELBO] == pytest.approx(divergence, rel=1e-3)
            assert image.bits[IMPORTANCE] == pytest.approx(other.bits[ELBO], abs=divergence / 2)


def test_formulas_offset_samples_and_prior_are_printed(found: LikelihoodResult) -> None:
    text = found.text()
    assert "ELBO  " in text and "importance-weighted bound" in text and "probability flow" not in text
    assert text.count("with K = 3 samples") == 2 and text.count("No offset") == 2 and "+ 6.9944" in text
    assert found.settings == {"draws": 3, "seed": 0} and PRIOR_NOTE in found.notes
    values = json.loads(json.dumps(found.to_json()))
    assert LikelihoodResult.from_json(values).to_json() == values
    assert found.parts[0].images[0].label in COLOURS and found.condition.startswith(
        "Conditional: each image with its own"
    )
    with pytest.raises(BadRequest, match="The number of draws is 0"):
        LikelihoodRequest("x", Path("y"), draws=0)
