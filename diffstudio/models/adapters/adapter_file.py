"""Read an adapter file of any kind and in any naming: its layers and the change of each.

`key_names` splits its keys, `settings` reads what is stored besides the tensors, `parse_layer` makes the change of one
layer, `layer_matching` matches the layers to a model's modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.adapters.adapter_config import ADAPTER_CONFIG, adapter_config_path, read_adapter_config
from diffstudio.models.adapters.change import Change
from diffstudio.models.adapters.key_names import split_name
from diffstudio.models.adapters.low_rank import Hadamard, Kronecker, LowRank
from diffstudio.models.adapters.parse_layer import Unusable, parse_layer
from diffstudio.models.adapters.rotations import InputRotation
from diffstudio.models.adapters.settings import FileSettings, LayerSettings
from diffstudio.models.detection.detect_adapters import control_lora
from diffstudio.models.files.file_access import EARLIER_OR_DOWNLOAD, nonfinite
from diffstudio.models.files.header import Header
from diffstudio.models.files.weights_reader import WeightsFile, open_weights

_ROLES_OF_MODULES = ("weight", "bias")  # plain tensors, which belong to an adapter only where something says so
_IGNORED = "original"  # copies of the base model's own weights


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter file: the change of each layer, by the file's own layer names."""

    path: Path
    changes: Mapping[str, Change]
    metadata: Mapping[str, str] = field(repr=False, default_factory=dict)
    not_read: Mapping[str, str] = field(default_factory=dict)  # layers that were skipped, each with the reason
    unknown: tuple[str, ...] = ()  # tensors that are no part of an adapter
    assumed: str = ""  # what the file does not say and was assumed, as a sentence; empty where nothing was

    @property
    def layers(self) -> int:
        return len(self.changes) + len(self.not_read)

    @property
    def kinds(self) -> tuple[str, ...]:
        """LoRA, LoHa, …, the most frequent first."""
        kinds = [change.kind for change in self.changes.values()]
        return tuple(sorted(set(kinds), key=lambda kind: -kinds.count(kind)))

    @property
    def is_zero(self) -> bool:
        return all(change.is_zero for change in self.changes.values())


def read_adapter(path: Path, header: Header | None = None) -> AdapterFile:
    """Read an adapter from a safetensors file or a pickle, onto the CPU, in its stored precision.

    `header` is the file's, if it was read already. PEFT's `adapter_config.json` next to the file is read too.

    CheckpointMissing, CheckpointDangerous; CheckpointDamaged when it is not an adapter, or contains NaN or Inf values;
    CheckpointUnknown for one that nothing here can apply.
    """
    config_path = adapter_config_path(path)
    config = None if config_path is None else read_adapter_config(config_path)
    with open_weights(path, header) as file:
        if reason := control_lora({name: file.shape(name) for name in file.names()}):
            raise CheckpointUnknown(_not_usable(path), reason, _OTHER_ADAPTER)
        layers, unknown = _layers(file)
        metadata, as_peft = file.metadata, any(".lora_A" in name for name in file.names())
    has_alphas = any("alpha" in parts for parts in layers.values())
    settings = FileSettings(config, metadata, has_alphas, layers, as_peft)
    if settings.problem:
        raise CheckpointUnknown(_not_usable(path), settings.problem, _OTHER_ADAPTER)
    changes, not_read = _changes(layers, settings, unknown)
    if not changes and not not_read:
        raise CheckpointDamaged(
            not_a_lora(path.name), "none of its tensors is named like a LoRA's", "Choose another file"
        )
    if not changes:
        raise CheckpointUnknown(_not_usable(path), next(iter(not_read.values())), _OTHER_ADAPTER)
    _check_finite(path, changes)
    return AdapterFile(path, changes, metadata, not_read, tuple(unknown), _assumed(changes, settings))


def _layers(file: WeightsFile) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The tensors by layer and role, and the names of those that have no role."""
    layers: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    names = file.names()
    listed = len(names) > 1 and all(name.isdecimal() for name in names)  # cloneofsimo's list of up, down, up, down …
    for name in names:
        layer, role = (f":{int(name) // 2}", ("up", "down")[int(name) % 2]) if listed else split_name(name)
        if role:
            layers.setdefault(layer, {})[role] = file.get_tensor(name)
        else:
            unknown.append(name)
    return layers, unknown


def _changes(
    layers: Mapping[str, dict[str, Tensor]], settings: FileSettings, unknown: list[str]
) -> tuple[dict[str, Change], dict[str, str]]:
    """The change of each layer, or the reason why it has none. Plain tensors of no adapter are added to `unknown`."""
    changes: dict[str, Change] = {}
    not_read: dict[str, str] = {}
    for layer, parts in layers.items():
        parts.pop(_IGNORED, None)
        known = settings.of(layer, _is_convolution(parts))
        if "on_input" not in parts and not known.whole_modules:
            unknown += [f"{layer}.{role}" for role in _ROLES_OF_MODULES if parts.pop(role, None) is not None]
        stored = parts.pop("alpha", None)
        if not parts and stored is None:
            continue  # its only tensors are among the unknown ones
        if stored is not None and stored.numel():
            known = _with_alpha(known, float(stored.float().reshape(-1)[0]))
        try:
            if known.alpha is not None and not math.isfinite(known.alpha):
                raise Unusable("its alpha is not a number")
            changes[layer] = parse_layer(parts, known)
        except Unusable as error:
            not_read[layer] = str(error)
    return changes, not_read


def _is_convolution(parts: Mapping[str, Tensor]) -> bool:
    down = parts.get("down")
    return down is not None and down.ndim == 4 and ("mid" in parts or down.shape[-1] > 1)


def _with_alpha(settings: LayerSettings, alpha: float) -> LayerSettings:
    """The settings with the alpha that the file stores. 0 means the rank, as in sd-scripts and LyCORIS."""
    return replace(settings, alpha=alpha or None, rslora=False)


def _assumed(changes: Mapping[str, Change], settings: FileSettings) -> str:
    """What was assumed where PEFT's config, which has it, is missing: a sentence, or empty."""
    unsaid = [layer for layer in changes if settings.is_unknown(layer)]
    if not settings.has_config and any(isinstance(change.delta, InputRotation) for change in changes.values()):
        return f"{_NO_CONFIG} PEFT's default transform (Cayley-Neumann, 5 terms)."
    if any(isinstance(changes[layer].delta, (LowRank, Hadamard, Kronecker)) for layer in unsaid):
        return f"{_NO_CONFIG} an alpha equal to its rank."
    return ""


def _check_finite(path: Path, changes: Mapping[str, Change]) -> None:
    for layer, change in changes.items():
        factors = change.delta.factors if change.delta is not None else ()
        for factor in chain(factors, change.bias.values if change.bias is not None else ()):
            if not bool(torch.isfinite(factor.sum(dtype=torch.float32))) and not bool(torch.isfinite(factor).all()):
                raise CheckpointDamaged(nonfinite(path.name), f"in {layer[:120]}", EARLIER_OR_DOWNLOAD)


_NO_CONFIG = f"It has no {ADAPTER_CONFIG}, which says how strong it is; assumed is"
_OTHER_ADAPTER = "Choose another LoRA"


def _not_usable(path: Path) -> str:
    return f"{path.name} cannot be used as a LoRA"


def not_a_lora(name: str) -> str:
    return f"{name} is not a LoRA"
