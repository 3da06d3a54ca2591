"""Prune a checkpoint: leave out EMA copies, optimiser states and everything else that inference does not need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from diffstudio.errors import BadRequest, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.safetensors_header import read_safetensors_header
from diffstudio.models.state_dicts.prefixes import EMA_PREFIX, unused_for_inference
from diffstudio.models.tools.spec import Precision, ToolProgress, ToolResult, checked_file
from diffstudio.plurals import by_number, count_of

_PRUNED = (Role.CHECKPOINT, Role.NETWORK, Role.VAE, Role.CONTROLNET, Role.TEXT_ENCODER)


def ema_copies(names: Iterable[str]) -> dict[str, str]:
    """The keys of weights that have an EMA copy, each with the copy's key: `model.a.b` -> `model_ema.ab`."""
    held = set(names)
    return {
        name: copy
        for name in held
        if name.startswith("model.") and (copy := EMA_PREFIX + name.removeprefix("model.").replace(".", "")) in held
    }


def prunable_bytes(checkpoint: Checkpoint) -> dict[str, int]:
    """Bytes that pruning would leave out, by kind; empty for files that cannot be pruned. Reads the header."""
    if checkpoint.layout not in (Layout.ORIGINAL, Layout.DIFFUSERS) or checkpoint.role not in _PRUNED:
        return {}
    return _counted(
        {name: entry.end - entry.start for name, entry in read_safetensors_header(checkpoint.path).tensors.items()}
    )


def _counted(sizes: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, size in sizes.items():
        if what := unused_for_inference(name):
            found[what] = found.get(what, 0) + size
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def prune(
    checkpoint: Checkpoint, target: Path, precision: Precision = Precision.KEEP, *, ema: bool = False
) -> ToolProgress:
    """Write a file at `target` with the weights that inference needs; with `ema` each is replaced by its EMA copy.

    BadRequest where there is nothing to leave out, CheckpointUnknown for files that cannot be pruned.
    """
    from diffstudio.models.tools.convert import PrecisionCaster, check_precision
    from diffstudio.models.tools.weights_writer import open_checkpoint, write_file

    target = checked_file(target)
    if checkpoint.role not in _PRUNED or checkpoint.layout is Layout.FOLDER:
        raise CheckpointUnknown(
            f"{checkpoint.name} cannot be pruned",
            "it is a diffusers folder, which holds only what inference needs"
            if checkpoint.layout is Layout.FOLDER
            else "it is not known which of its tensors inference needs",
            "Choose a single-file checkpoint",
        )
    check_precision(checkpoint, precision)
    with open_checkpoint(checkpoint) as weights:
        tensors, caster = weights.tensors, PrecisionCaster()
        dropped = _counted({name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()})
        copies = ema_copies(tensors) if ema else {}
        if ema and not copies:
            raise BadRequest(f"{checkpoint.name} has no EMA weights", remedy="Prune it without EMA")
        if not dropped and precision is Precision.KEEP:
            raise BadRequest(
                f"{checkpoint.name} is pruned already",
                "inference needs all of its tensors",
                "Choose another precision to make it smaller",
            )
        kept = {
            name: tensors[copies.get(name, name)].to(tensor.dtype) if name in copies else tensor
            for name, tensor in tensors.items()
            if not unused_for_inference(name)
        }
        yield from write_file(target, caster.cast(kept, precision), weights.metadata)
    size = target.stat().st_size
    yield ToolResult(target, size, (*_notes(checkpoint, size, dropped, len(copies)), *caster.notes(precision)))


def _notes(checkpoint: Checkpoint, size: int, dropped: Mapping[str, int], copies: int) -> tuple[str, ...]:
    swapped = (
        f"Replaced {count_of(copies, 'tensor')} by {by_number(copies, 'its EMA copy', 'their EMA copies')}. "
        if copies
        else ""
    )
    what = f"Left out: {'; '.join(f'{what} ({_size(count)})' for what, count in dropped.items())}. " if dropped else ""
    saved = checkpoint.size_bytes - size  # less than 0 where another precision outweighs what was left out
    return (f"{swapped}{what}The file is {_size(abs(saved))} {'smaller' if saved >= 0 else 'larger'}.",)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 50_000 else count_of(count, "byte")
