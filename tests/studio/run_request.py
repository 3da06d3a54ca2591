"""Requests run without a worker: resolved in a library, on a model that is loaded already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from diffstudio.models.library.library import Library
from diffstudio.models.model import Model
from diffstudio.studio.events import Event
from diffstudio.studio.generation.generate import generate
from diffstudio.studio.generation.resolve import resolve_for
from diffstudio.studio.generation.upscale import upscale
from diffstudio.studio.jobs.job_context import ImageStore, JobContext
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.requests import GenerateRequest, PictureRequest, UpscaleRequest


def run_request(
    request: PictureRequest,
    model: Model | None,
    store: ImageStore,
    job_control: JobControl | None = None,
    *,
    library: Library | None = None,
    **options: Any,
) -> Iterator[Event]:
    """The events of the job; `options` as in JobContext."""
    resolved = resolve_for(request, model.checkpoint if model is not None else None, library)
    context = JobContext(1, store, job_control or JobControl(), **options)
    if isinstance(request, UpscaleRequest):
        return upscale(request, model, resolved, context, torch.device("cpu"))
    assert isinstance(request, GenerateRequest) and model is not None
    return generate(request, model, resolved, context)
