"""Trains on the folders whose verdicts are tested, and writes the evidence of each moment to evidence.json.

    python tests/data/verdicts/record.py EMOJI NAME ...

EMOJI is a folder of Fluent Emoji. Takes about twenty minutes of one processor core for all of them.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffstudio import paths
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.data.preprocess import resize_to
from diffstudio.training.evidence.evidence import FEWEST_SAMPLES, Evidence, SampleMetrics
from diffstudio.training.recipe import read_recipe
from diffstudio.training.run.sample_sheets import SampleSheetRenderer
from diffstudio.training.trainer import Trainer

HERE = Path(__file__).parent
SIZE = 16


@dataclass(frozen=True)
class Case:
    images: int
    steps: int
    held_out: int
    kind: str = "emoji"
    conditioning: Conditioning = Conditioning.NONE
    seconds: float = float("inf")
    batch: int = 64


CASES = {
    "one image": Case(1, 24, 0, batch=8),
    "six equal images": Case(6, 24, 0, "equal", batch=8),
    "24 images over-trained": Case(24, 1200, 5, batch=24),
    "12 images over-trained": Case(12, 350, 0, batch=12),
    "300 images in two minutes": Case(300, 10_000, 50, seconds=120),
    "1,200 images well trained": Case(1200, 800, 60, batch=32),
    "classes of one": Case(40, 450, 8, conditioning=Conditioning.CLASS, batch=24),
    "noise": Case(300, 400, 50, "noise"),
}


def dataset(case: Case, emoji: Path) -> ImageDataset:
    rng = np.random.default_rng(0)
    if case.kind == "noise":
        pixels = rng.integers(0, 256, (case.images, SIZE, SIZE, 3)).astype(np.uint8)
    else:
        files = sorted(path for path in emoji.rglob("*") if path.suffix in (".png", ".webp", ".jpg"))
        files = [path for path in files if path.parent.name not in ("flags", "people-body")]
        chosen = [files[index] for index in rng.permutation(len(files))[: case.images]]
        if case.kind == "equal":
            chosen = chosen[:1] * case.images
        loaded = (Image.open(path).convert("RGBA") for path in chosen)
        pixels = np.stack([resize_to(image, (SIZE, SIZE), (255, 255, 255), "pad") for image in loaded])
    held_out = np.zeros(case.images, bool)
    held_out[: case.held_out] = True
    classes = (
        tuple(f"{index:03d}" for index in range(case.images)) if case.conditioning is Conditioning.CLASS else ("",)
    )
    labels = np.arange(case.images) % len(classes)
    names = tuple(Path(f"{index:04d}.png") for index in range(case.images))
    return ImageDataset(
        pixels, ("",) * case.images, classes, labels, held_out, names, (), Path("none"), np.full((case.images, 2), SIZE)
    )


def record(name: str, emoji: Path) -> list[dict[str, object]]:
    case = CASES[name]
    images = dataset(case, emoji)
    tiny = read_recipe(paths.resources() / "recipes" / "tiny.toml")
    recipe = replace(
        tiny,
        data=replace(tiny.data, size=SIZE, channels=3, fit="pad"),
        network=replace(tiny.network, conditioning=case.conditioning),
        optimiser=replace(tiny.optimiser, muon_dtype="float32"),
        run=replace(tiny.run, steps=case.steps, batch=case.batch, dtype="float32", sample_guidance=1.0),
    )
    trainer = Trainer(recipe, classes=len(images.classes), vocabulary=0, device=torch.device("cpu"))
    batches = Batches(images, recipe, None)
    judge = SampleMetrics(images, recipe.data, recipe.run.seed)
    baseline = trainer.objective.baseline(batches)
    training = [images.classes[images.labels[index]] for index in images.training_indices]
    prompts = tuple(training[index * len(training) // FEWEST_SAMPLES] for index in range(FEWEST_SAMPLES))
    renderer = SampleSheetRenderer(recipe, trainer.objective, None, images.classes, prompts, images.size)
    found, losses, spent = [], [], 0.0
    every = max(1, case.steps // 24) if case.seconds == float("inf") else 10
    while trainer.step_number < case.steps and spent < case.seconds:
        started = time.process_time()
        trainer.step(batches.at(trainer.step_number))
        spent += time.process_time() - started
        step = trainer.step_number
        if step % every == 0 or step == case.steps or spent >= case.seconds:
            measured = trainer.fixed_losses(batches)
            if measured is not None:
                losses.append((step, measured.loss))
            if step % (every * 6) and step != case.steps and spent < case.seconds:
                continue
            samples = renderer.draw(trainer.ema_network, lambda: None)
            copies, diversity = judge.copies(samples), judge.diversity(samples)
            copied = copies.copied if copies is not None else ()
            evidence = Evidence(
                step=step,
                progress=max(step / case.steps, min(1.0, spent / case.seconds)),
                images=len(images.training_indices),
                different_images=judge.different_images,
                epochs=step * case.batch / len(images.training_indices),
                held_out=len(images.held_out_indices),
                losses=tuple(losses),
                training_loss=measured.training_loss if measured is not None else None,
                baseline=baseline,
                samples=len(samples),
                copied=len(copied),
                copied_images=tuple(copies.nearest[index] for index in copied) if copies is not None else (),
                spread=diversity[0] if diversity is not None else None,
                vendi=diversity[1] if diversity is not None else None,
                real_vendi=diversity[2] if diversity is not None else None,
            )
            found.append(evidence.to_json())
            last = losses[-1][1] if losses else None
            ratios = sorted(round(ratio, 2) for ratio in copies.ratios)[::3] if copies is not None else ()
            print(name, step, f"{spent:.0f} s", "loss", last, "training", evidence.training_loss, "baseline", baseline,
                  "copied", evidence.copied, "spread", evidence.spread, "vendi", evidence.vendi, evidence.real_vendi,
                  ratios, flush=True)  # fmt: skip
    return found


def main() -> None:
    file = HERE / "evidence.json"
    for name in sys.argv[2:] or CASES:
        found = record(name, Path(sys.argv[1]))
        stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        file.write_text(json.dumps(stored | {name: found}, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
