"""Fuse LoRAs into a checkpoint's weights: a new file that gives the same images without the LoRA files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.errors import BadRequest, CheckpointDamaged, must_be_between
from diffstudio.models.adapters.adapter_file import not_a_lora
from diffstudio.models.adapters.adapters import Adapters, AdapterUse
from diffstudio.models.adapters.change import WeightUpdates, apply_bias_changes, apply_changes
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import empty_module
from diffstudio.models.components.open_components import open_components
from diffstudio.models.detection.families_table import has_weight_tools, is_trained_here
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.lazy_tensor import lazy, materialize
from diffstudio.models.state_dicts.prefixes import NETWORK, NETWORKS, TEXT_ENCODERS, unused_for_inference
from diffstudio.models.state_dicts.split import join_components, split_components
from diffstudio.models.state_dicts.to_original import has_original_naming, to_original
from diffstudio.models.tools.convert import PrecisionCaster, check_precision, marker_tensors
from diffstudio.models.tools.export import component_class
from diffstudio.models.tools.merge import FORMAT, derived_metadata, parent_record
from diffstudio.models.tools.spec import LARGEST_FACTOR, Precision, ToolProgress, ToolResult, checked_file
from diffstudio.models.tools.weights_writer import open_checkpoint, within_range, write_file

_HASHED = 0.2


def fuse_lora(
    checkpoint: Checkpoint,
    loras: Sequence[tuple[Checkpoint, float]],
    target: Path,
    precision: Precision = Precision.KEEP,
    *,
    title: str = "",
) -> ToolProgress:
    """Write a file at `target`: the checkpoint's weights plus each LoRA's, multiplied by its weight.

    BadRequest where a LoRA would change nothing, CheckpointMissing, CheckpointDamaged, StorageProblem.
    """
    target = checked_file(target)
    _check(checkpoint, loras)
    check_precision(checkpoint, precision)
    parents: list[dict[str, Any]] = []
    for number, one in enumerate((checkpoint, *(lora for lora, _ in loras))):
        letter = "abcdefghijklmnopqrstuvwxyz"[min(number, 25)]
        parents.append((yield from parent_record(one, letter, number / (len(loras) + 1), _HASHED / (len(loras) + 1))))
    for parent, (_, factor) in zip(parents[1:], loras, strict=True):
        parent["factor"] = factor
    with open_checkpoint(checkpoint) as weights:
        opened = open_components(checkpoint)
        needed = {name: tensor for name, tensor in weights.tensors.items() if not unused_for_inference(name)}
        components = split_components(needed, checkpoint.family, opened.config)
        modules = {
            component: _zero_module(opened.config(component))
            for component in components
            if component in (*NETWORKS, *TEXT_ENCODERS)
        }
        network = next((component for component in NETWORKS if component in modules), None)
        if network is None:
            raise CheckpointDamaged(f"{checkpoint.name} contains no network", remedy="Choose another checkpoint")
        adapters = Adapters(
            modules[network], {component: module for component, module in modules.items() if component != network}
        )
        sums, attached = adapters.plan(
            [AdapterUse(lora.path, lora.name, factor, factor, lora.family, lora.header) for lora, factor in loras]
        )
        unmatched = next((one.note for one in attached if not one.matched), "")
        if unmatched:
            raise BadRequest(unmatched.rstrip("."), remedy="Choose a LoRA for this family of checkpoints")
        for (component, module), updates in sums.items():
            _add(components[network if component == NETWORK else component], module, updates)
        original = has_original_naming(checkpoint.family) and checkpoint.layout is not Layout.DIFFUSERS
        named = (
            to_original(checkpoint.family, components) | marker_tensors(checkpoint)
            if original
            else join_components(components)
        )
        metadata = derived_metadata(checkpoint, weights.metadata, title or target.stem, parents) | {
            "diffstudio.bake": json.dumps({"format": FORMAT, "inputs": parents}, ensure_ascii=False)
        }
        caster = PrecisionCaster()
        for fraction in write_file(target, caster.cast(named, precision), metadata):
            yield _HASHED + (1 - _HASHED) * fraction
    notes = tuple(one.note for one in attached if one.note)
    yield ToolResult(target, target.stat().st_size, (*notes, *caster.notes(precision)))


def _check(checkpoint: Checkpoint, loras: Sequence[tuple[Checkpoint, float]]) -> None:
    if not loras:
        raise BadRequest("No LoRA was given", remedy="Name at least one LoRA")
    if not checkpoint.can_generate or is_trained_here(checkpoint.family) or not has_weight_tools(checkpoint.family):
        raise BadRequest(f"{checkpoint.name} cannot be used with LoRAs", remedy="Choose another checkpoint")
    for lora, factor in loras:
        if lora.role is not Role.LORA:
            raise BadRequest(not_a_lora(lora.name), lora.reason.rstrip("."), "Choose a LoRA file")
        if not math.isfinite(factor) or not factor:
            raise BadRequest(f"{lora.name} has no effect with a weight of {factor:g}", remedy="Give another weight")
        if abs(factor) > LARGEST_FACTOR:
            raise BadRequest(
                f"The weight of {lora.name} is {factor:g}",
                must_be_between(f"{-LARGEST_FACTOR:,}", f"{LARGEST_FACTOR:,}"),
                "Choose another one",
            )


def _zero_module(config: Mapping[str, Any]) -> nn.Module:
    """The module with zeros for parameters, which take no memory: each is an expanded scalar."""
    module = empty_module(component_class(config), config)
    for inner in module.modules():
        for name, parameter in list(inner.named_parameters(recurse=False)):
            inner.register_parameter(name, nn.Parameter(torch.zeros(()).expand(parameter.shape), requires_grad=False))
    return module


def _add(state: dict[str, Tensor], module: str, updates: WeightUpdates) -> None:
    """Add a LoRA's changes lazily to a module's weight and bias, whose keys may begin with `text_model.`."""
    for kind in ("weight", "bias"):
        name = next((name for name in (f"{module}.{kind}", f"text_model.{module}.{kind}") if name in state), "")
        changes = tuple(one for one in updates if (one[0].delta if kind == "weight" else one[0].bias) is not None)
        if name and changes:
            tensor, sum_up = state[name], _with_weights if kind == "weight" else _with_biases
            state[name] = lazy(tuple(tensor.shape), tensor.dtype, partial(sum_up, name, tensor, changes))


def _with_weights(name: str, tensor: Tensor, changes: WeightUpdates) -> Tensor:
    before = materialize(tensor)
    return within_range(name, before, apply_changes(before.float(), changes))


def _with_biases(name: str, tensor: Tensor, changes: WeightUpdates) -> Tensor:
    before = materialize(tensor)
    return within_range(name, before, apply_bias_changes(before.float(), changes))
