"""Checkpoints, pictures and events to show to the window's rooms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import Event, Finished, ImageSaved, JobId, Picture, Started, Stepped
from diffstudio.studio.requests import GenerateRequest


def checkpoint(name: str = "starter", **values: Any) -> Checkpoint:
    usual: dict[str, Any] = {
        "path": Path(f"/models/{name}.safetensors"),
        "name": name,
        "title": name.title(),
        "family": "pixel",
        "conditioning": Conditioning.TEXT,
        "classes": (),
        "width": 64,
        "height": 64,
        "parameters": 8_500_000,
        "dtype": "F16",
        "size_bytes": 17_000_000,
        "origin": Origin.TRAINED,
        "modified": 0.0,
        "metadata": {"diffstudio.network": json.dumps({"patch": 8}), "diffstudio.guidance": json.dumps({"scale": 4.0})},
    }
    return Checkpoint(**(usual | values))


def picture(level: int = 0, side: int = 16) -> Picture:
    """A plain picture whose grey tells which one it is."""
    return np.full((side, side, 3), level, np.uint8)


def stepped(job: JobId, index: int, steps: int, count: int = 1, first: int = 0, batch: int | None = None) -> Stepped:
    """After step `index`, each estimate has the grey 10 * index + its place (modulo 256)."""
    here = range(first, first + (count if batch is None else batch))
    return Stepped(
        job,
        index,
        steps,
        first,
        count,
        2.0 * (1 - index / steps),
        tuple(picture((10 * index + at) % 256) for at in here),
        0.04,
        (steps - index) * 0.04,
        len(here),
    )


def whole_job(job: JobId, request: GenerateRequest) -> list[Event]:
    """Everything that is said about a job that goes well, in one batch."""
    message: list[Event] = [Started(job, request)]
    message += [stepped(job, index, request.steps, request.count) for index in range(1, request.steps + 1)]
    message += [ImageSaved(job, at, Path(f"/images/{job}-{at}.png"), picture(200 + at)) for at in range(request.count)]
    return [*message, Finished(job, 1.25)]
