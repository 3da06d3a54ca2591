"""Checkpoint -> Model: the one place that knows which file of `families/` reads which checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch

from diffstudio.errors import CheckpointMissing, CheckpointUnknown, Stopped
from diffstudio.models.checkpoint import Checkpoint, read_header
from diffstudio.models.memory import choose_dtype
from diffstudio.models.model import Model

_CHUNK_BYTES = 8 << 20
_HASHED_SHARE = 0.4  # of the time that loading takes, about


def load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype | None = None,
         on_progress: Callable[[float], None] | None = None, cancelled: Callable[[], bool] | None = None) -> Model:
    """The checkpoint's weights in memory; `on_progress` hears fractions from 0 to 1.

    Raises CheckpointMissing, CheckpointDamaged, CheckpointUnknown for a kind that no family reads, and Stopped soon after
    `cancelled()` becomes true.
    """
    from diffstudio.models.families import pixel

    progress = on_progress if on_progress is not None else _nobody
    if checkpoint.family != pixel.FAMILY:
        raise CheckpointUnknown(f"{checkpoint.name} is of a kind that cannot be used yet",
                                "only checkpoints trained with diffstudio can make pictures",
                                "Choose another checkpoint, or train one")
    read_header(checkpoint.path)  # that it is whole, before anything is believed
    progress(0.0)
    sha256 = _sha256(checkpoint, lambda fraction: progress(_HASHED_SHARE * fraction), cancelled)
    model = pixel.load(checkpoint, device, dtype or choose_dtype(device, checkpoint.parameters), sha256)
    _stop_if(cancelled)
    progress(1.0)
    return model


def _sha256(checkpoint: Checkpoint, progress: Callable[[float], None], cancelled: Callable[[], bool] | None) -> str:
    """Of the whole file, which is what other programs call a model's hash; reading it also warms the disk's cache."""
    digest, done = hashlib.sha256(), 0
    try:
        with checkpoint.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                _stop_if(cancelled)
                digest.update(chunk)
                done += len(chunk)
                progress(min(1.0, done / max(1, checkpoint.size_bytes)))
    except OSError as error:
        raise CheckpointMissing(f"{checkpoint.path} cannot be read", error.strerror or str(error),
                                "Check the disk, or choose another checkpoint") from error
    return digest.hexdigest()


def _stop_if(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise Stopped("Stopped while loading")


def _nobody(fraction: float) -> None:
    """Hears the progress when nobody asked for it."""
