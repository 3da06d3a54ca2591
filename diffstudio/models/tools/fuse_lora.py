"""Baking: LoRAs and their kin written into a checkpoint's own weights, in a file that needs them no more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.errors import BadRequest
from diffstudio.models.adapters.adapters import Adapters, AdapterUse, Sum
from diffstudio.models.adapters.low_rank import added
from diffstudio.models.checkpoint import Checkpoint, Layout, Role
from diffstudio.models.components.components import empty_module
from diffstudio.models.components.open_components import open_components
from diffstudio.models.files.lazy_tensor import lazy, materialize
from diffstudio.models.state_dicts.prefixes import NETWORK, NETWORKS, TEXT_ENCODERS, unused_for_inference
from diffstudio.models.state_dicts.split import join_components, split_components
from diffstudio.models.state_dicts.to_original import has_original_naming, to_original
from diffstudio.models.tools.convert import Narrowed, check_precision, signs
from diffstudio.models.tools.export import component_class
from diffstudio.models.tools.merge import FORMAT, described, parent_of
from diffstudio.models.tools.spec import Made, Making, Precision, checked_file
from diffstudio.models.tools.weights_writer import open_weights, write_file

_HASHED = 0.2


def fuse_lora(
    checkpoint: Checkpoint,
    loras: Sequence[tuple[Checkpoint, float]],
    target: Path,
    precision: Precision = Precision.KEEP,
    *,
    title: str = "",
) -> Making:
    """A file at `target`: the checkpoint with each LoRA added as strongly as its factor says.

    BadRequest where one of them changes nothing, CheckpointMissing, CheckpointDamaged, StorageProblem.
    """
    target = checked_file(target)
    _check(checkpoint, loras)
    check_precision(checkpoint, precision)
    parents: list[dict[str, Any]] = []
    for number, one in enumerate((checkpoint, *(lora for lora, _ in loras))):
        letter = "abcdefghijklmnopqrstuvwxyz"[min(number, 25)]
        parents.append((yield from parent_of(one, letter, number / (len(loras) + 1), _HASHED / (len(loras) + 1))))
    for told, (_, factor) in zip(parents[1:], loras, strict=True):
        told["factor"] = factor
    with open_weights(checkpoint) as weights:
        parts = open_components(checkpoint)
        drawing = {name: tensor for name, tensor in weights.tensors.items() if not unused_for_inference(name)}
        components = split_components(drawing, checkpoint.family, parts.config)
        modules = {part: _blank(parts.config(part)) for part in components if part in (*NETWORKS, *TEXT_ENCODERS)}
        network = next(part for part in NETWORKS if part in modules)
        adapters = Adapters(modules[network], {part: module for part, module in modules.items() if part != network})
        sums, attached = adapters.planned(
            [AdapterUse(lora.path, lora.name, factor, factor, lora.family) for lora, factor in loras]
        )
        useless = next((one.note for one in attached if not one.matched), "")
        if useless:
            raise BadRequest(useless.rstrip("."), remedy="Choose one that was made for this checkpoint")
        for (part, module), wanted in sums.items():
            _add(components[network if part == NETWORK else part], module, wanted)
        makers = has_original_naming(checkpoint.family) and checkpoint.layout is not Layout.DIFFUSERS
        named = (
            to_original(checkpoint.family, components) | signs(checkpoint) if makers else join_components(components)
        )
        metadata = described(checkpoint, weights.metadata, title or target.stem, parents) | {
            "diffstudio.bake": json.dumps({"format": FORMAT, "inputs": parents}, ensure_ascii=False)
        }
        narrowed = Narrowed()
        for fraction in write_file(target, narrowed.stored(named, precision), metadata):
            yield _HASHED + (1 - _HASHED) * fraction
    notes = tuple(one.note for one in attached if one.note)
    yield Made(target, target.stat().st_size, (*notes, *narrowed.notes(precision)))


def _check(checkpoint: Checkpoint, loras: Sequence[tuple[Checkpoint, float]]) -> None:
    if not loras:
        raise BadRequest("No LoRA was given", remedy="Give at least one")
    if not checkpoint.can_generate or checkpoint.family in ("pixel", "diffusers"):
        raise BadRequest(
            f"{checkpoint.name} takes no LoRAs", remedy="Choose a checkpoint of a family that they are made for"
        )
    for lora, factor in loras:
        if lora.role is not Role.LORA:
            raise BadRequest(f"{lora.name} is not a LoRA", lora.reason.rstrip("."), "Choose one")
        if not torch.isfinite(torch.tensor(factor)) or not factor:
            raise BadRequest(
                f"{lora.name} with a factor of {factor:g} makes no difference", remedy="Give another factor"
            )


def _blank(config: Mapping[str, Any]) -> nn.Module:
    """The module with every parameter in its shape, all of them one and the same zero."""
    module = empty_module(component_class(config), config)
    for inner in module.modules():
        for name, parameter in list(inner.named_parameters(recurse=False)):
            inner.register_parameter(name, nn.Parameter(torch.zeros(()).expand(parameter.shape), requires_grad=False))
    return module


def _add(state: dict[str, Tensor], module: str, wanted: Sum) -> None:
    """Into a component's tensors, where they are called with `text_model.` or without."""
    for kind in ("weight", "bias"):
        name = next((name for name in (f"{module}.{kind}", f"text_model.{module}.{kind}") if name in state), "")
        changes = [one for one in wanted if (one[0].delta if kind == "weight" else one[0].bias) is not None]
        if name and changes:
            tensor, sum_up = state[name], _with_weights if kind == "weight" else _with_biases
            state[name] = lazy(tuple(tensor.shape), tensor.dtype, partial(sum_up, tensor, changes))


def _with_weights(tensor: Tensor, changes: Sequence[Any]) -> Tensor:
    return added(materialize(tensor).float(), changes).to(tensor.dtype)


def _with_biases(tensor: Tensor, changes: Sequence[Any]) -> Tensor:
    exact = materialize(tensor).float()
    for change, factor, rows in changes:
        ours = change.bias if rows is None else torch.cat([change.bias[start:stop] for start, stop in rows])
        exact = exact + factor * ours.float().reshape(exact.shape)
    return exact.to(tensor.dtype)
