"""The change that the tensors of one layer describe, whatever the kind of the adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from diffstudio.models.adapters.change import BiasChange, Change
from diffstudio.models.adapters.delta import AdditiveDelta, Delta
from diffstudio.models.adapters.low_rank import FullDifference, Hadamard, Kronecker, LowRank
from diffstudio.models.adapters.rescalings import GeneralizedLoRA, Replacement, Rescaling
from diffstudio.models.adapters.rotations import InputButterfly, InputRotation, OutputButterfly, OutputRotation
from diffstudio.models.adapters.settings import LayerSettings

Parts = Mapping[str, Tensor]  # the tensors of a layer by their roles, as `key_names` calls them

_MISSING_MATRIX = "one of its two matrices is missing"
_MISMATCHED_SHAPES = "the shapes of its matrices do not match"


class Unusable(Exception):
    """A layer that cannot be applied; its text is the reason, as a clause for the user."""


def parse_layer(parts: Parts, settings: LayerSettings) -> Change:
    """The change that these tensors describe. Unusable where they do not describe one."""
    if "lora_E" in parts:
        raise Unusable("AdaLoRA is not supported")
    if "oft_r" in parts:
        raise Unusable("it is an OFT of PEFT before 0.14, which newer versions of PEFT do not read either")
    delta = next((delta for make in _MAKERS if (delta := make(parts, settings)) is not None), None)
    if isinstance(delta, AdditiveDelta) and not _has_matching_shapes(delta):
        raise Unusable(_MISMATCHED_SHAPES)
    bias = _bias(parts, settings)
    if "weight" in parts and "on_input" not in parts:
        delta = Replacement(parts["weight"], delta)
    if delta is None and bias is None:
        raise Unusable("its kind is not supported")
    magnitude = parts.get("dora_scale")  # [out, 1, …] or [1, in, …]
    if "magnitude" in parts:
        if "embedding_down" in parts:
            raise Unusable("a DoRA of an embedding is not supported")
        magnitude = parts["magnitude"].reshape(-1, 1)  # PEFT's is per output: [out] or [1, out, 1, 1]
    if magnitude is not None and (delta is None or not magnitude.numel()):
        raise Unusable(_MISSING_MATRIX)
    return Change(delta, magnitude, bias)


def _bias(parts: Parts, settings: LayerSettings) -> BiasChange | None:
    added = parts.get("diff_b")
    if "up_bias" in parts and "up" in parts:
        added = parts["up_bias"].float() * settings.scale(
            parts["up"].shape[-1] if parts["up"].ndim == 2 else parts["up"].shape[1]
        )
    scaled = None
    if "ia3_l" in parts and not _scales_inputs(parts["ia3_l"], settings):
        scaled = parts["ia3_l"].float() - 1
    replaced = parts.get("bias")
    return None if added is scaled is replaced is None else BiasChange(added, scaled, replaced)


def _low_rank(parts: Parts, settings: LayerSettings) -> Delta | None:
    if "embedding_down" in parts or "embedding_up" in parts:
        down, up = parts.get("embedding_up"), parts.get("embedding_down")  # of the transposed matrix [entries, width]
        if down is None or up is None:
            raise Unusable(_MISSING_MATRIX)
        if up.ndim != 2 or down.ndim != 2:
            raise Unusable(_MISMATCHED_SHAPES)
        return LowRank(up.T, down.T, settings.scale(up.shape[0]))
    if "up" not in parts and "down" not in parts:
        return None
    if not ("up" in parts and "down" in parts):
        raise Unusable(_MISSING_MATRIX)
    up, down, core = parts["up"], parts["down"], parts.get("mid")
    ranks = (up.shape[1:2], down.shape[:1]) if core is None else (up.shape[1:2] + down.shape[:1], core.shape[:2])
    if ranks[0] != ranks[1] or up.ndim < 2 or down.ndim < 2:
        raise Unusable(_MISMATCHED_SHAPES)
    convolution = down.ndim == 4 and (core is not None or down.shape[-1] > 1)
    scale = settings.scale(down.shape[0]) * _scalar(parts)
    return LowRank(up, down, scale, core, "LoCon" if convolution else "LoRA")


_HADA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")


def _hadamard(parts: Parts, settings: LayerSettings) -> Delta | None:
    if not any(name in parts for name in _HADA):
        return None
    if not all(name in parts for name in _HADA):
        raise Unusable(_MISSING_MATRIX)
    a1, b1, a2, b2 = (parts[name] for name in _HADA)
    if b1.ndim < 2 or (("hada_t1" in parts) != ("hada_t2" in parts)):
        raise Unusable(_MISMATCHED_SHAPES)
    scale = settings.scale(b1.shape[0]) * _scalar(parts)
    return Hadamard(a1, b1, a2, b2, scale, parts.get("hada_t1"), parts.get("hada_t2"))


def _kronecker(parts: Parts, settings: LayerSettings) -> Delta | None:
    if not any(name.startswith("lokr_") for name in parts):
        return None
    left, right = (_kronecker_factors(parts, side) for side in ("1", "2"))
    if not left or not right:
        raise Unusable(_MISSING_MATRIX)
    if any(not factor.ndim for factor in (*left, *right)):
        raise Unusable(_MISMATCHED_SHAPES)
    product = Kronecker(left, right)
    # LyCORIS scales by alpha / rank only where there is a rank: two whole factors count as they are. PEFT always does.
    return replace(product, scale=settings.scale(product.rank) * _scalar(parts))


def _kronecker_factors(parts: Parts, side: str) -> tuple[Tensor, ...]:
    if f"lokr_w{side}" in parts:
        return (parts[f"lokr_w{side}"],)
    if f"lokr_w{side}_a" not in parts or f"lokr_w{side}_b" not in parts:
        return ()
    factors = (parts[f"lokr_w{side}_a"], parts[f"lokr_w{side}_b"])
    core = parts.get(f"lokr_t{side}")
    return factors if core is None else (core, *factors)


def _full(parts: Parts, settings: LayerSettings) -> Delta | None:
    return FullDifference(parts["diff"]) if "diff" in parts and parts["diff"].ndim else None


def _output_rotation(parts: Parts, settings: LayerSettings) -> Delta | None:
    if "oft_diag" in parts:
        return OutputRotation((parts["oft_diag"],), are_rotations=True)
    constraint, rescale = settings.alpha or 0.0, parts.get("rescale")
    split = sorted((int(name.rpartition(".")[2]), name) for name in parts if name.startswith("oft_blocks."))
    if split:
        return OutputRotation(tuple(parts[name] for _, name in split), constraint, rescale)
    blocks = parts.get("oft_blocks")
    if blocks is None:
        return None
    if blocks.ndim == 4:
        return OutputButterfly(blocks, constraint, rescale)
    return OutputRotation((blocks,), constraint, rescale)


def _input_rotation(parts: Parts, settings: LayerSettings) -> Delta | None:
    if "oft_R" in parts:
        return InputRotation(
            parts["oft_R"], settings.neumann_terms, settings.halves_last_term, settings.constrained_norm
        )
    if "boft_R" in parts:
        return InputButterfly(parts["boft_R"], parts.get("boft_s"))
    if "boft_s" in parts:
        raise Unusable(_MISSING_MATRIX)
    return None


def _rescaling(parts: Parts, settings: LayerSettings) -> Delta | None:
    if "on_input" in parts:  # LyCORIS
        if "weight" not in parts or parts["on_input"].numel() != 1:
            raise Unusable(_MISSING_MATRIX)
        return Rescaling(parts["weight"], bool(parts["on_input"].item()))
    if "ia3_l" in parts:
        return Rescaling(parts["ia3_l"].float() - 1, _scales_inputs(parts["ia3_l"], settings))
    return None


def _scales_inputs(factors: Tensor, settings: LayerSettings) -> bool:
    """Whether PEFT's IA3 factors scale inputs: [1, in] rather than [out, 1]; [1, n, 1, 1] of a convolution is ambiguous.

    Unusable where neither shape nor settings tell.
    """
    if factors.ndim == 2 and factors.shape[0] != factors.shape[1]:
        return factors.shape[0] == 1
    if settings.on_input is None:
        raise Unusable("nothing says whether it scales inputs or outputs")
    return settings.on_input


def _glora(parts: Parts, settings: LayerSettings) -> Delta | None:
    names = ("a1", "a2", "b1", "b2")
    if not any(name in parts for name in names):
        return None
    if not all(name in parts for name in names):
        raise Unusable(_MISSING_MATRIX)
    a1, a2, b1, b2 = (parts[name] for name in names)
    if any(factor.ndim < 2 for factor in (a1, a2, b1, b2)):
        raise Unusable(_MISMATCHED_SHAPES)
    if not (len(b2) == b1.shape[1] == a1.shape[1] == len(a2)):  # LyCORIS before November 2023 named them the other way
        a1, a2, b1, b2 = a2, a1, b2, b1
    if not (len(b2) == b1.shape[1] == a1.shape[1] == len(a2)):
        raise Unusable(_MISMATCHED_SHAPES)
    return GeneralizedLoRA((a1, a2), (b1, b2), settings.scale(len(a2)) * _scalar(parts), parts.get("bm"))


_MAKERS: tuple[Callable[[Parts, LayerSettings], Delta | None], ...] = (
    _low_rank,
    _hadamard,
    _kronecker,
    _output_rotation,
    _input_rotation,
    _rescaling,
    _glora,
    _full,
)


def _scalar(parts: Parts) -> float:
    """LyCORIS' trained factor of the whole change, which early versions stored on its own."""
    scalar = parts.get("scalar")
    return 1.0 if scalar is None or scalar.numel() != 1 else float(scalar)


def _has_matching_shapes(delta: AdditiveDelta) -> bool:
    """Whether its factors can be multiplied; tried on the meta device where they are not plain matrices."""
    if isinstance(delta, (LowRank, FullDifference)):
        return True
    try:
        return delta.dense(torch.device("meta")).shape == delta.shape
    except (RuntimeError, IndexError, ValueError):
        return False
