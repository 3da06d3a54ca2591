"""How fast training steps are on this machine: `python -m tests.benchmarks.training_step [--recipe NAME] [--device D]`.

Each row trains the recipe's network on random images, by the same trainer as a run. Share: the floating-point operations of
the network's products in a step, counted by torch's FlopCounterMode, against what one large product of bfloat16 matrices
reaches on the same device.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diffstudio.models.memory.devices import choose_device
from diffstudio.networks.cascade import reduced
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.training.data.augmentation import Augmentation
from diffstudio.training.data.batches import Batch
from diffstudio.training.recipe import Recipe, read_recipe
from diffstudio.training.trainer import Trainer

RECIPES = Path(__file__).resolve().parents[2] / "resources" / "recipes"
WARM_UP, VOCABULARY, CLASSES = 3, 2048, 10


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training_step", description=__doc__)
    parser.add_argument("--recipe", default="small", help="of resources/recipes, or a TOML file")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=0, help="0: the recipe's")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row")
    arguments = parser.parse_args(argv)
    path = Path(arguments.recipe)
    recipe = read_recipe(path if path.suffix == ".toml" else RECIPES / f"{path.name}.toml")
    device = choose_device(arguments.device)
    batch = arguments.batch or recipe.run.batch
    rate = matrix_rate(device)
    print(
        f"{device_name(device)}, {arguments.recipe}, batches of {batch}; bfloat16 matrices: {rate / 1e12:.3g} TFLOP/s\n"
    )
    print("| | images a second | ms a step | TFLOP/s | share | peak memory |\n| --- | --- | --- | --- | --- | --- |")
    for dtype, compiled in (("float32", False), ("bfloat16", False), ("bfloat16", True)):
        if compiled and device.type != "cuda":
            continue
        run = replace(recipe.run, dtype=dtype, batch=batch, compile=compiled)
        muon = recipe.optimiser.muon_dtype if recipe.optimiser.muon_dtype != "auto" else dtype
        chosen = replace(recipe, run=run, optimiser=replace(recipe.optimiser, muon_dtype=muon))
        seconds, operations, memory = measure(chosen, device, arguments.seconds)
        print(
            f"| {dtype}{', compiled' if compiled else ''} | {batch / seconds:,.0f} | {1000 * seconds:.1f} "
            f"| {operations / seconds / 1e12:.3g} | {operations / seconds / rate:.0%} | {memory / 2**20:,.0f} MiB |",
            flush=True,
        )
    return 0


def measure(recipe: Recipe, device: torch.device, seconds: float) -> tuple[float, float, float]:
    """Seconds of a step, operations of its products, and the peak of memory in bytes: the device's, or the process's."""
    trainer = Trainer(recipe, classes=CLASSES, vocabulary=VOCABULARY, device=device)
    batch = random_batch(recipe, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP):
        trainer.step(fresh(batch))
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or not done:
        trainer.step(fresh(batch))  # its loss is read, so an accelerator has finished
        done += 1
    elapsed = (time.perf_counter() - started) / done
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss
    plain = Trainer(
        replace(recipe, run=replace(recipe.run, compile=False)), classes=CLASSES, vocabulary=VOCABULARY, device=device
    )
    plain.rate_scale = 0.0
    with FlopCounterMode(display=False) as counter:
        plain.step(fresh(batch))
    return elapsed, float(counter.get_total_flops()), float(memory)


def random_batch(recipe: Recipe, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(0)
    count, side, network = recipe.run.batch, recipe.prepared.size, recipe.network
    images: Tensor = torch.rand((count, recipe.data.form.channels, side, side), generator=generator) * 2 - 1
    condition = Condition()
    if network.conditioning is Conditioning.TEXT:
        condition = Condition(token_ids=torch.randint(1, VOCABULARY, (count, network.text_tokens), generator=generator))
    elif network.conditioning is Conditioning.CLASS:
        condition = Condition(class_labels=torch.randint(CLASSES, (count,), generator=generator))
    if recipe.data.augment_labels:
        condition = condition._replace(augment_labels=Augmentation(recipe.data).zero_labels(count))
    factor = recipe.upper.factor
    larger = Batch(images, condition, generator) if factor else None
    images = reduced(images, factor) if factor else images
    return Batch(images, condition, generator, larger=larger).to(device)


def fresh(batch: Batch) -> Batch:
    """The batch as at its first use: its generator draws the times and the noise."""
    generator = torch.Generator().manual_seed(0)
    return replace(batch, generator=generator, larger=batch.larger and replace(batch.larger, generator=generator))


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a product of square bfloat16 matrices, the best of ten."""
    side = 8192 if device.type == "cuda" else 2048
    matrix = torch.rand((side, side), generator=torch.Generator().manual_seed(0)).to(device, torch.bfloat16)
    return 2 * side**3 / min(_timed(lambda: matrix @ matrix, device) for _ in range(10))


def _timed(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
