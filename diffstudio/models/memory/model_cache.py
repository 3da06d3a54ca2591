"""Models that stay in memory: those used last, as many as fit into a budget. No torch is imported here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from diffstudio.models.checkpoint import Checkpoint
    from diffstudio.models.model import Model


class ModelCache:
    """The models in memory, the one used last at the end. The newest stays however large it is; older ones go when room is needed.

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
        """The model of exactly this file on this device, which is the newest from now on. One of a file that has changed goes.

        `vae` is the autoencoder that was chosen in place of its own.
        """
        self._models = [
            model for model in self._models if _same(model.checkpoint, checkpoint) or not _same_place(model, checkpoint)
        ]
        for model in self._models:
            with_vae = getattr(model, "loaded_vae", None)
            if (
                _same(model.checkpoint, checkpoint)
                and model.device == device
                and with_vae == (vae.path if vae is not None else None)
            ):
                self._models.remove(model)
                self._models.append(model)
                return model
        return None

    def weights_bytes(self) -> int:
        """What all of them take together."""
        return sum(map(weights_bytes, self._models))

    def make_room(self, wanted_bytes: int, budget_bytes: int) -> None:
        """Let go of the models not used for longest, until one of this size fits into the budget with the others, or none is left."""
        while self._models and wanted_bytes + sum(map(weights_bytes, self._models)) > budget_bytes:
            del self._models[0]

    def make_room_beside(self, model: Model, wanted_bytes: int, budget_bytes: int) -> bool:
        """As `make_room`, for what is to lie beside a model that stays; whether that fits now."""
        while (full := wanted_bytes + sum(map(weights_bytes, self._models)) > budget_bytes) and self._models[
            0
        ] is not model:
            del self._models[0]
        return not full

    def keep_within(self, budget_bytes: int) -> None:
        """Let go of those not used for longest until the rest fits; the newest stays."""
        while len(self._models) > 1 and sum(map(weights_bytes, self._models)) > budget_bytes:
            del self._models[0]

    def put(self, model: Model) -> None:
        self._models.append(model)

    def drop_others(self) -> int:
        """Let go of all but the newest, and say how many those were."""
        others = len(self._models) - 1
        del self._models[:-1]
        return max(0, others)

    def clear(self) -> None:
        self._models.clear()


def weights_bytes(model: Model) -> int:
    """What its weights take, wherever they are; shared ones once."""
    tensors = {
        id(tensor): int(tensor.nbytes)
        for module in modules_of(model)
        for tensor in (*module.parameters(), *module.buffers())
    }
    return sum(tensors.values())


def modules_of(model: Model) -> Iterator[Any]:
    """Its networks, text encoders and autoencoders (torch.nn.Module): whatever it holds by itself, in a mapping or in a pipeline."""
    for value in vars(model).values():
        parts = getattr(value, "components", value)  # of a diffusers pipeline
        for part in parts.values() if isinstance(parts, Mapping) else (value,):
            if hasattr(part, "parameters") and hasattr(part, "buffers"):
                yield part


def _same_place(model: Model, checkpoint: Checkpoint) -> bool:
    return model.checkpoint is not None and model.checkpoint.path == checkpoint.path


def _same(kept: Checkpoint | None, wanted: Checkpoint) -> bool:
    return kept is not None and (kept.path, kept.modified, kept.size_bytes) == (
        wanted.path,
        wanted.modified,
        wanted.size_bytes,
    )
