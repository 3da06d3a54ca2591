"""Pruning: a checkpoint without what does not draw: averaged copies, optimisers, a trainer's notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from diffstudio.errors import BadRequest, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint, Layout, Role
from diffstudio.models.files.safetensors_header import read_safetensors_header
from diffstudio.models.state_dicts.prefixes import EMA_PREFIX, unused_for_inference
from diffstudio.models.tools.spec import Made, Making, Precision, checked_file

_PRUNED = (Role.CHECKPOINT, Role.NETWORK, Role.VAE, Role.CONTROLNET, Role.TEXT_ENCODER)


def averaged(names: Iterable[str]) -> dict[str, str]:
    """The weights of which there is an averaged copy, each with the copy's name: `model.a.b` and `model_ema.ab`."""
    held = set(names)
    return {
        name: copy
        for name in held
        if name.startswith("model.") and (copy := EMA_PREFIX + name.removeprefix("model.").replace(".", "")) in held
    }


def left_out_bytes(checkpoint: Checkpoint) -> dict[str, int]:
    """What pruning would leave out, and how much of it there is; nothing for what cannot be pruned. Reads the header."""
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


def prune(checkpoint: Checkpoint, target: Path, precision: Precision = Precision.KEEP, *, ema: bool = False) -> Making:
    """A file at `target` with what draws; with `ema` the averaged copy of each weight that has one takes its place.

    BadRequest where there is nothing to leave out, CheckpointUnknown where it is not known what draws.
    """
    from diffstudio.models.tools.convert import Narrowed, check_precision
    from diffstudio.models.tools.weights_writer import open_weights, write_file

    target = checked_file(target)
    if checkpoint.role not in _PRUNED or checkpoint.layout is Layout.FOLDER:
        raise CheckpointUnknown(
            f"{checkpoint.name} cannot be pruned",
            "it is a folder, whose files hold only what draws"
            if checkpoint.layout is Layout.FOLDER
            else "it is not known here which of its tensors draw",
            "Choose a checkpoint in one file",
        )
    check_precision(checkpoint, precision)
    with open_weights(checkpoint) as weights:
        tensors, narrowed = weights.tensors, Narrowed()
        gone = _counted({name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()})
        copies = averaged(tensors) if ema else {}
        if ema and not copies:
            raise BadRequest(f"{checkpoint.name} holds no averaged weights", remedy="Prune it without asking for them")
        if not gone and precision is Precision.KEEP:
            raise BadRequest(
                f"There is nothing to leave out of {checkpoint.name}",
                "all of its tensors are needed to draw",
                "Choose another precision to make it smaller",
            )
        kept = {
            name: tensors[copies.get(name, name)].to(tensor.dtype) if name in copies else tensor
            for name, tensor in tensors.items()
            if not unused_for_inference(name)
        }
        yield from write_file(target, narrowed.stored(kept, precision), weights.metadata)
    size = target.stat().st_size
    yield Made(target, size, (*_told(checkpoint, size, gone, len(copies)), *narrowed.notes(precision)))


def _told(checkpoint: Checkpoint, size: int, gone: Mapping[str, int], copies: int) -> tuple[str, ...]:
    swapped = f"The averaged copies took the place of {copies:,} tensors. " if copies else ""
    what = f"Left out: {'; '.join(f'{what} ({_size(count)})' for what, count in gone.items())}. " if gone else ""
    return (f"{swapped}{what}The file is {_size(checkpoint.size_bytes - size)} smaller.",)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 50_000 else f"{count:,} bytes"
