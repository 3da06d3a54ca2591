"""Parts of a transformer's block with gradients of their own, for training on a processor.

A step there spends nearly half of its time on passes over activations, not on products of matrices. What automatic
differentiation does in ten passes, these do in four to seven, into the arrays that the products read. The formulas are
those of `networks.transformer`; only the order of roundings differs, so that images are always drawn by that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_EPS = torch.finfo(torch.float32).eps  # as in F.rms_norm


def fits(x: Tensor, *, training: bool) -> bool:
    """Whether gradients of x are computed on a processor, while a network is trained."""
    return training and torch.is_grad_enabled() and x.requires_grad and x.device.type == "cpu"


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """rms_norm(x) * (1 + scale) + shift, for x [B,N,D] and shift and scale [B,1,D]."""
    made: Tensor = _ModulatedNorm.apply(x, shift, scale)  # type: ignore[no-untyped-call]
    return made


def gated(x: Tensor) -> Tensor:
    """silu(gate) * value of x [...,2H], which holds gate and value: Shazeer 2020 (arXiv 2002.05202), eq. 6."""
    made: Tensor = _Gated.apply(x)  # type: ignore[no-untyped-call]
    return made


def attention_inputs(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, rotation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """q / sqrt(d), k and v [B,heads,N,d] of qkv [B,N,3,heads,d]: q and k are normalised, scaled and rotated.

    `q_weight`, `k_weight` [d]: scales of the norms. `rotation` [2,N,1,d/2]: cosines and sines.
    """
    made: tuple[Tensor, Tensor, Tensor] = _AttentionInputs.apply(qkv, q_weight, k_weight, rotation)  # type: ignore[no-untyped-call]
    return made


def _inverse(x: Tensor) -> Tensor:
    """1 / the root mean square of the last axis [...,1], in the data type of x."""
    summed = torch.promote_types(x.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=summed)
    inverse: Tensor = norm.square_().div_(x.shape[-1]).add_(_EPS).rsqrt_()
    return inverse.to(x.dtype)


class _ModulatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        inverse = _inverse(x)
        normed, factor = x * inverse, 1 + scale
        ctx.save_for_backward(normed, factor, inverse)
        ctx.dtypes = shift.dtype, scale.dtype
        return torch.addcmul(shift, normed, factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor]:
        (g,), (normed, factor, inverse) = gradients, ctx.saved_tensors
        along = g * normed
        mean = torch.bmm(along, factor.to(along.dtype).mT).div_(
            normed.shape[-1]
        )  # of the gradient times normed, [B,N,1]
        to_x = (g * factor).to(normed.dtype).addcmul_(normed, mean.to(normed.dtype), value=-1).mul_(inverse)
        return to_x, g.sum(1, keepdim=True).to(ctx.dtypes[0]), along.sum(1, keepdim=True).to(ctx.dtypes[1])


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        opened = torch.nn.functional.silu(gate)
        ctx.save_for_backward(x, opened)
        return opened * value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (g,), (x, opened) = gradients, ctx.saved_tensors
        gate, value = x.chunk(2, dim=-1)
        to_x = torch.empty_like(x)
        to_gate, to_value = to_x.chunk(2, dim=-1)
        torch.mul(g, opened, out=to_value)
        torch.ops.aten.silu_backward.grad_input(g * value, gate, grad_input=to_gate)
        return to_x


class _AttentionInputs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, q_weight: Tensor, k_weight: Tensor, rotation: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, _, heads, width = qkv.shape
        made = [qkv.new_empty(batch, heads, count, width) for _ in range(3)]
        inverses = []
        for index, weight in enumerate((q_weight * width**-0.5, k_weight)):
            x, out = qkv[:, :, index], made[index].transpose(1, 2)
            inverses.append(_inverse(x))
            _rotate(x, rotation, weight, out)
            out.mul_(inverses[index])
        made[2].transpose(1, 2).copy_(qkv[:, :, 2])
        ctx.save_for_backward(qkv, q_weight, k_weight, rotation, *inverses)
        return made[0], made[1], made[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        qkv, q_weight, k_weight, rotation, *inverses = ctx.saved_tensors
        width = qkv.shape[-1]
        to_qkv, to_weights = torch.empty_like(qkv), []
        for index, (weight, scale) in enumerate(((q_weight, width**-0.5), (k_weight, 1.0))):
            x, to_x, inverse = qkv[:, :, index], to_qkv[:, :, index], inverses[index]
            factor = (weight * scale).to(x.dtype)
            _rotate(
                gradients[index].transpose(1, 2), rotation * rotation.new_tensor([1, -1]).view(2, 1, 1, 1), None, to_x
            )
            normed = x * inverse
            along = to_x * normed
            to_weights.append(
                scale * along.sum((0, 1, 2), dtype=torch.promote_types(along.dtype, torch.float32)).to(weight.dtype)
            )
            mean = (along @ factor).unsqueeze(-1).div_(width)
            to_x.mul_(factor).addcmul_(normed, mean, value=-1).mul_(inverse)
        to_qkv[:, :, 2].copy_(gradients[2].transpose(1, 2))
        return to_qkv, to_weights[0], to_weights[1], None


def _rotate(x: Tensor, rotation: Tensor, weight: Tensor | None, out: Tensor) -> None:
    """Write x [B,N,heads,d], times `weight` [d], into `out`, with each pair (i, i + d/2) rotated by its angle."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    to_first, to_second = out.chunk(2, dim=-1)
    of_first, of_second = (cos, sin), (sin, cos)  # how much of the first and of the second goes to either half
    if weight is not None:
        one, other = weight.chunk(2)
        of_first, of_second = (cos * one, sin * one), (sin * other, cos * other)
    torch.mul(first, of_first[0].to(x.dtype), out=to_first)
    to_first.addcmul_(second, of_second[0].to(x.dtype), value=-1)
    torch.mul(first, of_first[1].to(x.dtype), out=to_second)
    to_second.addcmul_(second, of_second[1].to(x.dtype))
