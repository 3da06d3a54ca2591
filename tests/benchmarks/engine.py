"""`python -m tests.benchmarks.engine CHECKPOINT`: seconds of a step, a preview, a network call, and from Stop to
stopped.
"""

from __future__ import annotations

import json
import queue
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.models import loading
from diffstudio.models.library.library import Library
from diffstudio.models.memory import devices
from diffstudio.studio.events import ENDINGS, Stepped
from diffstudio.studio.generation.output_files import OutputFiles
from diffstudio.studio.generation.preview import preview_images
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.settings import Settings
from diffstudio.studio.worker import Worker
from tests.models.sampled import sample


class Timed:
    """A denoiser that notes how long each call takes."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.schedule = denoiser.schedule
        self.seconds: list[float] = []
        self._denoiser = denoiser

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        begun = time.perf_counter()
        x_0 = self._denoiser(x_t, t)
        self.seconds.append(time.perf_counter() - begun)
        return x_0


def step_and_preview(checkpoint: str) -> dict[str, float]:
    """Medians over 60 steps of one image, the first few left out."""
    model = loading.load(Library().find(checkpoint), devices.choose_device("auto"))
    timed: list[Timed] = []

    def wrap(denoiser: Denoiser) -> Denoiser:
        timed.append(Timed(denoiser))
        return timed[-1]

    steps, previews = [], []
    begun = time.perf_counter()
    for step in sample(model, prompts=["red apple"], seeds=[0], steps=60, wrap=wrap):
        stepped = time.perf_counter()
        preview_images(step.denoised, model)
        previewed = time.perf_counter()
        steps.append(stepped - begun)
        previews.append(previewed - stepped)
        begun = previewed
    return {
        "step": statistics.median(steps[5:]),
        "preview": statistics.median(previews[5:]),
        "call": statistics.median(timed[0].seconds[5:]),
    }


def stop_to_stopped(checkpoint: str, times: int = 20) -> list[float]:
    """From asking the worker to stop, at some moment within a long job, to its saying that it has."""
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    seconds = []
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        request = GenerateRequest(prompt="red apple", checkpoint=checkpoint, steps=1000)
        files = OutputFiles(str(Path(folder) / "out.png"), request, overwrite=True)
        worker = Worker(Queue(Path(folder) / "queue.sqlite"), Library(), files, Settings(), events.put)
        worker.start()
        try:
            for number in range(times):
                job = worker.submit(replace(request, seed=number))
                while not isinstance(events.get(timeout=120), Stepped):
                    pass
                time.sleep(chance.uniform(0.05, 0.3))
                asked = time.perf_counter()
                worker.stop(job)
                while not isinstance(events.get(timeout=120), ENDINGS):
                    pass
                seconds.append(time.perf_counter() - asked)
        finally:
            worker.close()
    return seconds


if __name__ == "__main__":
    found = step_and_preview(sys.argv[1])
    stops = stop_to_stopped(sys.argv[1])
    print(json.dumps(found | {"stop_median": statistics.median(stops), "stop_worst": max(stops)}))
