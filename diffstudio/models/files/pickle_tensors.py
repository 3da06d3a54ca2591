"""The tensors that an interpreted pickle describes, by name: dtype, shape, strides and storage. No torch, no weights.

PyTorch writes a tensor as a call, `_rebuild_tensor_v2(storage, offset, size, stride, …)`, and its elements as a storage
outside the pickle. Everything else in the file (optimisers, callbacks) is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

from diffstudio.models.files.pickle_globals import DTYPES, STORAGES
from diffstudio.models.files.pickle_interpreter import Call, Global, PersistentId, Unreadable

_WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model_state", "string_to_param", "module")
_MOST_VALUES = 200_000  # that are visited
_DEEPEST, _MOST_DIMENSIONS = 6, 16
BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "U16": 2,
    "U32": 4,
    "U64": 8,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
}


class PickledTensor(NamedTuple):
    """A view of a storage. Strides and offset count elements, not bytes."""

    dtype: str  # as safetensors calls it: F16
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: str  # key of its storage
    storage_elements: int  # that the storage has, as the pickle says

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def itemsize(self) -> int:
        return BYTES[self.dtype]

    @property
    def contiguous(self) -> bool:
        expected = 1
        for side, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if side != 1 and step != expected:
                return False
            expected *= side
        return True


def tensors_in(root: Any) -> dict[str, PickledTensor]:
    """By state-dict key: the wrappers that trainers add (`state_dict`, `params_ema`) are removed, nested names are
    joined by dots.

    Unreadable for an invalid tensor or too many values.
    """
    visitor = _Visitor()
    table = _pairs(root) or _as_dict(root)
    for _ in range(_DEEPEST):
        inner = next(
            (inner for wrapper in _WRAPPERS if (inner := _as_dict(table.get(wrapper))) and visitor.any_in(inner)), None
        )
        if inner is None:
            break
        table = inner
    return dict(visitor.tensors(table))


class _Visitor:
    """Visits nested dicts, up to a limit of values."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def tensors(
        self, table: Mapping[Any, Any], prefix: str = "", depth: int = 0
    ) -> Iterator[tuple[str, PickledTensor]]:
        for key, value in table.items():
            self._left -= 1
            if self._left < 0:
                raise Unreadable("it has too many values")
            name = f"{prefix}{key}"
            if (tensor := _tensor(value)) is not None:
                yield name, tensor
            elif depth < _DEEPEST and (inner := _as_dict(value)):
                yield from self.tensors(inner, f"{name}.", depth + 1)

    def any_in(self, table: Mapping[Any, Any]) -> bool:
        return any(True for _ in self.tensors(table))


def _pairs(root: Any) -> dict[Any, Any]:
    """The tensors of a list by position, where it is nothing but pairs of them, as in the first LoRAs; else empty."""
    pairs = (
        type(root) is list and len(root) > 1 and len(root) % 2 == 0 and all(_tensor(one) is not None for one in root)
    )
    return dict(enumerate(root)) if pairs else {}


def _as_dict(value: Any) -> dict[Any, Any]:
    """The items of a dict of any class, or the parameters, buffers and submodules of a module; empty for all else."""
    if type(value) is dict:
        return value
    if type(value) is not Call:
        return {}
    state = value.state
    if type(state) is dict and type(held := state.get("_parameters")) in (dict, Call):
        parts = [_as_dict(part) for part in (held, state.get("_buffers"), state.get("_modules"))]
        return {key: inner for part in parts for key, inner in part.items()}
    return value.items or _as_pairs(value)


def _as_pairs(made: Call) -> dict[Any, Any]:
    """The items of `OrderedDict([[key, value], ...])`, as Python 2 pickles it; empty for other calls."""
    match made.callee, made.args:
        case Global(name="OrderedDict"), ([*pairs],):
            return {
                pair[0]: pair[1]
                for pair in pairs
                if type(pair) in (list, tuple) and len(pair) == 2 and isinstance(pair[0], str)
            }
    return {}


def _tensor(value: Any, depth: int = 0) -> PickledTensor | None:
    """None for what is not a tensor, or a tensor that weights never are: sparse, complex."""
    if (
        type(value) is not Call
        or type(value.callee) is not Global
        or type(args := value.args) is not tuple
        or depth > 4
    ):
        return None
    match value.callee.module, value.callee.name:
        case "torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" if len(args) >= 4:
            dtype = args[6] if value.callee.name.endswith("v3") and len(args) > 6 else None
            return _view(args[0], args[1], args[2], args[3], dtype)
        case ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") | ("torch.nn.parameter", _) if (
            args
        ):
            return _tensor(args[0], depth + 1)
        case "torch._tensor", "_rebuild_from_type_v2" if len(args) >= 3:
            return _tensor(Call(args[0], args[2]), depth + 1)
    return None


def _view(storage: Any, offset: Any, size: Any, stride: Any, dtype_global: Any) -> PickledTensor | None:
    if type(size) is Call and type(size.args) is tuple and len(size.args) == 1:  # torch.Size((…,))
        size = size.args[0]
    stored = storage.id if type(storage) is PersistentId else None
    if type(stored) is not tuple or len(stored) < 5 or stored[0] != "storage" or type(stored[1]) is not Global:
        raise Unreadable("a tensor in it has no storage")
    _, kind, key, _, elements, *view = stored
    dtype = DTYPES.get(dtype_global.name) if type(dtype_global) is Global else STORAGES.get(kind.name)
    if dtype is None:
        return None
    if type(dtype_global) is Global and type(elements) is int:  # an untyped storage counts bytes
        elements //= BYTES[dtype]
    if view and type(view[0]) is tuple and len(view[0]) == 3 and type(view[0][1]) is int and type(offset) is int:
        offset += view[0][1]
    if not (
        isinstance(key, str)
        and _are_sizes(offset, elements)
        and type(size) is tuple
        and type(stride) is tuple
        and len(size) == len(stride) <= _MOST_DIMENSIONS
        and _are_sizes(*size, *stride)
    ):
        raise Unreadable("a tensor in it is invalid")
    count = prod(size)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if count and (last >= elements or count > elements):
        raise Unreadable("a tensor in it is larger than its storage")
    return PickledTensor(dtype, size, stride, offset, key, elements)


def _are_sizes(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 62 for value in values)
