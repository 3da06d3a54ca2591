"""Read a LoRA, LoHa, LoKr or DoRA file, in any naming: its layers and the change of each.

Namings: kohya's `lora_unet_….lora_down.weight`, diffusers' and PEFT's `unet.….lora_A.weight` (and diffusers' older
`….processor.to_q_lora.down.weight`), OneTrainer's `lora_transformer_…`, ComfyUI's `diffusion_model.…`, LyCORIS'
`lycoris_…`. `layer_matching` matches the layers to a model's modules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.adapters.low_rank import Change, parse_change
from diffstudio.models.files.file_access import EARLIER_OR_DOWNLOAD, nonfinite
from diffstudio.models.files.header import Header
from diffstudio.models.files.weights_reader import open_weights

# What a tensor is, by the ending of its key: the first match. The rest of the key is the layer's name.
_ENDINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"\.(?:lora_down|lora_A|lora\.down|lora_linear_layer\.down)(?:\.\w+)??(?:\.weight)?$", "down"),
        (r"\.(?:lora_up|lora_B|lora\.up|lora_linear_layer\.up)(?:\.\w+)??\.bias$", "up_bias"),
        (r"\.(?:lora_up|lora_B|lora\.up|lora_linear_layer\.up)(?:\.\w+)??(?:\.weight)?$", "up"),
        (r"_lora\.down\.weight$", "down"),
        (r"_lora\.up\.weight$", "up"),
        (r"\.lora_mid(?:\.weight)?$", "mid"),
        (r"\.(?:lora\.|lora_linear_layer\.)?(?:network_)?alpha$", "alpha"),
        (r"\.lora_magnitude_vector(?:\.\w+)??(?:\.weight)?$", "magnitude"),
        (r"\.dora_scale$", "dora_scale"),
        (r"\.(hada_(?:w[12]_[ab]|t[12]))(?:\.weight)?$", r"\1"),
        (r"\.(lokr_(?:w[12](?:_[ab])?|t2))(?:\.weight)?$", r"\1"),
        (r"\.(?:diff|w_norm)$", "diff"),
        (r"\.(?:diff_b|b_norm)$", "diff_b"),
        (r"\.(?:oft_\w+|boft_\w+)(?:\.\w+)*$", "OFT"),
        (r"\.(?:a1|a2|b1|b2)\.weight$", "GLoRA"),
        (r"\.on_input$", "IA3"),
        (r"\.(?:glora_\w+)(?:\.\w+)*$", "GLoRA"),
    )
)
_NOT_READ = ("OFT", "GLoRA", "IA3")
_DECORATION = re.compile(r"\.processor(?=\.|$)")


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter file: the change of each layer, by the file's own layer names."""

    path: Path
    changes: Mapping[str, Change]
    metadata: Mapping[str, str] = field(repr=False, default_factory=dict)
    not_read: Mapping[str, str] = field(default_factory=dict)  # layers that were skipped, each with the reason

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

    `header` is the file's, if it was read already.

    CheckpointMissing, CheckpointDangerous; CheckpointDamaged when it is not an adapter, or contains NaN or Inf values.
    """
    with open_weights(path, header) as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.names()}, file.metadata
    layers: dict[str, dict[str, Tensor]] = {}
    not_read: dict[str, str] = {}
    for name, tensor in tensors.items():
        layer, what = split_name(name)
        if what in _NOT_READ:
            not_read[layer] = f"{what} is not supported"
        elif what:
            layers.setdefault(layer, {})[what] = tensor
    alphas = _Alphas(metadata)
    changes: dict[str, Change] = {}
    for layer, parts in layers.items():
        if layer in not_read:
            continue
        stored = parts.pop("alpha", None)
        alpha = (
            float(stored.float().reshape(-1)[0]) if stored is not None and stored.numel() else alphas.of(layer, parts)
        )
        change = parse_change(parts, alpha)
        if isinstance(change, str):
            not_read[layer] = change
        else:
            changes[layer] = change
    if not changes and not not_read:
        raise CheckpointDamaged(
            not_a_lora(path.name), "none of its tensors is named like a LoRA's", "Choose another file"
        )
    _check_finite(path, changes)
    return AdapterFile(path, changes, metadata, not_read)


def split_name(name: str) -> tuple[str, str]:
    """A key as the layer's name and the role of the tensor in it; the role is empty for unknown keys."""
    for ending, what in _ENDINGS:
        if match := ending.search(name):
            return _DECORATION.sub("", name[: match.start()]), match.expand(what)
    return name, ""


def _check_finite(path: Path, changes: Mapping[str, Change]) -> None:
    for layer, change in changes.items():
        for factor in change.delta.factors if change.delta is not None else ():
            if not bool(torch.isfinite(factor.sum(dtype=torch.float32))) and not bool(torch.isfinite(factor).all()):
                raise CheckpointDamaged(nonfinite(path.name), f"in {layer[:120]}", EARLIER_OR_DOWNLOAD)


class _Alphas:
    """LoRA alphas that PEFT keeps outside the tensors; diffusers stores them in the header, by component."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        try:
            stored = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except (ValueError, RecursionError):
            stored = {}
        self._stored: dict[str, Any] = stored if isinstance(stored, dict) else {}

    def of(self, layer: str, parts: Mapping[str, Tensor]) -> float | None:
        """The alpha of one layer, where the scale is alpha / rank; None for a scale of 1."""
        part, _, module = layer.partition(".")
        alpha = self._stored.get(f"{part}.lora_alpha")
        patterns = self._stored.get(f"{part}.alpha_pattern")
        for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
            if module == pattern or module.endswith(f".{pattern}"):
                alpha = value
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or "down" not in parts:
            return None
        rank = parts["down"].shape[0]
        return float(alpha) * rank**0.5 if self._stored.get(f"{part}.use_rslora") is True else float(alpha)


def not_a_lora(name: str) -> str:
    return f"{name} is not a LoRA"
