"""Post-hoc EMA of a run: a checkpoint with an average of any length, which can be chosen by its held-out loss.

`training.power_ema` has the mathematics. The run must have stored snapshots (`run.ema_snapshots` of its recipe).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from diffstudio.atomic import write_bytes
from diffstudio.errors import BadRequest, Interrupted, RunProblem, must_be_between
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory.lease import Lease
from diffstudio.networks.conditioning import Conditioning
from diffstudio.storage_errors import not_written
from diffstudio.training.power_ema import LONGEST, SHORTEST, rebuilt_weights, snapshot_steps
from diffstudio.training.run.resume import resumed_run
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.run.sample_sheets import SampleSheetRenderer, sample_prompts
from diffstudio.training.run.setup import RunContext
from diffstudio.training.run.setup_progress import SetupProgress

CANDIDATES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2)
_NOT_INHERITED = ("diffstudio.fitted_steps", "modelspec.hash_sha256")  # of other weights


@dataclass(frozen=True, slots=True)
class AveragedRun:
    """A run and the step of the snapshot at which its average is rebuilt."""

    run: RunFolder
    step: int


def averaged_run(path: Path) -> AveragedRun:
    """The run in a folder, at its last snapshot, or that of a checkpoint in it, at the last one before. RunProblem."""
    folder = path.parents[1] if path.is_file() and path.parent.name == "checkpoints" else path
    run = RunFolder.open(folder)
    steps = snapshot_steps(run.ema_folder)
    if path.is_file() and path.stem.isdecimal():
        steps = [step for step in steps if step <= int(path.stem)]
    if not steps:
        raise RunProblem(
            f"The run {run.name} has no averages to rebuild an EMA from",
            "no snapshot had been stored by then",
            "Set run.ema_snapshots to 16 or so in the recipe of the next run",
        )
    return AveragedRun(run, steps[-1])


def check_length(length: float) -> None:
    """BadRequest for a length that the snapshots cannot give."""
    if not SHORTEST <= length <= LONGEST:
        raise BadRequest(f"The length of the average is {length:g}", must_be_between(f"{SHORTEST:g}", f"{LONGEST:g}"))


class Averaging:
    """The network of a run whose weights are an average of one length after the other. Made by `averaging`."""

    def __init__(self, of: AveragedRun, context: RunContext, cancelled: Callable[[], bool]) -> None:
        self._of, self._context, self._cancelled = of, context, cancelled
        self._network = context.trainer.average.module
        self._parameters = dict(self._network.named_parameters())

    def loss(self, length: float) -> float:
        """The held-out loss of this length, lower is better. RunProblem without held-out images."""
        self._load(length)
        losses = self._context.trainer.objective.fixed_losses(self._network, self._context.batches)
        if losses is None:
            recipe = self._context.recipe
            raise RunProblem(
                f"The run {self._of.run.name} has no held-out images",
                "after its cross-validation it was trained on all images"
                if recipe.data.cross_splits
                else "its folder was too small",
                "Choose a length, and compare its samples",
            )
        return losses.loss

    def samples(self, length: float, count: int, on_call: Callable[[], None] = lambda: None) -> list[Image.Image]:
        """Images of this length with the first prompts and seeds of the run's sample sheets."""
        self._load(length)
        context, recipe = self._context, self._context.recipe
        renderer = SampleSheetRenderer(
            recipe,
            context.trainer.objective,
            context.tokenizer,
            context.dataset.classes if recipe.network.conditioning is Conditioning.CLASS else (),
            (context.run.prompts() or sample_prompts(recipe, context.dataset))[:count],
            context.dataset.size,
        )

        def before_call() -> None:
            self._check()
            on_call()

        return renderer.singly(self._network, renderer.draw(self._network, before_call))

    def _load(self, length: float) -> None:
        self._check()
        with torch.no_grad():
            for name, weights in _rebuilt(self._of, length, self._parameters).items():
                self._parameters[name].copy_(weights)

    def _check(self) -> None:
        if self._cancelled():
            raise Interrupted("Stopped before all was done")


@contextmanager
def averaging(of: AveragedRun, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Averaging]:
    """The run's network for averages of its weights. RunProblem while the run is trained.

    What it does ends with Interrupted when `cancelled()` becomes true.
    """
    silent = SetupProgress(RunFolder(Path(os.devnull)), lambda event: None, cancelled)
    with of.run.locked(), Lease().held(f"post-hoc EMA of {of.run.name}", cancelled):
        yield Averaging(of, resumed_run(of.run.path, silent), cancelled)


def held_out_losses(
    of: AveragedRun, lengths: Sequence[float] = CANDIDATES, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[tuple[float, float]]:
    """Each length with the held-out loss of its average, as from `Averaging.loss`."""
    with averaging(of, cancelled) as average:
        for length in lengths:
            yield length, average.loss(length)


def write_checkpoint(of: AveragedRun, length: float, target: Path) -> Path:
    """Write the average of this length as a checkpoint like those of the run. BadRequest, RunProblem, StorageProblem.

    Its header is that of the run's checkpoint, with `ema_length` in its training record.
    """
    check_length(length)
    if target.exists():
        raise BadRequest(f"There is already a file {target}", remedy="Choose another path")
    own = of.run.checkpoint(of.step)
    checkpoint = read_checkpoint(own if own.is_file() else of.run.latest_checkpoint)
    tensors = safetensors.torch.load_file(checkpoint.path)
    for name, weights in _rebuilt(of, length, tensors).items():
        tensors[name] = weights.to(tensors[name].dtype)
    record = {**checkpoint.json("run"), "steps": of.step, "held_out_loss": None, "ema_length": length}
    metadata = {name: value for name, value in checkpoint.metadata.items() if name not in _NOT_INHERITED} | {
        "diffstudio.run": json.dumps(record),
        "modelspec.title": f"{of.run.name}, EMA {length:g}",
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, safetensors.torch.save(tensors, metadata), not_written(target))
    return target


def _rebuilt(of: AveragedRun, length: float, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of this length, by the names of `known`. RunProblem if they are not those of this network."""
    weights = rebuilt_weights(of.run.ema_folder, of.step, length)
    if any(name not in known or known[name].shape != one.shape for name, one in weights.items()):
        raise RunProblem(
            f"The averages of the run {of.run.name} do not fit its network",
            remedy="Delete its folder `ema`, and train on",
        )
    return weights
