"""The allowed ranges and choices of a recipe's settings, by their dotted names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import attrgetter

from diffstudio.errors import RunProblem, must_be_between
from diffstudio.imaging.arrays import MOST_CHANNELS
from diffstudio.models.detection.families_table import FLOW_SPACING_NAMES, SAMPLER_NAMES

_BELOW_ONE = math.nextafter(1.0, 0.0)
_TINY = 1e-12  # the lower limit if 0 is not allowed
RANGES: Mapping[str, tuple[float, float]] = {
    "data.size": (8, 2048),
    "data.channels": (0, MOST_CHANNELS),
    "data.held_out": (0, 0.9),
    "data.cross_splits": (0, 20),
    "data.flips": (0, 1),
    "data.rotation_degrees": (0, 180),
    "data.translation": (0, 1),
    "data.unmasked_weight": (0, 1),
    "network.patch": (1, 256),
    "network.margin": (0, 256),
    "network.bottleneck": (1, 65_536),
    "network.width": (4, 65_536),
    "network.depth": (1, 1024),
    "network.heads": (1, 1024),
    "network.condition_width": (1, 65_536),
    "network.vocabulary": (2, 1_000_000),
    "network.text_tokens": (1, 4096),
    "network.latent": (1, 4096),
    "network.latent_grid": (0, 1),
    "network.prior_width": (8, 65_536),
    "network.prior_depth": (1, 1024),
    "network.stem": (1, 256),
    "network.drop_condition": (0, 1),
    "network.name_share": (0, 1),
    "network.tags_share": (0, 1),
    "network.layers": (1, 64),
    "network.attention": (0, 2048),
    "network.dropout": (0, _BELOW_ONE),
    "upper.patch": (1, 256),
    "upper.margin": (0, 256),
    "upper.bottleneck": (1, 65_536),
    "upper.width": (4, 65_536),
    "upper.depth": (1, 1024),
    "upper.heads": (1, 1024),
    "upper.condition_width": (1, 65_536),
    "upper.noise": (0, 1),
    "upper.mean": (-20, 20),
    "upper.deviation": (_TINY, 20),
    "upper.sample_noise": (0, 1),
    "upper.sample_steps": (1, 1000),
    "objective.mean": (-20, 20),
    "objective.deviation": (_TINY, 20),
    "objective.sigma_floor": (_TINY, 1),
    "objective.min_snr_gamma": (_TINY, 10**6),
    "objective.sigma_data": (_TINY, 100),
    "objective.perceptual": (0, 1000),
    "objective.free_bits": (0, 100),
    "objective.kl_warm_up": (0, 1),
    "objective.prior_draws": (1, 1024),
    "objective.gamma": (0, 10**6),
    "objective.gamma_end": (0, 10**6),
    "objective.penalty_every": (1, 1024),
    "few_steps.segments": (1, 8),
    "few_steps.teacher_calls": (3, 100),
    "few_steps.points": (1, 100),
    "few_steps.guidance": (0, 100),
    "few_steps.min_timestep": (0, 0.9),
    "optimiser.learning_rate": (0, 10),
    "optimiser.muon_learning_rate": (0, 10),
    "optimiser.weight_decay": (0, 10),
    "optimiser.momentum": (0, _BELOW_ONE),
    "optimiser.warm_up_steps": (0, 10**8),
    "optimiser.decay_share": (0, 1),
    "optimiser.clip_norm": (_TINY, 10**8),
    "optimiser.ema": (0, _BELOW_ONE),
    "run.steps": (1, 10**8),
    "run.minutes": (0, 10**6),
    "run.first_step": (0, 10**8),
    "run.first_seconds": (0, 10**9),
    "run.end_step": (0, 10**8),
    "run.patience": (-1, 10**6),
    "run.keep_checkpoints": (0, 10**6),
    "run.ema_snapshots": (0, 256),
    "run.batch": (1, 65_536),
    "run.seed": (0, 2**63 - 1),
    "run.threads": (0, 4096),
    "run.sample_every": (1, 10**8),
    "run.sample_count": (1, 1024),
    "run.checkpoint_every": (1, 10**8),
    "run.held_out_every": (1, 10**8),
    "run.sample_steps": (1, 1000),
    "run.sample_guidance": (0, 100),
    "run.sample_min_timestep": (-1, 0.9),
}
_CHOICES: Mapping[str, tuple[object, ...]] = {
    "data.fit": ("auto", "crop", "bucket", "pad"),
    "data.bits": (0, 8, 16),
    "upper.factor": (0, 2, 4),
    "objective.diff_augment": ("auto", "on", "off"),
    "optimiser.muon_dtype": ("auto", "float32", "bfloat16"),
    "run.schedule": ("steps", "time"),
    "run.dtype": ("auto", "float32", "bfloat16"),
    "run.sample_sampler": SAMPLER_NAMES,
    "run.sample_spacing": FLOW_SPACING_NAMES,
}


# Settings that apply to some kinds of model only; all others apply to every kind.
_OF_KINDS: Mapping[str, tuple[str, ...]] = {
    "data.masks": ("diffusion", "vae"),
    "data.unmasked_weight": ("diffusion", "vae"),
    "network.margin": ("diffusion",),
    "network.bottleneck": ("diffusion",),
    "network.heads": ("diffusion",),
    "network.kind": ("diffusion",),
    "network.channels": ("diffusion",),
    "network.layers": ("diffusion",),
    "network.attention": ("diffusion",),
    "network.dropout": ("diffusion",),
    "network.latent": ("vae", "gan"),
    "network.prior_width": ("vae",),
    "network.prior_depth": ("vae",),
    "objective.noise_levels": ("diffusion",),
    "objective.noise_curve": ("diffusion",),
    "objective.mean": ("diffusion",),
    "objective.deviation": ("diffusion",),
    "objective.sigma_floor": ("diffusion",),
    "objective.prediction": ("diffusion",),
    "objective.weighting": ("diffusion",),
    "objective.min_snr_gamma": ("diffusion",),
    "objective.sigma_data": ("diffusion",),
    "objective.perceptual": ("diffusion",),
    "objective.learned_variance": ("diffusion",),
    "objective.free_bits": ("vae",),
    "objective.kl_warm_up": ("vae",),
    "objective.gan_loss": ("gan",),
    "objective.gamma": ("gan",),
    "objective.gamma_end": ("gan",),
    "objective.diff_augment": ("gan",),
    "optimiser.muon_learning_rate": ("diffusion",),
    "optimiser.muon_dtype": ("diffusion",),
    "data.cross_splits": ("diffusion",),
    "run.compile": ("diffusion",),
    "run.dtype": ("diffusion",),
    "run.ema_snapshots": ("diffusion",),
    "run.start_from": ("diffusion",),
    "run.sample_steps": ("diffusion",),
    "run.sample_sampler": ("diffusion",),
    "run.sample_spacing": ("diffusion",),
    "run.sample_guidance": ("diffusion",),
    "run.sample_min_timestep": ("diffusion",),
}


# Settings that apply to one network of diffusion models only.
_OF_NETWORKS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "network.patch",
            "network.margin",
            "network.bottleneck",
            "network.width",
            "network.depth",
            "network.heads",
            "optimiser.muon_learning_rate",
            "optimiser.muon_dtype",
        ),
        "transformer",
    ),
    **dict.fromkeys(("network.channels", "network.layers", "network.attention"), "unet"),
}


def is_of_network(name: str, network: str) -> bool:
    """Whether a setting applies to a network of a diffusion model: transformer or unet."""
    needed = "transformer" if name.startswith("upper.") else _OF_NETWORKS.get(name, network)
    return needed == network


def is_of_kind(name: str, kind: str) -> bool:
    """Whether a setting, such as `network.heads`, applies to a kind of model: diffusion, vae or gan."""
    kinds = ("diffusion",) if name.startswith("upper.") else _OF_KINDS.get(name, (kind,))
    return kind in kinds


def check_limits(recipe: object) -> None:
    """RunProblem for a number out of range, or a name that is not one of the choices."""
    for name, (lowest, highest) in RANGES.items():
        value = attrgetter(name)(recipe)
        if not lowest <= value <= highest:
            raise RunProblem(f"recipe.{name} is {value}", must_be_between(f"{lowest:g}", f"{highest:g}"))
    for name, choices in _CHOICES.items():
        if attrgetter(name)(recipe) not in choices:
            raise RunProblem(
                f"recipe.{name} is {attrgetter(name)(recipe)!r}", f"it must be one of {', '.join(map(str, choices))}"
            )


def limits_of(name: str) -> tuple[float, float] | None:
    """The lowest and highest values of a numeric setting, such as `optimiser.learning_rate`."""
    return RANGES.get(name)


def choices_of(name: str) -> tuple[object, ...]:
    """All values of a setting with choices, such as `data.fit`; empty for other settings."""
    return _CHOICES.get(name, ())
