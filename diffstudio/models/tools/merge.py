"""Merge two or three checkpoints of one family, tensor by tensor, whatever their naming and precision.

With m the share, a weighted sum is a (1 - m) + b m, and adding the difference a + m (b - c): what b learned since c,
added to a. Computed in float32. The file's header names its inputs: `modelspec.merged_from`, and `diffstudio.merge`
with their hashes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffstudio.errors import BadRequest, CheckpointUnknown
from diffstudio.models.checkpoint import FORMAT as CHECKPOINT_FORMAT
from diffstudio.models.checkpoint import FORMAT_OF_CLEAN_IMAGE, Checkpoint
from diffstudio.models.components.open_components import open_components
from diffstudio.models.detection.families_table import family_of, has_weight_tools, is_trained_here
from diffstudio.models.detection.types import Layout
from diffstudio.models.files.hashes import sha256_steps
from diffstudio.models.files.lazy_tensor import lazy, materialize
from diffstudio.models.state_dicts.prefixes import kind_of_root, root_of, unused_for_inference
from diffstudio.models.state_dicts.split import dequantized, join_components, split_components
from diffstudio.models.state_dicts.to_original import State, has_original_naming, to_original
from diffstudio.models.tools.convert import PrecisionCaster, check_precision, marker_tensors, modelspec_metadata
from diffstudio.models.tools.spec import Method, Precision, ToolProgress, ToolResult, check_share, checked_file
from diffstudio.models.tools.weights_writer import open_checkpoint, within_range, write_file
from diffstudio.networks.state_dict_keys import with_current_keys
from diffstudio.plurals import by_number, count_of

FORMAT = 1  # of diffstudio.merge
_HASHED = 0.2  # roughly, of the whole time
_MUST_BE_EQUAL = {
    "network": "different networks",
    "tokenizer": "different tokenizers",
    "schedule": "different noise schedules",
    "prediction": "different predictions",
    "upper": "different upper levels",
    "tuned": "not been distilled in the same way",
    "guidance": "",
}


def merge(
    inputs: Sequence[Checkpoint],
    target: Path,
    share: float = 0.5,
    method: Method = Method.WEIGHTED_SUM,
    precision: Precision = Precision.KEEP,
    *,
    beyond: bool = False,
    title: str = "",
) -> ToolProgress:
    """Write a file at `target` in `precision`, by default that of the first checkpoint, and in the naming of the first.

    `beyond` allows shares outside 0 to 1. BadRequest for incompatible checkpoints, naming the tensor.
    """
    target = checked_file(target)
    check_together(inputs, method)
    check_share(share, beyond)
    check_precision(inputs[0], precision)
    parents: list[dict[str, Any]] = []
    for number, checkpoint in enumerate(inputs):
        parents.append(
            (yield from parent_record(checkpoint, "abc"[number], number / len(inputs), _HASHED / len(inputs)))
        )
    with contextlib.ExitStack() as files:
        opened = [files.enter_context(open_checkpoint(checkpoint)) for checkpoint in inputs]
        named = in_common_naming(inputs, [weights.tensors for weights in opened])
        merged, notes = merged_tensors(inputs, named, share, method)
        merge_record = {"format": FORMAT, "method": str(method), "share": share, "inputs": parents}
        metadata = derived_metadata(inputs[0], opened[0].metadata, title or target.stem, parents) | {
            "diffstudio.merge": json.dumps(merge_record, ensure_ascii=False)
        }
        caster = PrecisionCaster()
        stored = caster.cast(merged, precision) | (
            marker_tensors(inputs[0]) if inputs[0].layout is Layout.FOLDER else {}
        )
        for fraction in write_file(target, stored, metadata):
            yield _HASHED + (1 - _HASHED) * fraction
    yield ToolResult(target, target.stat().st_size, (*notes, *caster.notes(precision)))


# ---- compatibility ----------------------------------------------------------------------------------------------


def check_together(inputs: Sequence[Checkpoint], method: Method) -> None:
    """BadRequest or CheckpointUnknown for checkpoints whose records say that they cannot be merged."""
    needed = 3 if method is Method.ADD_DIFFERENCE else 2
    if len(inputs) != needed:
        raise BadRequest(
            f"{count_of(len(inputs), 'checkpoint')} {by_number(len(inputs), 'was', 'were')} given",
            f"{method} takes {needed}",
            f"Name {needed} checkpoints",
        )
    first = inputs[0]
    for checkpoint in inputs:
        if not checkpoint.can_generate or not has_weight_tools(checkpoint.family):
            raise CheckpointUnknown(
                f"{checkpoint.name} cannot be merged",
                checkpoint.reason.rstrip(".") or "it generates no images",
                "Choose checkpoints of a supported family",
            )
    for other in inputs[1:]:
        titles = [family.title if (family := family_of(one.family)) else one.family for one in (first, other)]
        if other.family != first.family:
            raise BadRequest(
                _not_mergeable(first, other),
                f"they are of different families: {titles[0]} and {titles[1]}",
                "Choose checkpoints of one family",
            )
        if first.prediction and other.prediction and other.prediction != first.prediction:
            raise BadRequest(
                _not_mergeable(first, other),
                f"one predicts {first.prediction}, the other {other.prediction}",
                "Choose checkpoints with the same prediction type",
            )
        if is_trained_here(first.family):
            _check_trained_here(first, other)


def _check_trained_here(first: Checkpoint, other: Checkpoint) -> None:
    """BadRequest for checkpoints trained here that differ in network, classes, tokenizer or noise schedule."""
    differs = (
        "different classes"
        if first.classes != other.classes
        else next(
            (
                why
                for key, why in _MUST_BE_EQUAL.items()
                if why and first.metadata.get(f"diffstudio.{key}") != other.metadata.get(f"diffstudio.{key}")
            ),
            "",
        )
    )
    if differs:
        raise BadRequest(
            _not_mergeable(first, other),
            f"they have {differs}",
            "Merge checkpoints of one run, or of runs that started from the same checkpoint",
        )


def in_common_naming(inputs: Sequence[Checkpoint], tensors: Sequence[State]) -> list[dict[str, Tensor]]:
    """Each input's tensors under common keys: the first's own, or else the original or diffusers' naming."""
    needed = [
        dequantized({name: tensor for name, tensor in state.items() if not unused_for_inference(name)})
        for state in tensors
    ]
    if is_trained_here(inputs[0].family):
        return [with_current_keys(state) for state in needed]
    same_naming = all(
        len(needed[0].keys() & other.keys()) * 2 > min(len(needed[0]), len(other)) for other in needed[1:]
    )
    if same_naming and inputs[0].layout is not Layout.FOLDER:
        return needed
    family = inputs[0].family
    components = [
        split_components(state, family, open_components(checkpoint).config)
        for checkpoint, state in zip(inputs, needed, strict=True)
    ]
    original = has_original_naming(family) and inputs[0].layout is not Layout.DIFFUSERS
    return [to_original(family, one) if original else join_components(one) for one in components]


# ---- the arithmetic --------------------------------------------------------------------------------------------------


def merged_tensors(
    inputs: Sequence[Checkpoint], named: Sequence[State], share: float, method: Method
) -> tuple[dict[str, Tensor], list[str]]:
    """The merged tensors in the first's dtypes, computed lazily when they are written; and notes."""
    first, groups = named[0], [{root_of(name) for name in state} for state in named]
    lacking: dict[str, str] = {}  # component -> the name of the checkpoint that lacks it
    for checkpoint, state, held in zip(inputs[1:], named[1:], groups[1:], strict=True):
        for name in state:
            if name not in first and root_of(name) in groups[0]:
                raise _incompatible(inputs[0], checkpoint, f"only {checkpoint.name} has {name}")
        lacking |= dict.fromkeys(groups[0] - held, checkpoint.name)
    merged: dict[str, Tensor] = {}
    for name, tensor in first.items():
        if not tensor.is_floating_point() or tensor.numel() == 0 or root_of(name) in lacking:
            merged[name] = tensor
            continue
        for checkpoint, state in zip(inputs[1:], named[1:], strict=True):
            if name not in state:
                raise _incompatible(inputs[0], checkpoint, f"only {inputs[0].name} has {name}")
            _check_shapes(inputs[0], checkpoint, name, tensor, state[name])
        others = [state[name] for state in named[1:]]
        merged[name] = lazy(tuple(tensor.shape), tensor.dtype, partial(_mixed, name, tensor, others, share, method))
    notes = [
        f"{_TITLES[kind_of_root(group)]} is that of {inputs[0].name}: {other} has none."
        for group, other in sorted(lacking.items())
    ]
    return merged, notes


def _mixed(name: str, a: Tensor, others: Sequence[Tensor], share: float, method: Method) -> Tensor:
    """Computed in float32, in the dtype of `a`. Input channels that only an inpainting network has are kept."""
    a, others = materialize(a), [materialize(other) for other in others]
    if a.shape != others[0].shape:
        own = others[0].shape[1]
        return torch.cat([_mixed(name, a[:, :own], others, share, method), a[:, own:]], 1)
    match method:
        case Method.WEIGHTED_SUM:
            exact = torch.lerp(a.float(), others[0].float(), share)  # exactly a at 0 and exactly b at 1
        case Method.ADD_DIFFERENCE:
            exact = a.float() + share * (others[0].float() - others[1].float())
    return within_range(name, a, exact, others)


def _check_shapes(first: Checkpoint, other: Checkpoint, name: str, a: Tensor, b: Tensor) -> None:
    inpainting = a.ndim == b.ndim == 4 and a.shape[1] == 9 and b.shape[1] == 4 and a.shape[::2] == b.shape[::2]
    if a.shape != b.shape and not inpainting:
        sides = [" × ".join(map(str, one.shape)) or "a scalar" for one in (a, b)]
        raise _incompatible(first, other, f"{name} is {sides[0]} in one and {sides[1]} in the other")


def _not_mergeable(first: Checkpoint, other: Checkpoint) -> str:
    return f"{first.name} and {other.name} cannot be merged"


def _incompatible(first: Checkpoint, other: Checkpoint, why: str) -> BadRequest:
    return BadRequest(_not_mergeable(first, other), why, "Choose checkpoints of the same architecture")


_TITLES = {"network": "The network", "vae": "The VAE", "text_encoder": "A text encoder"}


# ---- the header of the merged file -----------------------------------------------------------------------------------

_NOT_INHERITED = ("thumbnail", "run", "recipe", "merge", "bake", "fitted_steps")
_OF_THE_FILE = (
    "modelspec.hash_sha256",
    "modelspec.thumbnail",
    "modelspec.description",
    "modelspec.date",
    "modelspec.title",
    "sshs_",
)


def derived_metadata(
    first: Checkpoint, metadata: Mapping[str, str], title: str, parents: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """The first's metadata without what describes that file alone, plus the title and ModelSpec's `merged_from`."""
    kept = {
        key: value
        for key, value in metadata.items()
        if not key.startswith(_OF_THE_FILE) and key.removeprefix("diffstudio.") not in _NOT_INHERITED
    }
    if "diffstudio.format" in kept:
        later = "diffstudio.prediction" in kept or "diffstudio.upper" in kept
        written = CHECKPOINT_FORMAT if later else FORMAT_OF_CLEAN_IMAGE
        kept |= {"diffstudio.format": json.dumps(written), "diffstudio.run": "{}", "diffstudio.recipe": "{}"}
    spec = {key: value for key, value in modelspec_metadata(first, title).items() if key not in kept}
    return (
        kept
        | spec
        | {"modelspec.title": title, "modelspec.merged_from": ", ".join(str(parent["name"]) for parent in parents)}
    )


def parent_record(
    checkpoint: Checkpoint, letter: str, start: float, share: float
) -> Generator[float, None, dict[str, Any]]:
    """Progress, then the record of one input: its name, its SHA-256, and its own merge, fuse, recipe and run records."""
    sha256 = ""
    if checkpoint.layout is not Layout.FOLDER:
        hashed = sha256_steps(checkpoint.path)
        while True:
            try:
                yield start * _HASHED + share * next(hashed)
            except StopIteration as ended:
                sha256 = ended.value
                break
    parent: dict[str, Any] = {"as": letter, "name": checkpoint.name, "title": checkpoint.title, "sha256": sha256}
    for key in ("merge", "bake", "recipe", "run"):
        if text := checkpoint.metadata.get(f"diffstudio.{key}"):
            try:
                parent[key] = json.loads(text)
            except (ValueError, RecursionError):
                continue
    return parent
