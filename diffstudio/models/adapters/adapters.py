"""Apply LoRA, LoHa, LoKr, DoRA and full-rank adapters to a model in memory, and remove them again bit for bit.

A weight that an adapter changes is replaced by `weight + factor * change`, and the original is kept: on the CPU the
loaded tensor itself, on an accelerator a copy in main memory. A denoising step then costs the same however many
adapters are active, and removing them restores the same bits, which subtracting would not. The price is memory for a
second copy of the changed weights, and in half precision the rounding of the sum. Packed weights (fp8, GGUF) stay as
they are: the change is added to the layer's output instead, which makes every step a little slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from diffstudio.errors import Interrupted
from diffstudio.models.adapters.adapter_file import AdapterFile, read_adapter
from diffstudio.models.adapters.layer_matching import LayerIndex, LayerMatch
from diffstudio.models.adapters.low_rank import Change, LowRank, RowRanges, apply_changes
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.files.file_access import FileStamp, file_stamp
from diffstudio.models.files.header import Header
from diffstudio.models.state_dicts.prefixes import NETWORK

# Share of an adapter's layers with a wrong shape; above it the adapter is for another architecture.
_MAX_MISMATCHED = 0.1
_SUMMABLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """An adapter file and its weights: 1 as trained, 0 off, negative inverted."""

    path: Path
    name: str  # as shown to the user
    network: float = 1.0
    text: float = 1.0  # for the text encoders
    family: str = ""  # it was trained for; empty where unknown
    header: Header | None = field(default=None, compare=False, repr=False)  # of the file, if it was just read


@dataclass(frozen=True, slots=True)
class Attached:
    """The result of applying one adapter."""

    use: AdapterUse
    matched: int  # layers of the file that the model has
    layers: int  # layers of the file
    kinds: tuple[str, ...]  # LoRA, LoHa, …
    note: str = ""  # a sentence for the user where it does not apply as a whole


_Target: TypeAlias = tuple[str, str]  # component and path of a module
# The changes of one weight, each with its factor and rows.
WeightUpdates: TypeAlias = tuple[tuple[Change, float, RowRanges | None], ...]


@dataclass(frozen=True, slots=True)
class _MatchedFile:
    """An adapter file with the modules of this model that its layers match."""

    file: AdapterFile
    stamp: FileStamp | None
    matches: tuple[tuple[LayerMatch, Change], ...]
    matched: int
    note: str


@dataclass(slots=True)
class _PatchedModule:
    """A module with changed weights, and its original weights."""

    module: nn.Module
    weight: Tensor | None  # None where a hook leaves it as it is
    bias: Tensor | None
    sum: WeightUpdates
    hook: RemovableHandle | None = None


class Adapters:
    """The adapters of one model. Not thread-safe."""

    def __init__(self, network: nn.Module, text_encoders: Mapping[str, nn.Module]) -> None:
        self._components: dict[str, nn.Module] = {NETWORK: network, **text_encoders}
        self._index: LayerIndex | None = None
        self._fitted: dict[Path, _MatchedFile] = {}
        self._touched: dict[_Target, _PatchedModule] = {}
        self.attached: tuple[Attached, ...] = ()

    @torch.no_grad()
    def use(self, uses: Sequence[AdapterUse], cancelled: Callable[[], bool] | None = None) -> tuple[Attached, ...]:
        """Apply exactly these adapters and remove all others; only what has changed is recomputed.

        An adapter that matches no layer, is all zeros or was trained for another family has no effect, and its note
        says so. CheckpointMissing and CheckpointDamaged for files, Interrupted soon after `cancelled()` becomes true;
        then none is applied.
        """
        try:
            self._read(uses)
            self._apply(self._sums(uses), cancelled)
        except BaseException:  # Interrupted too: half-applied LoRAs must not stay in the weights
            self.detach()
            raise
        self.attached = tuple(self._report(use) for use in uses)
        return self.attached

    @torch.no_grad()
    def detach(self) -> None:
        """Restore the weights as loaded, bit for bit."""
        self.attached = ()
        self._fitted.clear()
        for target in list(self._touched):
            self._restore(target)

    def plan(self, uses: Sequence[AdapterUse]) -> tuple[dict[tuple[str, str], WeightUpdates], tuple[Attached, ...]]:
        """The changes that `use` would make to each module, and its results, without applying anything."""
        self._read(uses)
        return self._sums(uses), tuple(self._report(use) for use in uses)

    def _read(self, uses: Sequence[AdapterUse]) -> None:
        fitted: dict[Path, _MatchedFile] = {}
        for use in uses:
            known = self._fitted.get(use.path)
            fitted[use.path] = known if known is not None and known.stamp == file_stamp(use.path) else self._fit(use)
        self._fitted = fitted

    def _fit(self, use: AdapterUse) -> _MatchedFile:
        stamp, file = file_stamp(use.path), read_adapter(use.path, use.header)
        self._index = self._index or LayerIndex(
            self._components[NETWORK],
            {component: self._components[component] for component in self._components if component != NETWORK},
        )
        matches: list[tuple[LayerMatch, Change]] = []
        matched, mismatched = 0, 0
        for layer, change in file.changes.items():
            found = self._index.match(layer)
            if found and self._fits(change, found):
                matched += 1
                matches += [(match, change) for match in found]
            elif found:
                mismatched += 1
        other_architecture = mismatched > _MAX_MISMATCHED * max(1, len(file.changes))
        note = _note(
            use,
            file,
            0 if other_architecture else matched,
            mismatched,
            any(self._packed(match) for match, _ in matches),
        )
        if other_architecture or file.is_zero:
            matches, matched = [], 0
        matches = [
            (match, change) for match, change in matches if not (change.magnitude is not None and self._packed(match))
        ]
        return _MatchedFile(file, stamp, tuple(matches), matched, note)

    def _fits(self, change: Change, matches: tuple[LayerMatch, ...]) -> bool:
        """Whether a change has the shape of the matched modules' weights."""
        sides = [_sides(self._components[match.component].get_submodule(match.module)) for match in matches]
        outs, ins = sum(side[0] for side in sides), sides[0][1]
        whole = all(match.rows is None for match in matches)
        if change.delta is not None and change.delta.shape != (outs, ins):
            return False
        if (
            change.magnitude is not None
            and change.magnitude.shape[0] != outs
            and not (whole and change.magnitude.shape[0] == 1 and ins % change.magnitude.numel() == 0)
        ):
            return False
        if change.bias is None:
            return True
        biases = [_bias(self._components[match.component].get_submodule(match.module)) for match in matches]
        return None not in biases and change.bias.numel() == outs

    def _packed(self, match: LayerMatch) -> bool:
        return not _summable(self._components[match.component].get_submodule(match.module))

    def _sums(self, uses: Sequence[AdapterUse]) -> dict[_Target, WeightUpdates]:
        sums: dict[_Target, WeightUpdates] = {}
        for use in uses:
            for match, change in self._fitted[use.path].matches:
                factor = use.network if match.component == NETWORK else use.text
                if factor:
                    target = match.component, match.module
                    sums[target] = (*sums.get(target, ()), (change, factor, match.rows))
        return sums

    def _apply(self, sums: Mapping[_Target, WeightUpdates], cancelled: Callable[[], bool] | None) -> None:
        for target in [target for target in self._touched if target not in sums]:
            self._restore(target)
        for target, updates in sums.items():
            if cancelled is not None and cancelled():
                raise Interrupted("Stopped while applying a LoRA")
            touched = self._touched.get(target)
            if touched is not None and _same(touched.sum, updates):
                continue
            if touched is None:
                touched = self._touched[target] = self._patch(self._components[target[0]].get_submodule(target[1]))
            touched.sum = updates
            _attach(touched)

    def _patch(self, module: nn.Module) -> _PatchedModule:
        if not _summable(module):
            return _PatchedModule(module, None, None, ())
        bias = _bias(module)
        return _PatchedModule(module, _kept(_weight(module)), None if bias is None else _kept(bias), ())

    def _restore(self, target: _Target) -> None:
        touched = self._touched.pop(target)
        if touched.hook is not None:
            touched.hook.remove()
        for name, kept in (("weight", touched.weight), ("bias", touched.bias)):
            if kept is not None:
                _put(touched.module, name, kept)

    def _report(self, use: AdapterUse) -> Attached:
        fitted = self._fitted[use.path]
        return Attached(use, fitted.matched, fitted.file.layers, fitted.file.kinds, fitted.note)


def _attach(touched: _PatchedModule) -> None:
    module = touched.module
    if touched.weight is None:
        if touched.hook is not None:
            touched.hook.remove()
        touched.hook = module.register_forward_hook(partial(_add_to_output, touched.sum))
        return
    weights = [one for one in touched.sum if one[0].delta is not None]
    weight = touched.weight.to(_weight(module).device)
    _put(module, "weight", apply_changes(weight, weights) if weights else weight)
    if touched.bias is not None:
        exact = touched.bias.float()
        for change, factor, rows in touched.sum:
            if change.bias is not None:
                bias = change.bias if rows is None else torch.cat([change.bias[start:stop] for start, stop in rows])
                exact = exact + factor * bias.to(exact).reshape(exact.shape)
        _put(module, "bias", exact.to(touched.bias.dtype))


def _add_to_output(updates: WeightUpdates, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook for packed weights: add the changes' outputs for the layer's input x to its output."""
    x: Tensor = args[0]
    for change, factor, rows in updates:
        delta = change.delta
        if isinstance(delta, LowRank) and delta.core is None and isinstance(module, nn.Linear):
            up = delta.up if rows is None else torch.cat([delta.up[start:stop] for start, stop in rows])
            low = F.linear(x.to(output.dtype), delta.down.flatten(1).to(output))
            output = output + (factor * delta.scale) * F.linear(low, up.flatten(1).to(output))
        elif delta is not None:
            dense = delta.dense(output.device).to(output.dtype)
            dense = dense if rows is None else torch.cat([dense[start:stop] for start, stop in rows])
            if isinstance(module, nn.Conv2d):
                kernel = dense.view(module.out_channels, -1, *module.kernel_size)
                output = output + factor * module._conv_forward(x.to(output.dtype), kernel, None)
            else:
                output = output + factor * F.linear(x.to(output.dtype), dense)
    return output


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    """Set a parameter: on the CPU by swapping its tensor, elsewhere in place (compiled code may hold the address)."""
    parameter = module.get_parameter(name)
    if parameter.device.type == "cpu":
        parameter.data = value.to(parameter.device)
    else:
        parameter.data.copy_(value)


def _kept(parameter: Tensor) -> Tensor:
    """The original value: the tensor itself on the CPU, where `_put` never writes into it; a copy of others."""
    return parameter.detach() if parameter.device.type == "cpu" else parameter.detach().to("cpu", copy=True)


def _summable(module: nn.Module) -> bool:
    weight = _weight(module)
    return weight.dtype in _SUMMABLE and weight.device.type != "meta" and not hasattr(weight, "quant_type")


def _weight(module: nn.Module) -> Tensor:
    return module.get_parameter("weight")


def _bias(module: nn.Module) -> Tensor | None:
    return dict(module.named_parameters(recurse=False)).get("bias")


def _sides(module: nn.Module) -> tuple[int, int]:
    """[out, in * k]: the shape of a weight as a matrix, packed ones included."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    weight = _weight(module)
    return int(weight.shape[0]), math.prod(weight.shape[1:])


def _same(a: WeightUpdates, b: WeightUpdates) -> bool:
    return len(a) == len(b) and all(x[0] is y[0] and x[1:] == y[1:] for x, y in zip(a, b, strict=True))


def _note(use: AdapterUse, file: AdapterFile, matched: int, mismatched: int, packed: bool) -> str:
    """A sentence where an adapter applies only in part or not at all; empty otherwise."""
    family = family_of(use.family)
    made_for = f" It was trained for {family.title}." if family is not None else ""
    if file.changes and file.is_zero:
        return f"{use.name} is all zeros and has no effect: its training failed, or it was saved incorrectly."
    if matched == 0:
        why = (
            "its layers have other shapes"
            if mismatched
            else f"none of its {file.layers} layers exists in this checkpoint"
        )
        if not file.changes:
            why = f"{next(iter(file.not_read.values()))}"
        return f"{use.name} does not fit this checkpoint and has no effect: {why}.{made_for}"
    if matched < file.layers:
        return f"{use.name} fits only partly: {matched} of its {file.layers} layers exist in this checkpoint.{made_for}"
    if packed and any(change.magnitude is not None for change in file.changes.values()):
        return f"{use.name} is a DoRA, which packed weights do not support: those layers are skipped."
    return ""
