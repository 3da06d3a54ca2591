"""The objective of a recipe: what is trained, what its network predicts, and what its loss weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from diffstudio.diffusion.curve_points import NoiseCurve
from diffstudio.diffusion.objectives.parameterisation import Parameterisation, Prediction
from diffstudio.errors import BadRequest, RunProblem
from diffstudio.training.recipe.values import shortened


class NoiseLevelsName(StrEnum):
    UNIFORM = "uniform"
    LOG_NORMAL = "log_normal"
    LOGIT_NORMAL = "logit_normal"
    COSINE = "cosine"
    ADAPTIVE = "adaptive"  # from the logit-normal one to where images are decided: InfoNoise, arXiv 2602.18647
    CURVE = "curve"  # of a drawn noise schedule, `noise_curve`, at uniform times


class ObjectiveName(StrEnum):
    """The kind of model to train; see training.objectives."""

    DIFFUSION = "diffusion"
    VAE = "vae"
    GAN = "gan"


class WeightingName(StrEnum):
    """The weight of the squared error of the clean image at each noise level: `diffusion.losses`."""

    AUTO = "auto"  # that of the prediction: velocity for x0 and velocity, eps, v, edm
    VELOCITY = "velocity"
    EPS = "eps"
    V = "v"
    UNIFORM = "uniform"  # the squared error of the clean image itself
    MIN_SNR = "min_snr"
    EDM = "edm"
    LIKELIHOOD = "likelihood"  # with uniform noise levels a bound of the likelihood


class GanLossName(StrEnum):
    R3GAN = "r3gan"  # relativistic, with R1 and R2: arXiv 2501.05441
    NON_SATURATING = "non_saturating"  # Goodfellow et al. 2014, without gradient penalties: it collapses


@dataclass(frozen=True, slots=True)
class ObjectiveRecipe:
    noise_levels: NoiseLevelsName = NoiseLevelsName.LOGIT_NORMAL
    mean: float = 0.6  # of logit(t), with t = 1 pure noise, or of log(sigma)
    deviation: float = 0.9
    # Of `curve`: time and log-SNR of each point in turn, from time 0, the clean image, to time 1, noise.
    noise_curve: tuple[float, ...] = ()
    sigma_floor: float = 0.05  # lower bound of the divisor when a velocity is computed from a clean-image prediction
    kind: ObjectiveName = ObjectiveName.DIFFUSION
    free_bits: float = 0.05  # VAE: nats per latent below which the KL divergence is not reduced further
    kl_warm_up: float = 0.1  # VAE: share of the run over which the weight of the KL divergence rises to 1
    prior_draws: int = 1  # VAE: noise levels drawn for each latent in a step, to train the flow prior
    gan_loss: GanLossName = GanLossName.R3GAN
    gamma: float = 1.0  # GAN: initial weight of the gradient penalties R1 and R2
    gamma_end: float = 0.1  # GAN: final weight of the gradient penalties
    penalty_every: int = 1  # GAN: the penalties are computed in every so many steps, with so many times their weight
    diff_augment: str = (
        "auto"  # GAN: DiffAugment (arXiv 2006.10738); `auto`: for fewer than 5,000 images of 32 px or more
    )
    prediction: Prediction = Prediction.X0  # what the output of a diffusion model's network is
    weighting: WeightingName = WeightingName.AUTO  # of its squared error at each noise level
    min_snr_gamma: float = 5.0  # of `min_snr`
    sigma_data: float = 0.5  # standard deviation of the images, of `edm`
    perceptual: float = 0.0  # weight of the perceptual loss of grey and colour images; 0: none
    learned_variance: bool = False  # learn the variance of the loss at each noise level, and divide by it

    @property
    def parameterisation(self) -> Parameterisation:
        return Parameterisation(self.prediction, self.sigma_data)


_DIFFUSION: Mapping[str, Mapping[str, Any]] = {
    "flow": {"prediction": "velocity"},
    "edm": {
        "prediction": "edm",
        "noise_levels": "log_normal",
        "mean": -1.2,  # Karras et al. 2022 (arXiv 2206.00364), table 1
        "deviation": 1.2,
        "learned_variance": True,  # Karras et al. 2023 (arXiv 2312.02696), section 2.2
    },
    "eps": {"prediction": "eps", "noise_levels": "uniform"},
    "v": {"prediction": "v"},
    "x0": {"prediction": "x0", "weighting": "min_snr"},
}


def with_kind(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tables of a recipe file with a kind such as `edm` replaced by what it stands for: `diffusion`, and settings.

    Settings that the file has itself are kept.
    """
    objective = values.get("objective")
    if not isinstance(objective, Mapping) or not isinstance(objective.get("kind"), str):
        return values
    settings = _DIFFUSION.get(objective["kind"])
    if settings is None:
        return values
    return {**values, "objective": {**settings, **objective, "kind": ObjectiveName.DIFFUSION.value}}


def check_noise_curve(objective: ObjectiveRecipe) -> None:
    """RunProblem for an invalid drawn curve."""
    if objective.noise_levels is not NoiseLevelsName.CURVE and not objective.noise_curve:
        return
    try:
        NoiseCurve.from_pairs(objective.noise_curve)
    except BadRequest as problem:
        where = f"recipe.objective.noise_curve is {shortened(objective.noise_curve)}"
        raise RunProblem(where, problem.why or problem.what, problem.remedy) from problem
