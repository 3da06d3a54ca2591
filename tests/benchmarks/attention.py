"""What attention maps cost, and whether they pass the deletion test: `python -m tests.benchmarks.attention`.

The starter, with its own recommended settings. Cost: the best of several images with maps over that without, one after
the other. Deletion: two-word prompts, with both kinds of maps; the ratio of the change inside the brightest quarter of
a word's map to the change outside, that of the same regions at all other places, and the share of words whose ratio is
above 1, above the mean of the moved regions, and above 95% of them.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.inspection.recording import AttentionRecording
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.recommended import recommended_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.studio.evaluations.attention.attention import attention
from diffstudio.studio.evaluations.attention.prompts import words_of
from diffstudio.studio.evaluations.attention.request import AttentionRequest

PROMPTS = (
    "red heart",
    "blue heart",
    "yellow star",
    "hot dog",
    "fire truck",
    "dog face",
    "green apple",
    "blue car",
    "red circle",
    "angry face",
)
SEEDS = (0,)
TIMED = 12  # images of each kind


def cost(model: Model, kind: str) -> float:
    """Seconds of an image with maps of this kind over those without."""
    settings = recommended_values(model.checkpoint) if model.checkpoint is not None else {}
    options = SampleOptions(seeds=[0], **settings)
    prompt, words = model.encode_prompt(PROMPTS[0]), words_of(model, PROMPTS[0], "", options.steps)
    layers = [layer for layer in model.attention_layers if layer.kind.value == kind]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(TIMED):
        for with_maps in (False, True):
            began = time.perf_counter()
            if with_maps:
                recording = AttentionRecording(layers, words.steps, len(words.words), model.default_size)
                with recording.attached(model.network):
                    for _step in sample(model, prompt, options, wrap=recording.wrap):
                        recording.next_step()
            else:
                for _step in sample(model, prompt, options):
                    pass
            seconds[with_maps].append(time.perf_counter() - began)
    return min(seconds[True]) / min(seconds[False])


def main() -> None:
    with tempfile.TemporaryDirectory() as home:  # so that it waits for no other work on the accelerator
        os.environ["DIFFSTUDIO_HOME"] = home
        measure()


def measure() -> None:
    model = loading.load(read_checkpoint(paths.starter()), torch.device("cpu"))
    print("| maps of attention | cost | words | ratio | at other places | above 1 | above their mean | above 95% |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind in ("weights", "outputs"):
        tests = []
        with tempfile.TemporaryDirectory() as folder:
            for number, prompt in enumerate(PROMPTS):
                for seed in SEEDS:
                    out = Path(folder) / f"{number}-{seed}"
                    request = AttentionRequest(str(paths.starter()), prompt, out, seed=seed, maps=kind, device="cpu")
                    tests += [word.test for word in attention(request, Library()).words if word.test is not None]
        ratio, moved = np.array([test.ratio for test in tests]), np.array([test.random for test in tests])
        clear = np.mean([test.is_clear for test in tests])
        print(
            f"| {kind} | {cost(model, kind):.2f} × | {len(tests)} | {ratio.mean():.2f} | {moved.mean():.2f} | "
            f"{(ratio > 1).mean():.0%} | {(ratio > moved).mean():.0%} | {clear:.0%} |"
        )


if __name__ == "__main__":
    main()
