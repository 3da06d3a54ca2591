"""The recipes of the short training runs."""

from __future__ import annotations

from typing import Any

RECIPE: dict[str, Any] = {
    "format": 1,
    "name": "Tiny: first shapes in minutes",
    "data": {"size": 32, "held_out": 0.2},
    "network": {
        "patch": 4,
        "margin": 2,
        "bottleneck": 48,
        "width": 160,
        "depth": 4,
        "heads": 4,
        "condition_width": 160,
    },
    "optimiser": {"warm_up_steps": 20, "ema": 0.95},
    "run": {
        "steps": 240,
        "batch": 16,
        "dtype": "float32",
        "sample_every": 40,
        "checkpoint_every": 120,
        "held_out_every": 20,
    },
}


VAE_RECIPE: dict[str, Any] = {
    "format": 1,
    "name": "VAE of drawn shapes",
    "data": {"size": 16, "held_out": 0.05},
    "network": {
        "patch": 4,
        "width": 16,
        "depth": 1,
        "condition_width": 128,
        "latent": 4,
        "prior_width": 96,
        "prior_depth": 2,
    },
    "objective": {"kind": "vae"},
    "optimiser": {
        "name": "adamw",
        "learning_rate": 0.002,
        "weight_decay": 0.0,
        "betas": [0.9, 0.99],
        "warm_up_steps": 20,
        "ema": 0.98,
    },
    "run": {"steps": 3600, "batch": 16, "dtype": "float32", "checkpoint_every": 1200, "held_out_every": 600},
}


CLASSES_RECIPE: dict[str, Any] = {
    "format": 1,
    "name": "Circles and squares",
    "data": {"size": 16},
    "network": {
        "conditioning": "class",
        "patch": 4,
        "margin": 2,
        "bottleneck": 32,
        "width": 64,
        "depth": 3,
        "heads": 2,
        "condition_width": 64,
    },
    "optimiser": {"warm_up_steps": 50, "ema": 0.99},
    "run": {"steps": 1500, "batch": 32, "dtype": "float32", "checkpoint_every": 500, "held_out_every": 250},
}
