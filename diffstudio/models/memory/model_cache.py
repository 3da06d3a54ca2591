"""The models that stay in memory: those used last, as many as fit into a budget. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from diffstudio.models.checkpoint import Checkpoint
    from diffstudio.models.model import Model


class ModelCache:
    """The models in memory, the one used last at the end.

    The newest stays however large it is; older ones are dropped for it.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._models: list[Model] = []

    @property
    def newest(self) -> Model | None:
        return self._models[-1] if self._models else None

    def __len__(self) -> int:
        return len(self._models)

    def get(self, checkpoint: Checkpoint, device: torch.device, vae: Checkpoint | None = None) -> Model | None:
        """The model of exactly this file on this device, which becomes the newest.

        One of a file that has changed is dropped.

        `vae` is the VAE that was chosen in place of its own.
        """
        self._models = [
            model for model in self._models if _same(model.checkpoint, checkpoint) or not _same_place(model, checkpoint)
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
        """The memory that all of them take together."""
        return sum(map(weights_bytes, self._models))

    def make_room(self, needed_bytes: int, budget_bytes: int) -> None:
        """Drop the least recently used models until one of this size fits into the budget with the others, or none is
        left.
        """
        while self._models and needed_bytes + sum(map(weights_bytes, self._models)) > budget_bytes:
            del self._models[0]

    def make_room_beside(self, model: Model, needed_bytes: int, budget_bytes: int) -> bool:
        """As `make_room`, for something that is loaded next to a model that stays; returns whether it fits."""
        while (full := needed_bytes + sum(map(weights_bytes, self._models)) > budget_bytes) and self._models[
            0
        ] is not model:
            del self._models[0]
        return not full

    def keep_within(self, budget_bytes: int) -> None:
        """Drop the least recently used models until the others fit; the newest stays."""
        while len(self._models) > 1 and sum(map(weights_bytes, self._models)) > budget_bytes:
            del self._models[0]

    def put(self, model: Model) -> None:
        self._models.append(model)

    def drop_others(self) -> int:
        """Drop all but the newest; returns how many those were."""
        others = len(self._models) - 1
        del self._models[:-1]
        return max(0, others)

    def clear(self) -> None:
        self._models.clear()


def weights_bytes(model: Model) -> int:
    """The memory of its weights, on whatever device they are; shared ones count once."""
    controlnets = model.controlnets.components if model.controlnets is not None else {}
    tensors = {
        id(tensor): int(tensor.nbytes)
        for module in (*model.modules.values(), *controlnets.values())
        for tensor in (*module.parameters(), *module.buffers())
    }
    return sum(tensors.values())


def _same_place(model: Model, checkpoint: Checkpoint) -> bool:
    return model.checkpoint is not None and model.checkpoint.path == checkpoint.path


def _same(kept: Checkpoint | None, wanted: Checkpoint) -> bool:
    return kept is not None and (kept.path, kept.modified, kept.size_bytes) == (
        wanted.path,
        wanted.modified,
        wanted.size_bytes,
    )
