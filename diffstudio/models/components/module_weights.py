"""Fill a module of diffusers or transformers with the tensors of a weight file, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from diffstudio.models.files.quantized import QuantizedLinear, QuantizedTensor
from diffstudio.models.files.quantized_reader import TensorRows, combine_rows
from diffstudio.models.state_dicts.to_diffusers import KeyMap, RowSlice

_UNUSED = ("model.visual", "lm_head")  # of language models that only read prompts: left out where they are not stored


class WeightsMismatch(Exception):
    """The file's tensors do not match the module; the message is a clause that says how."""


def fill_module(
    module: nn.Module,
    key_map: KeyMap,
    weights: TensorRows,
    dtype: torch.dtype,
    keep_packed: bool,
    on_tensor: Callable[[float], None],
) -> None:
    """Give the module its parameters: those on the meta device are replaced by tensors of `dtype` on the CPU.

    `key_map` has the rows of the file's tensors for each of the module's keys. With `keep_packed`, quantized matrices
    stay packed. `on_tensor` is called with the share that is loaded. WeightsMismatch.
    """
    expected = module.state_dict()
    sources = {key: _source(key, key_map) for key in expected}
    _check_complete(sources, expected)
    whole = sum(value.numel() for value in expected.values())
    state, done = dict[str, Tensor](), 0
    for key, parameter in expected.items():
        found = _value(key, parameter, sources[key], weights, dtype, keep_packed and _is_linear(module, key))
        if isinstance(found, QuantizedTensor):
            _pack(module, key, found, dtype)
        elif found.shape != parameter.shape:
            raise WeightsMismatch(f"{key} has the shape {tuple(found.shape)}, not {tuple(parameter.shape)}")
        else:
            state[key] = found
        done += parameter.numel()
        on_tensor(done / max(1, whole))
    module.load_state_dict(state, strict=False, assign=True)


def drop_unused(module: nn.Module, key_map: KeyMap) -> None:
    """Replace the parts of a text encoder that reading prompts does not need, if the file lacks them."""
    for path in _UNUSED:
        if any(name.startswith(f"{path}.") for name in key_map):
            continue
        parent, _, child = path.rpartition(".")
        submodules = dict(module.named_modules())
        if path in submodules:
            setattr(submodules[parent], child, nn.Identity())


def _source(key: str, key_map: KeyMap) -> tuple[RowSlice, ...] | None:
    """transformers has had two namings for CLIP's tensors, and T5's token embedding has two keys."""
    for name in (key, f"text_model.{key}", key.removeprefix("text_model."), f"transformer.{key}"):
        if name in key_map:
            return key_map[name]
    return (
        key_map.get("shared.weight" if key == "encoder.embed_tokens.weight" else "encoder.embed_tokens.weight")
        if key in ("encoder.embed_tokens.weight", "shared.weight")
        else None
    )


def _check_complete(sources: Mapping[str, tuple[RowSlice, ...] | None], expected: Mapping[str, Tensor]) -> None:
    absent = sorted(key for key, source in sources.items() if source is None and not _is_projection(key, expected[key]))
    if absent:
        raise WeightsMismatch(missing_clause(absent))


def missing_clause(keys: Sequence[str]) -> str:
    """`conv_in.bias is missing, and 3 more`."""
    return f"{keys[0]} is missing{f', and {len(keys) - 1:,} more' if len(keys) > 1 else ''}"


def _value(
    key: str,
    parameter: Tensor,
    source: tuple[RowSlice, ...] | None,
    weights: TensorRows,
    dtype: torch.dtype,
    packed: bool,
) -> Tensor | QuantizedTensor:
    if source is None:
        return torch.eye(len(parameter), dtype=dtype)  # CLIP L without its projection, as SD3's original code reads it
    found = combine_rows([weights.rows(run.name, run.start, run.stop) for run in source], dtype, packed)
    if isinstance(found, QuantizedTensor):
        return found
    if key.endswith("text_projection.weight") and source[0].name.endswith("text_projection"):
        return found.T.contiguous()  # OpenCLIP multiplies from the other side
    same = tuple(side for side in found.shape if side > 1) == tuple(side for side in parameter.shape if side > 1)
    return found.reshape(parameter.shape) if same else found  # a convolution of one pixel is a linear layer


def _is_projection(key: str, parameter: Tensor) -> bool:
    """CLIP's square text projection, which some files leave out."""
    return key == "text_projection.weight" and parameter.ndim == 2 and parameter.shape[0] == parameter.shape[1]


def _is_linear(module: nn.Module, key: str) -> bool:
    path, _, kind = key.rpartition(".")
    return kind == "weight" and type(module.get_submodule(path)) is nn.Linear


def _pack(module: nn.Module, key: str, packed: QuantizedTensor, dtype: torch.dtype) -> None:
    """Replace a linear layer by one that unpacks its matrix on every call."""
    parent, _, child = key.removesuffix(".weight").rpartition(".")
    bias = dict(module.get_submodule(key.removesuffix(".weight")).named_parameters(recurse=False)).get("bias")
    setattr(module.get_submodule(parent), child, QuantizedLinear(packed, bias, dtype))
