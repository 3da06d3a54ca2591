"""Apply adapters (LoRA and related kinds) to a model in memory, and remove them again bit for bit.

A weight that an adapter changes is replaced by `weight + factor * change`, and the original is kept: on the CPU the
loaded tensor itself, on an accelerator a copy in main memory. A denoising step then costs the same however many
adapters are active, and removing them restores the same bits, which subtracting would not. The price is memory for a
second copy of the changed weights, and in half precision the rounding of the sum. Packed weights (fp8, GGUF) stay as
they are: the change is added to the layer's output instead (`packed`), which makes every step a little slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from diffstudio.errors import Interrupted, listed
from diffstudio.models.adapters.adapter_config import ADAPTER_CONFIG
from diffstudio.models.adapters.adapter_file import AdapterFile, read_adapter
from diffstudio.models.adapters.change import Change, WeightUpdates, apply_bias_changes, apply_changes
from diffstudio.models.adapters.delta import AdditiveDelta
from diffstudio.models.adapters.first_format import layer_orders
from diffstudio.models.adapters.key_names import is_positional, position_of
from diffstudio.models.adapters.layer_matching import LayerIndex, LayerMatch
from diffstudio.models.adapters.packed import add_to_output, can_unpack
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.files.file_access import FileStamp, file_stamp
from diffstudio.models.files.header import Header
from diffstudio.models.state_dicts.prefixes import NETWORK
from diffstudio.plurals import by_number, count_of

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


@dataclass(frozen=True, slots=True)
class _MatchedFile:
    """An adapter file with the modules of this model that its layers match."""

    file: AdapterFile
    stamp: tuple[FileStamp | None, ...]
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
        says so, as it does of whatever else in a file is not applied. CheckpointMissing, CheckpointDamaged and
        CheckpointUnknown for files, Interrupted soon after `cancelled()` becomes true; then none is applied.
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
            fitted[use.path] = known if known is not None and known.stamp == _stamps(use.path) else self._fit(use)
        self._fitted = fitted

    def _fit(self, use: AdapterUse) -> _MatchedFile:
        stamp, file = _stamps(use.path), read_adapter(use.path, use.header)
        self._index = self._index or LayerIndex(
            self._components[NETWORK],
            {component: self._components[component] for component in self._components if component != NETWORK},
        )
        matches: list[tuple[LayerMatch, Change]] = []
        matched, missing, mismatched, unpackable = 0, list(file.not_read), list[str](), 0
        positions = self._positions(file)
        for layer, change in file.changes.items():
            candidates = [positions[layer]] if layer in positions else list(self._index.candidates(layer))
            fitting = next((found for found in candidates if self._fits(change, found)), None)
            if fitting is None:
                (mismatched if candidates else missing).append(layer)
                continue
            matched += 1
            usable = [match for match in fitting if self._can_apply(change, match)]
            unpackable += len(usable) < len(fitting)
            matches += [(match, change) for match in usable]
        other_architecture = len(mismatched) > _MAX_MISMATCHED * max(1, len(file.changes))
        if other_architecture or file.is_zero:
            matches, matched = [], 0
        note = _note(use, file, matched, missing + mismatched, bool(mismatched), unpackable)
        return _MatchedFile(file, stamp, tuple(matches), matched, note)

    def _positions(self, file: AdapterFile) -> dict[str, tuple[LayerMatch, ...]]:
        """The modules of layers that are named by their position, in the order that fits the most of them."""
        found: dict[str, tuple[LayerMatch, ...]] = {}
        layers = [layer for layer in file.changes if is_positional(layer)]
        for named in {position_of(layer)[0] for layer in layers}:
            ours = [layer for layer in layers if position_of(layer)[0] == named]
            best = -1
            fittest: dict[str, tuple[LayerMatch, ...]] = {}
            for component, order in self._orders(named):
                places: dict[str, tuple[LayerMatch, ...]] = {
                    layer: (LayerMatch(component, order[index]),)
                    for layer in ours
                    if (index := position_of(layer)[1]) < len(order)
                }
                fitting = sum(self._fits(file.changes[layer], place) for layer, place in places.items())
                score = fitting - (len(order) != len(ours))  # of equal ones, the order of the same length
                if score > best:
                    best, fittest = score, places
            found |= fittest
        return found

    def _orders(self, named: str) -> Iterator[tuple[str, list[str]]]:
        """The layers in each order that a file of the first format may have, of the component that it names."""
        for component, root in self._components.items():
            if not named or (component == NETWORK) == (named == "unet"):
                for order in layer_orders(root):
                    yield component, order

    def _fits(self, change: Change, matches: tuple[LayerMatch, ...]) -> bool:
        """Whether a change has the shape of the matched modules' weights."""
        modules = [self._components[match.component].get_submodule(match.module) for match in matches]
        sides = [_sides(module) for module in modules]
        outs, ins = sum(side[0] for side in sides), sides[0][1]
        rows = tuple(range_ for match in matches for range_ in match.rows or ((0, outs),))
        if change.bias is not None and change.bias.needs_bias and any(_bias(module) is None for module in modules):
            return False
        return change.fits(outs, ins, rows)

    def _can_apply(self, change: Change, match: LayerMatch) -> bool:
        """Whether a change that depends on the weight can be made: not where the weight is packed for good."""
        module = self._components[match.component].get_submodule(match.module)
        if _summable(module) or (change.magnitude is None and isinstance(change.delta, AdditiveDelta)):
            return True
        return change.delta is None or can_unpack(module)

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
        bias = _bias(module)
        weight = _kept(_weight(module)) if _summable(module) else None
        can_change = bias is not None and bias.dtype in _SUMMABLE and not bias.is_meta
        return _PatchedModule(module, weight, _kept(bias) if bias is not None and can_change else None, ())

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
    weights = tuple(one for one in touched.sum if one[0].delta is not None)
    if touched.weight is None:
        if touched.hook is not None:
            touched.hook.remove()
        touched.hook = module.register_forward_hook(partial(add_to_output, weights)) if weights else None
    else:
        weight = touched.weight.to(_weight(module).device)
        _put(module, "weight", apply_changes(weight, weights) if weights else weight)
    if touched.bias is not None:
        biases = tuple(one for one in touched.sum if one[0].bias is not None)
        _put(module, "bias", apply_bias_changes(touched.bias, biases) if biases else touched.bias)


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


def _stamps(path: Path) -> tuple[FileStamp | None, ...]:
    """The stamps of the file and of PEFT's config next to it, None for a file that is missing."""
    return file_stamp(path), file_stamp(path.with_name(ADAPTER_CONFIG))


_MOST_NAMED = 3  # layers or tensors that a note names


def _named(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    return listed(names, _MOST_NAMED, lambda name: name[:100])


def _note(
    use: AdapterUse, file: AdapterFile, matched: int, left_out: Sequence[str], mismatched: bool, unpackable: int
) -> str:
    """Sentences for the user where an adapter applies only in part or not at all; empty otherwise."""
    family = family_of(use.family)
    made_for = f" It was trained for {family.title}." if family is not None else ""
    if file.is_zero:
        return f"{use.name} is all zeros and has no effect: its training failed, or it was saved incorrectly."
    if matched == 0:
        why = (
            by_number(file.layers, "its layer has another shape", "its layers have other shapes")
            if mismatched
            else by_number(file.layers, "its only layer does not exist", f"none of its {file.layers} layers exists")
            + " in this checkpoint"
        )
        return f"{use.name} does not fit this checkpoint and has no effect: {why}.{made_for}"
    notes = []
    if matched < file.layers:
        notes.append(
            f"{use.name} fits only partly: {matched} of its {count_of(file.layers, 'layer')} "
            f"{by_number(matched, 'exists', 'exist')} in this checkpoint.{made_for}"
        )
        reasons = sorted(set(file.not_read.values()))
        notes.append(f"Not applied: {_named(left_out)}{f' ({reasons[0]})' if reasons else ''}.")
    if unpackable:
        notes.append(
            f"{use.name} needs unpacked weights, and this checkpoint's are packed: "
            f"{count_of(unpackable, 'layer')} {by_number(unpackable, 'is', 'are')} skipped."
        )
    if file.unknown:
        notes.append(f"{use.name} has tensors that no LoRA uses: {_named(file.unknown)}.")
    if file.assumed:
        notes.append(f"{use.name}: {file.assumed}")
    return " ".join(notes)
