"""The layers of a PixelTransformer. In the shapes, N is the number of tokens and D the hidden size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.networks import training_passes
from diffstudio.networks.transformer_config import TransformerConfig

_FEW_TOKENS = 512  # up to which two products are faster than the fused kernel, on a processor
TIME_FEATURES = 256  # sinusoids that encode the time


class Block(nn.Module):
    """Attention and SwiGLU with adaLN-Zero (DiT, arXiv 2212.09748): gates are 0 at initialisation."""

    dropout = 0.0  # in training, the probability of dropping a value that the block adds; no checkpoint stores it

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.adaLN_modulation = zero_init(nn.Linear(config.cond_dim, 6 * config.hidden_size))
        self.attn = Attention(config)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, c: Tensor, rotation: Tensor) -> Tensor:
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = self.adaLN_modulation(c)[:, None].chunk(6, -1)
        x = torch.addcmul(x, gate_msa, self._some_of(self.attn(self._modulated(x, shift_msa, scale_msa), rotation)))
        return torch.addcmul(x, gate_mlp, self._some_of(self.mlp(self._modulated(x, shift_mlp, scale_mlp))))

    def _modulated(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        if training_passes.fits(x, training=self.training):
            return training_passes.modulated_norm(x, shift, scale)
        return modulate(rms_norm(x), shift, scale)

    def _some_of(self, added: Tensor) -> Tensor:
        return F.dropout(added, self.dropout, self.training) if self.dropout else added


class Attention(nn.Module):
    """Multi-head self-attention with rotary embedding and RMS-normalised q and k (SD3, arXiv 2403.03206)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        width = config.hidden_size
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RMSNorm(width // config.num_heads)
        self.k_norm = RMSNorm(width // config.num_heads)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        batch, count, width = x.shape
        if count <= _FEW_TOKENS and training_passes.fits(x, training=self.training):
            weights = self.q_norm.weight, self.k_norm.weight
            apart = F.linear(x, training_passes.pairs_apart(self.qkv.weight, self.num_heads))
            q, k, v = (part.flatten(0, 1) for part in training_passes.attention_inputs(apart, *weights, rotation))
            mixed = torch.bmm(torch.bmm(q, k.mT).softmax(dim=-1), v).view(batch, self.num_heads, count, -1)
            trained: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
            return trained
        q, k, v = self.qkv(x).view(batch, count, 3, self.num_heads, -1).unbind(2)  # [B,T+N,heads,head_dim]
        q, k = apply_rotary(self.q_norm(q), rotation), apply_rotary(self.k_norm(k), rotation)
        mixed = attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return projected


class SwiGLU(nn.Module):
    """w3(silu(w1 x) * w2 x): Shazeer 2020 (arXiv 2002.05202), eq. 6. w12 holds w1 and w2, as in DINOv2 and JiT."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        hidden = round(config.hidden_size * 8 / 3 / 32) * 32
        self.w12 = nn.Linear(config.hidden_size, 2 * hidden, bias=False)
        self.w3 = nn.Linear(hidden, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        both = self.w12(x)
        if training_passes.fits(both, training=self.training):
            trained: Tensor = self.w3(training_passes.gated(both))
            return trained
        gate, value = both.chunk(2, dim=-1)
        projected: Tensor = self.w3(F.silu(gate) * value)
        return projected


class RMSNorm(nn.Module):
    """Root mean square normalisation of the last axis with a learnt scale: Zhang & Sennrich 2019 (arXiv 1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x) * self.weight.to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V for [B,heads,N,d]: Vaswani et al. 2017 (arXiv 1706.03762), eq. 1.

    On a CPU, two matrix products and their gradients take a quarter of the fused kernel's time for a few hundred
    tokens.
    """
    if q.is_cuda or q.shape[-2] > _FEW_TOKENS:
        return F.scaled_dot_product_attention(q, k, v)
    batch, heads, count, head_dim = q.shape
    q, k, v = (tensor.reshape(batch * heads, count, head_dim) for tensor in (q * head_dim**-0.5, k, v))
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1), v).view(batch, heads, count, head_dim)


def rms_norm(x: Tensor) -> Tensor:
    """x scaled to a root mean square of 1 along its last axis: Zhang & Sennrich 2019 (arXiv 1910.07467), eq. 4."""
    return F.rms_norm(x, (x.shape[-1],))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift, as in DiT (arXiv 2212.09748)."""
    return torch.addcmul(shift, x, 1 + scale)


def timestep_embedding(t: Tensor, count: int = TIME_FEATURES) -> Tensor:
    """Sinusoids of 1000 t, t [B] -> [B,count]: Ho et al. 2020 (arXiv 2006.11239), appendix B."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(count // 2, device=t.device) / (count // 2))
    angles = 1000 * t.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def rotary_embedding(rows: int, columns: int, context: int, config: TransformerConfig, device: torch.device) -> Tensor:
    """Cosines and sines of the rotary embedding over two axes, [2,context+rows*columns,1,head_dim/2].

    RoFormer: Su et al. 2021 (arXiv 2104.09864). Half of a head's pairs rotate with the row and half with the column,
    measured from the centre in patches of the trained grid; context tokens are not rotated.
    """
    pairs = config.hidden_size // config.num_heads // 4
    frequencies = (math.pi / 2) * 16.0 ** (-torch.arange(pairs, device=device) / pairs)
    grid = config.image_size / config.patch_size
    row = (torch.arange(rows, device=device) + 0.5 - rows / 2) * (grid / rows)
    column = (torch.arange(columns, device=device) + 0.5 - columns / 2) * (grid / columns)
    by_row = (row[:, None] * frequencies)[:, None].expand(rows, columns, pairs)
    by_column = (column[:, None] * frequencies)[None].expand(rows, columns, pairs)
    angles = torch.cat((by_row, by_column), dim=-1).reshape(rows * columns, 2 * pairs)
    angles = F.pad(angles, (0, 0, context, 0))
    return torch.stack((angles.cos(), angles.sin()))[:, :, None]


def apply_rotary(x: Tensor, rotation: Tensor) -> Tensor:
    """x [B,N,heads,d] with each pair (i, i + d/2) rotated by its angle: Su et al. 2021 (arXiv 2104.09864)."""
    cos, sin = rotation.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def zero_init(linear: nn.Linear) -> nn.Linear:
    """The layer with weight and bias 0."""
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear
