"""Adapters: LoRA and its kin, attached to a model in memory, weighed, and detached without a trace.

A weight that an adapter touches is replaced by `weight + factor · change`, and the weight as it was is kept beside it: on the CPU
it is the very tensor that was loaded, from an accelerator it is copied into main memory. So a step costs nothing more than
before, however many adapters there are and of whatever kind; attaching reads and writes each touched weight once; and detaching
puts the same bits back, which subtracting the change again would not. The price is memory for the touched weights once more,
and in half precision the rounding of the sum, as in every program that merges. Weights that no sum can be written into (fp8,
GGUF and other packed ones) stay as they are, and the change is added to what the layer says, at the cost of a little in every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from diffstudio.errors import Interrupted
from diffstudio.models.adapters.adapter_file import AdapterFile, read_adapter
from diffstudio.models.adapters.layer_matching import Names, Place
from diffstudio.models.adapters.low_rank import Change, LowRank, Rows, added
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.state_dicts.prefixes import NETWORK

_MOST_MISFITS = 0.1  # of an adapter's layers with a wrong shape: with more, it was made for another kind of model
_SUMMABLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """An adapter's file and how strongly it counts: 1 as it was trained, 0 not at all, below 0 the other way."""

    path: Path
    name: str  # what a person calls it
    network: float = 1.0
    text: float = 1.0  # for the text encoders
    family: str = ""  # that it was made for, where it is known


@dataclass(frozen=True, slots=True)
class Attached:
    """What became of one use."""

    use: AdapterUse
    matched: int  # layers of the file that the model has
    layers: int  # layers of the file
    kinds: tuple[str, ...]  # LoRA, LoHa, …
    note: str = ""  # a sentence for the person where it is not all as they would expect


_Target: TypeAlias = tuple[str, str]  # part and path of a module
Sum: TypeAlias = tuple[tuple[Change, float, Rows | None], ...]  # what is to be added to its weight


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A file, and what of it this model has a place for."""

    file: AdapterFile
    stamp: tuple[int, int]
    places: tuple[tuple[Place, Change], ...]
    matched: int
    note: str


@dataclass(slots=True)
class _Touched:
    """A module with something attached, and what it was before."""

    module: nn.Module
    weight: Tensor | None  # None where a hook leaves it as it is
    bias: Tensor | None
    sum: Sum
    hook: RemovableHandle | None = None


class Adapters:
    """The adapters of one model. Not for several threads."""

    def __init__(self, network: nn.Module, text_encoders: Mapping[str, nn.Module]) -> None:
        self._parts: dict[str, nn.Module] = {NETWORK: network, **text_encoders}
        self._names: Names | None = None
        self._fitted: dict[Path, _Fitted] = {}
        self._touched: dict[_Target, _Touched] = {}
        self.attached: tuple[Attached, ...] = ()

    @torch.no_grad()
    def use(self, uses: Sequence[AdapterUse], cancelled: Callable[[], bool] | None = None) -> tuple[Attached, ...]:
        """Attach exactly these, and detach all others; only what differs from before is worked out.

        One that fits the model in no place, is all zeros or was made for another family changes nothing, and its note says so.
        Raises CheckpointMissing and CheckpointDamaged for files, Interrupted soon after `cancelled()` becomes true; then
        none is attached.
        """
        try:
            self._read(uses)
            self._apply(self._sums(uses), cancelled)
        except BaseException:
            self.detach()
            raise
        self.attached = tuple(self._report(use) for use in uses)
        return self.attached

    @torch.no_grad()
    def detach(self) -> None:
        """The model as it was loaded, to the bit."""
        self.attached = ()
        self._fitted.clear()
        for target in list(self._touched):
            self._restore(target)

    def planned(self, uses: Sequence[AdapterUse]) -> tuple[dict[tuple[str, str], Sum], tuple[Attached, ...]]:
        """What `use` would add to the weight of each part's module, and what it would report; nothing is attached."""
        self._read(uses)
        return self._sums(uses), tuple(self._report(use) for use in uses)

    def _read(self, uses: Sequence[AdapterUse]) -> None:
        fitted: dict[Path, _Fitted] = {}
        for use in uses:
            known = self._fitted.get(use.path)
            fitted[use.path] = known if known is not None and known.stamp == _stamp(use.path) else self._fit(use)
        self._fitted = fitted

    def _fit(self, use: AdapterUse) -> _Fitted:
        stamp, file = _stamp(use.path), read_adapter(use.path)
        self._names = self._names or Names(
            self._parts[NETWORK], {part: self._parts[part] for part in self._parts if part != NETWORK}
        )
        places: list[tuple[Place, Change]] = []
        matched, misfits = 0, 0
        for layer, change in file.changes.items():
            found = self._names.places(layer)
            if found and self._fits(change, found):
                matched += 1
                places += [(place, change) for place in found]
            elif found:
                misfits += 1
        another = misfits > _MOST_MISFITS * max(1, len(file.changes))
        note = _note(use, file, 0 if another else matched, misfits, any(self._packed(place) for place, _ in places))
        if another or file.is_nothing:
            places, matched = [], 0
        places = [
            (place, change) for place, change in places if not (change.magnitude is not None and self._packed(place))
        ]
        return _Fitted(file, stamp, tuple(places), matched, note)

    def _fits(self, change: Change, places: tuple[Place, ...]) -> bool:
        """Whether its sides are those of the modules, all of which are there."""
        sides = [_sides(self._parts[place.part].get_submodule(place.module)) for place in places]
        outs, ins = sum(side[0] for side in sides), sides[0][1]
        whole = all(place.rows is None for place in places)
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
        biases = [getattr(self._parts[place.part].get_submodule(place.module), "bias", None) for place in places]
        return None not in biases and change.bias.numel() == outs

    def _packed(self, place: Place) -> bool:
        return not _summable(self._parts[place.part].get_submodule(place.module))

    def _sums(self, uses: Sequence[AdapterUse]) -> dict[_Target, Sum]:
        sums: dict[_Target, Sum] = {}
        for use in uses:
            for place, change in self._fitted[use.path].places:
                factor = use.network if place.part == NETWORK else use.text
                if factor:
                    target = place.part, place.module
                    sums[target] = (*sums.get(target, ()), (change, factor, place.rows))
        return sums

    def _apply(self, sums: Mapping[_Target, Sum], cancelled: Callable[[], bool] | None) -> None:
        for target in [target for target in self._touched if target not in sums]:
            self._restore(target)
        for target, wanted in sums.items():
            if cancelled is not None and cancelled():
                raise Interrupted("Stopped while a LoRA was attached")
            touched = self._touched.get(target)
            if touched is not None and _same(touched.sum, wanted):
                continue
            if touched is None:
                touched = self._touched[target] = self._taken(self._parts[target[0]].get_submodule(target[1]))
            touched.sum = wanted
            _attach(touched)

    def _taken(self, module: nn.Module) -> _Touched:
        if not _summable(module):
            return _Touched(module, None, None, ())
        bias: Any = getattr(module, "bias", None)
        weight: Any = module.weight
        return _Touched(module, _kept(weight), None if bias is None else _kept(bias), ())

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


def _attach(touched: _Touched) -> None:
    module = touched.module
    if touched.weight is None:
        if touched.hook is not None:
            touched.hook.remove()
        touched.hook = module.register_forward_hook(partial(_beside, touched.sum))
        return
    current: Any = module.weight
    weights = [one for one in touched.sum if one[0].delta is not None]
    if weights:
        _put(module, "weight", added(touched.weight.to(current.device), weights))
    if touched.bias is not None:
        exact = touched.bias.float()
        for change, factor, rows in touched.sum:
            if change.bias is not None:
                ours = change.bias if rows is None else torch.cat([change.bias[start:stop] for start, stop in rows])
                exact = exact + factor * ours.to(exact).reshape(exact.shape)
        _put(module, "bias", exact.to(touched.bias.dtype))


def _beside(wanted: Sum, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """What a layer says with the changes of a weight that cannot be summed: of x, besides its own, also the changes."""
    x: Tensor = args[0]
    for change, factor, rows in wanted:
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
    """Into the parameter: on the CPU by changing hands, elsewhere in place, where compiled code may look for it."""
    parameter: Any = getattr(module, name)
    if parameter.device.type == "cpu":
        parameter.data = value.to(parameter.device)
    else:
        parameter.data.copy_(value)


def _kept(parameter: Tensor) -> Tensor:
    """The value as it is: itself on the CPU, where `_put` leaves it alone; a copy from elsewhere."""
    return parameter.detach() if parameter.device.type == "cpu" else parameter.detach().to("cpu", copy=True)


def _summable(module: nn.Module) -> bool:
    weight: Any = module.weight
    return weight.dtype in _SUMMABLE and weight.device.type != "meta" and not hasattr(weight, "quant_type")


def _sides(module: nn.Module) -> tuple[int, int]:
    """[out, in * k] of its weight, also where it is packed."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    weight: Any = module.weight
    return int(weight.shape[0]), math.prod(weight.shape[1:])


def _same(a: Sum, b: Sum) -> bool:
    return len(a) == len(b) and all(x[0] is y[0] and x[1:] == y[1:] for x, y in zip(a, b, strict=True))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return 0, 0  # reading it says why
    return about.st_mtime_ns, about.st_size


def _note(use: AdapterUse, file: AdapterFile, matched: int, misfits: int, packed: bool) -> str:
    """A sentence where less happens than was asked for; empty where all is well."""
    family = family_of(use.family)
    made_for = f" It was made for {family.title}." if family is not None else ""
    if file.changes and file.is_nothing:
        return f"{use.name} is all zeros and changes nothing: its training learnt nothing, or was saved wrongly."
    if matched == 0:
        why = "its layers have other sizes" if misfits else f"none of its {file.layers} layers is in this checkpoint"
        if not file.changes:
            why = f"{next(iter(file.not_read.values()))}"
        return f"{use.name} does not fit this checkpoint and changes nothing: {why}.{made_for}"
    if matched < file.layers:
        return f"{use.name} fits in part: {matched} of its {file.layers} layers are in this checkpoint.{made_for}"
    if packed and any(change.magnitude is not None for change in file.changes.values()):
        return f"{use.name} is a DoRA and this checkpoint's weights are packed: those layers are left out."
    return ""
