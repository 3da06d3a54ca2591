"""The processes of a run that do not lead it: they receive its recipe and state, and follow the leader's orders."""

from __future__ import annotations

import io
import json
import signal
import socket
import threading
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffstudio import paths
from diffstudio.errors import RunProblem
from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.plurals import count_of
from diffstudio.training.batches_ahead import BatchesAhead
from diffstudio.training.data.batches import Batches
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.distributed import sharding
from diffstudio.training.distributed.cluster import Place
from diffstudio.training.distributed.meeting import use_device
from diffstudio.training.distributed.team import Kind, Order, Team
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.run.setup import RunContext, build_trainer, finish_inspection, prepare_dataset
from diffstudio.training.run.setup_progress import SetupProgress
from diffstudio.training.trainer import Trainer

_ROWS_COMPARED = 64  # images whose pixels are compared between machines


def lead(context: RunContext, team: Team) -> None:
    """Send recipe, image list, tokenizer and state to the other processes, and train with them from now on.

    RunProblem for fewer images in a batch than processes.
    """
    recipe, trainer = context.recipe, context.trainer
    if recipe.run.batch < team.world:
        raise RunProblem(
            f"A batch of {count_of(recipe.run.batch, 'image')} cannot be divided among {team.world} processes",
            remedy="Use fewer processes, or a larger batch in the recipe",
        )
    shard = is_large(trainer)
    tokenizer = context.tokenizer
    message = {
        "recipe": recipe.to_json(),
        "dataset": asdict(StoredDataset.of(context.dataset, recipe, context.folder)),
        "pixels": pixels_digest(context.dataset),
        "tokenizer": None if tokenizer is None else tokenizer.to_json(),
        "folder": str(context.folder),
        "name": context.run.name,
        "machine": this_machine(),
        "shard": shard,
    }
    team.share(json.dumps(message).encode("utf-8", "surrogatepass"))
    file = io.BytesIO()
    torch.save(trainer.state(), file)
    team.share(file.getvalue())
    trainer.join(team, shard=shard)
    context.batches.team = team


def is_large(trainer: Trainer) -> bool:
    """Whether the weights are sharded, as for large diffusion models."""
    size = sum(parameter.numel() for parameter in trainer.network.parameters())
    return trainer.recipe.objective.kind is ObjectiveName.DIFFUSION and size >= sharding.PARAMETERS


def restore_everywhere(trainer: Trainer, file: Path) -> None:
    """Load a state file into the trainers of all processes. The leader calls this."""
    if trainer.team.world > 1:
        trainer.team.order(Order(Kind.RESTORE))
        trainer.team.share(file.read_bytes())
    trainer.restore(torch.load(file, map_location=trainer.device, weights_only=True))


def _receive_state(trainer: Trainer, team: Team) -> None:
    trainer.restore(torch.load(io.BytesIO(team.share(b"")), map_location=trainer.device, weights_only=True))


def follow(team: Team, folder: Path | None, progress: SetupProgress, place: Place) -> None:
    """Follow the leader's orders to the end of the run. DiffstudioError if it ends early."""
    message = json.loads(team.share(b"").decode("utf-8", "surrogatepass"))
    recipe = Recipe.from_run(message["recipe"])
    device = choose_device(recipe.run.device)
    use_device(device, place)
    dataset = _dataset(message, recipe, folder, progress)
    text = message["tokenizer"]
    tokenizer = CaptionTokenizer.from_json(text) if text is not None else None
    trainer = build_trainer(recipe, dataset, tokenizer, device)
    _receive_state(trainer, team)
    trainer.join(team, shard=message["shard"])
    borrowed = _Accelerator(message["name"]) if message["machine"] != this_machine() and place.index == 0 else None
    batches = BatchesAhead(Batches(dataset, recipe, tokenizer, team), device)
    try:
        _obey(trainer, batches, team, borrowed)
    finally:
        batches.close()
        if borrowed is not None:
            borrowed.release()


def _obey(trainer: Trainer, batches: BatchesAhead, team: Team, accelerator: _Accelerator | None) -> None:
    while (order := team.receive()).kind is not Kind.END:
        match order.kind:
            case Kind.STEP:
                if accelerator is not None:
                    accelerator.use()
                trainer.step_number, trainer.progress, trainer.rate_scale = order.step, order.progress, order.rate_scale
                trainer.step(batches.at(order.step))
            case Kind.RESTORE:
                _receive_state(trainer, team)
            case kind:
                trainer.gather(kind)


class _Accelerator:
    """The accelerator of a machine other than the leader's, shared with other work there."""

    def __init__(self, run: str) -> None:
        self._lease, self._by = Lease(), f"training {run}"

    def use(self) -> None:
        """Call before a step: waits while images are generated on this machine, and with it all other machines."""
        if not self._lease.is_held:
            self._lease.acquire(self._by)
        else:
            self._lease.yield_if_wanted()

    def release(self) -> None:
        self._lease.release()


def _dataset(message: dict[str, Any], recipe: Recipe, folder: Path | None, progress: SetupProgress) -> ImageDataset:
    """The run's images, already prepared on this machine or read from a local folder. RunProblem if they differ."""
    stored = StoredDataset.from_values(message["dataset"])
    dataset = stored.open_prepared()
    if dataset is None:
        images = folder or Path(message["folder"])
        stored.check_moved(images)
        dataset = stored.among(prepare_dataset(finish_inspection(images, progress), recipe, progress))
    if len(dataset) != len(stored.paths) or pixels_digest(dataset) != message["pixels"]:
        raise RunProblem(
            "The images of this machine differ from those of the first one",
            f"{len(dataset):,} of {len(stored.paths):,} are here, or some have different pixels",
            "Copy the folder from the first machine",
        )
    return dataset


def pixels_digest(dataset: ImageDataset) -> int:
    """A checksum of some evenly spaced images, to compare two machines."""
    return zlib.crc32(np.ascontiguousarray(dataset.rows_of(evenly_spaced(len(dataset), _ROWS_COMPARED))).tobytes())


def this_machine() -> str:
    """A name for the machine and data folder that share one accelerator lease."""
    return f"{socket.gethostname()} {paths.data().resolve()}"


def leave_signals_to_the_leader() -> None:
    """Ignore Ctrl+C, which reaches every process of a terminal: the leader stops the run, and then the others."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
