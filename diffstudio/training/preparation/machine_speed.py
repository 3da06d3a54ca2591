"""Which data type is faster on this machine: measured once for each device, torch and size of network, and remembered.

The measurement takes a small part of the run's time, whatever the network: on a processor with a part of each batch, and
no longer than is needed to decide.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import StorageProblem
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.plurals import count_of
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.trainer import Trainer

_ROUNDS = 5  # alternating, so that a busy moment does not decide
_CLEAR = 1.25  # ratio after the second round, beyond which no more are measured: the first may have had a busy moment
_MOST_SECONDS, _FEWEST_SECONDS = 8.0, 2.0  # for all rounds; two are always measured
_SHARE = 0.02  # of a run whose length is a time
_PART_OF_BATCH = 8  # on a processor, whose speed hardly depends on the number of images: one image of so many
_NOT_TIMED = ("vocabulary", "text_tokens", "drop_condition", "name_share", "tags_share")  # they differ between folders
_MATRIX = 256  # rows
_HOPELESS = 4  # times slower with matrices: steps are not even tried, of which each may take many seconds
_MOST_KEPT = 200  # measurements in the file


def resolve_dtypes(
    recipe: Recipe,
    build: Callable[[Recipe], Trainer],
    dataset: ImageDataset,
    tokenizer: CaptionTokenizer | None,
    check: Callable[[], None],
) -> tuple[Recipe, str]:
    """The recipe with each `auto` dtype replaced by the faster one, and the finding in a sentence.

    `check()` runs before each step that is measured, and may raise.
    """
    device = torch.device(recipe.run.device)
    muon = recipe.optimiser.muon_dtype
    if muon == "auto":
        muon = "bfloat16" if device.type != "cpu" or _of_matrices() >= 1 else "float32"
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, muon_dtype=muon))
    if recipe.run.dtype != "auto":
        return recipe, ""

    def with_dtype(dtype: str) -> Recipe:
        return replace(recipe, run=replace(recipe.run, dtype=dtype))

    if (
        device.type == "mps" or recipe.objective.kind is not ObjectiveName.DIFFUSION
    ):  # VAEs and GANs train in float32 only
        return with_dtype("float32"), ""
    if device.type == "cpu" and _of_matrices() < 1 / _HOPELESS:
        return with_dtype("float32"), "float32 because this processor is many times slower in bfloat16."
    key = _key(recipe, device)
    seconds = _remembered().get(key)
    if not isinstance(seconds, dict) or set(seconds) != {"float32", "bfloat16"}:
        timers = {
            dtype: _Timer(build(_part(with_dtype(dtype))), Batches(dataset, _part(with_dtype(dtype)), tokenizer), check)
            for dtype in ("float32", "bfloat16")
        }
        seconds = _compare(timers, _most_seconds(recipe))
        _remember(key, seconds)
    chosen = min(seconds, key=lambda dtype: float(seconds[dtype]))
    times = " and ".join(f"{seconds[dtype]:.2f} s in {dtype}" for dtype in ("float32", "bfloat16"))
    count = _part(recipe).run.batch
    return with_dtype(
        chosen
    ), f"{chosen} because {count_of(count, 'image')} {'takes' if count == 1 else 'take'} {times}."


def _part(recipe: Recipe) -> Recipe:
    """What is measured of the recipe: on a processor with fewer images, and without Muon, which has a type of its own."""
    if recipe.run.device != "cpu":
        return recipe
    run, optimiser = recipe.run, recipe.optimiser
    run = replace(run, batch=max(1, run.batch // _PART_OF_BATCH))
    return replace(recipe, run=run, optimiser=replace(optimiser, name=OptimiserName.ADAMW))


def _most_seconds(recipe: Recipe) -> float:
    if recipe.run.minutes <= 0:
        return _MOST_SECONDS
    return min(_MOST_SECONDS, max(_FEWEST_SECONDS, _SHARE * 60 * recipe.run.minutes))


class _Timer:
    """Measures steps of a trainer that is not used for anything else."""

    def __init__(self, trainer: Trainer, batches: Batches, check: Callable[[], None]) -> None:
        self._trainer, self._batches, self._check = trainer, batches, check
        self._step(0)  # warms up

    def _step(self, index: int) -> None:
        self._check()
        batch = self._batches.at(index, self._trainer.device)
        self._trainer.step(batch)  # its loss is read, so an accelerator has finished

    def __call__(self) -> float:
        """Seconds of one step."""
        started = time.perf_counter()
        self._step(1)
        return time.perf_counter() - started


def _compare(timers: Mapping[str, Callable[[], float]], most_seconds: float = _MOST_SECONDS) -> dict[str, float]:
    """The shortest time of each in two rounds, and in more until they have taken `most_seconds` or the ratio is clear."""
    best = {name: float("inf") for name in timers}
    spent = 0.0
    for measured in range(_ROUNDS):
        for name, timer in timers.items():
            seconds = timer()
            best[name] = min(best[name], seconds)
            spent += seconds
        next_round = spent / (measured + 1)  # seconds, if it is as long as those before
        if measured and (spent + next_round > most_seconds or max(best.values()) > _CLEAR * min(best.values())):
            break
    return best


def _of_matrices() -> float:
    """How much faster this processor multiplies matrices in bfloat16 than in float32; below 1: more slowly."""
    key = f"matrices {torch.__version__} {torch.get_num_threads()} {torch.backends.cpu.get_cpu_capability()}"
    seconds = _remembered().get(key)
    if not isinstance(seconds, dict) or set(seconds) != {"float32", "bfloat16"}:

        def timer(dtype: torch.dtype) -> Callable[[], float]:
            matrix = torch.ones(_MATRIX, _MATRIX, dtype=dtype)

            def product() -> float:
                started = time.perf_counter()
                torch.mm(matrix, matrix)
                return time.perf_counter() - started

            product()
            return product

        seconds = _compare({"float32": timer(torch.float32), "bfloat16": timer(torch.bfloat16)})
        _remember(key, seconds)
    return float(seconds["float32"]) / float(seconds["bfloat16"])


def _key(recipe: Recipe, device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    parts = [device.type, name, torch.__version__, recipe.run.threads, _part(recipe).run.batch, recipe.data.size]
    network = {field: value for field, value in asdict(recipe.network).items() if field not in _NOT_TIMED}
    shape = [network, _part(recipe).optimiser.name, recipe.optimiser.muon_dtype]
    shape += [asdict(recipe.upper)] if recipe.upper.factor else []
    return hashlib.sha256(json.dumps([*parts, *shape]).encode()).hexdigest()[:32]


def _file() -> Path:
    return paths.cache() / "speed.json"


def _remembered() -> dict[str, Any]:
    try:
        values = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _remember(key: str, seconds: dict[str, float]) -> None:
    values = _remembered()
    for old in list(values)[: max(0, len(values) - _MOST_KEPT)]:
        del values[old]
    with suppress(StorageProblem, OSError):  # measured again the next time
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_text(_file(), json.dumps(values | {key: seconds}))
