"""ModelCache: keeps the most recently used models in memory, within a budget. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from diffstudio.models.checkpoint import Checkpoint
    from diffstudio.models.model import Model


class ModelCache:
    """The models in memory, the most recently used last.

    The newest is kept however large it is; older ones are dropped to make room. Not thread-safe.
    """

    def __init__(self) -> None:
        self._models: list[Model] = []

    @property
    def newest(self) -> Model | None:
        return self._models[-1] if self._models else None

    def __len__(self) -> int:
        return len(self._models)

    def get(self, checkpoint: Checkpoint, device: torch.device, vae: Checkpoint | None = None) -> Model | None:
        """The model of exactly this file on this device, with this VAE in place of its own; it becomes the newest.

        A model whose file has changed is dropped.
        """
        self._models = [
            model for model in self._models if _same(model.checkpoint, checkpoint) or not _same_path(model, checkpoint)
        ]
        for model in self._models:
            if (
                _same(model.checkpoint, checkpoint)
                and model.device == device
                and model.vae_path == (vae.path if vae is not None else None)
            ):
                self._models.remove(model)
                self._models.append(model)
                return model
        return None

    def weights_bytes(self) -> int:
        """The memory of all models in bytes."""
        return sum(map(weights_bytes, self._models))

    def make_room(self, needed_bytes: int, budget_bytes: int) -> None:
        """Drop the least recently used models until another of this size fits into the budget, or none is left."""
        while self._models and needed_bytes + self.weights_bytes() > budget_bytes:
            del self._models[0]

    def make_room_keeping(self, model: Model, needed_bytes: int, budget_bytes: int) -> bool:
        """As `make_room`, for weights loaded next to `model`, which is kept; returns whether they fit."""

        def fits() -> bool:
            return needed_bytes + self.weights_bytes() <= budget_bytes

        while not fits() and self._models[0] is not model:
            del self._models[0]
        return fits()

    def keep_within(self, budget_bytes: int) -> None:
        """Drop the least recently used models until the others fit; the newest is kept."""
        while len(self._models) > 1 and self.weights_bytes() > budget_bytes:
            del self._models[0]

    def put(self, model: Model) -> None:
        """Add a model as the newest."""
        self._models.append(model)

    def drop_others(self) -> int:
        """Drop all but the newest; returns how many were dropped."""
        others = len(self._models) - 1
        del self._models[:-1]
        return max(0, others)

    def clear(self) -> None:
        self._models.clear()


def weights_bytes(model: Model) -> int:
    """The memory of a model's weights in bytes, on any device; shared weights count once."""
    controlnets = model.controlnets.components if model.controlnets is not None else {}
    tensors = {
        id(tensor): int(tensor.nbytes)
        for module in (*model.modules.values(), *controlnets.values())
        for tensor in (*module.parameters(), *module.buffers())
    }
    return sum(tensors.values())


def _same_path(model: Model, checkpoint: Checkpoint) -> bool:
    return model.checkpoint is not None and model.checkpoint.path == checkpoint.path


def _same(cached: Checkpoint | None, checkpoint: Checkpoint) -> bool:
    return cached is not None and (cached.path, cached.modified, cached.size_bytes) == (
        checkpoint.path,
        checkpoint.modified,
        checkpoint.size_bytes,
    )
