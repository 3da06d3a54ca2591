"""PixelTransformer: predicts the clean image from noisy pixels, a small JiT (Li & He 2025, arXiv 2511.13720).

There is no autoencoder: an image is cut into patches, each projected through a bottleneck to one token. The condition
enters twice, as context tokens and as a vector that modulates every block (adaLN-Zero of DiT: Peebles & Xie 2022,
arXiv 2212.09748). In the shapes, N is the number of image tokens, T of text or class tokens, D the hidden size, C
`cond_dim`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.networks import training_passes
from diffstudio.networks.conditioning import Conditioning

_FEW_TOKENS = 512  # up to which two products are faster than the fused kernel, on a processor
_TIME_FEATURES = 256  # sinusoids that encode the time
_RGB = 3  # channels of networks whose headers name no number

# Field of TransformerConfig -> its key in checkpoint headers, where they differ. A format: never change a key.
_JSON_KEYS = {
    "image_size": "size",
    "in_channels": "channels",
    "patch_size": "patch",
    "patch_margin": "margin",
    "bottleneck_dim": "bottleneck",
    "hidden_size": "width",
    "num_heads": "heads",
    "cond_dim": "condition_width",
    "num_classes": "classes",
    "vocab_size": "vocabulary",
    "augment_dim": "told_width",
}
_FIELDS = {key: field for field, key in _JSON_KEYS.items()}


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """The shape of a PixelTransformer. ValueError for sizes that do not divide."""

    image_size: int = 64  # px, the side of the training images
    patch_size: int = 8  # px
    patch_margin: int = 4  # px by which patches overlap their neighbours, in and out, to avoid visible seams
    bottleneck_dim: int = 128
    hidden_size: int = 256
    depth: int = 6  # blocks
    num_heads: int = 4
    cond_dim: int = 256  # of the vector that modulates the blocks
    conditioning: Conditioning = Conditioning.NONE
    num_classes: int = 0  # for Conditioning.CLASS
    vocab_size: int = 0  # for Conditioning.TEXT; token id 0 is padding
    text_tokens: int = 0  # per prompt
    augment_dim: int = 0  # augmentation labels (Karras et al. 2022, arXiv 2206.00364, appendix F.2); 0: none
    in_channels: int = 3  # of the images, in and out
    low_channels: int = 0  # of a low-resolution image that is given beside x_t (SR3: arXiv 2104.07636); 0: none

    def __post_init__(self) -> None:
        check_multiple(self.image_size, self.patch_size)
        if self.in_channels < 1:
            raise ValueError(f"images have at least one channel, not {self.in_channels}")
        if self.low_channels not in (0, self.in_channels):
            raise ValueError(f"the low-resolution image has {self.low_channels} channels, not {self.in_channels}")
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 4:
            raise ValueError(
                f"a hidden size of {self.hidden_size} does not split into {self.num_heads} heads of a multiple of 4"
            )

    @property
    def patch_values(self) -> int:
        """The numbers in one patch: all channels, margins included."""
        return self.in_channels * (self.patch_size + 2 * self.patch_margin) ** 2

    @property
    def read_values(self) -> int:
        """The numbers that are read for one patch: those of the low-resolution image included."""
        return (self.in_channels + self.low_channels) * (self.patch_size + 2 * self.patch_margin) ** 2

    def to_json(self) -> dict[str, Any]:
        """The `network` entry of checkpoint headers, which names no channels that earlier versions did not name."""
        values = asdict(self)
        if self.in_channels == _RGB:
            del values["in_channels"]
        if not self.low_channels:
            del values["low_channels"]
        return {_JSON_KEYS.get(field, field): value for field, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TransformerConfig:
        """The inverse of `to_json`. KeyError, TypeError or ValueError for values that are missing, unknown or invalid."""
        fields = {_FIELDS.get(key, key): value for key, value in values.items()}
        return cls(**{**fields, "conditioning": Conditioning(fields["conditioning"])})


def check_multiple(image_size: int, patch_size: int) -> None:
    """ValueError for an image size that is not a multiple of the patch size."""
    if image_size % patch_size or image_size < patch_size:
        raise ValueError(f"the image size {image_size} is not a multiple of the patch size {patch_size}")


class Condition(NamedTuple):
    """What a batch of images is conditioned on. Fields that the network does not use stay None."""

    token_ids: Tensor | None = None  # [B,T] int64, 0 is padding; all 0: unconditional
    class_labels: Tensor | None = None  # [B] int64; `num_classes`: unconditional
    augment_labels: Tensor | None = None  # [B,augment_dim] float; zeros or None: not augmented
    embedded: Tensor | None = None  # replaces the embeddings of tokens [B,T,D] or class [B,C] (see `embed`)
    low: Tensor | None = None  # [B,K,h,w], the image at a lower resolution
    low_noise: Tensor | None = None  # [B] in [0,1], the noise level of `low`; None: it is clean


class PixelTransformer(nn.Module):
    """x_t [B,K,H,W], t [B] in [0,1] (0 is clean), condition -> the clean image [B,K,H,W].

    K is `in_channels`. H and W are multiples of `patch_size`; where they differ from `image_size`, position embeddings are resized.
    With `low_channels`, `condition.low` is resized to H and W, read beside x_t, and what is predicted is the difference to it.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        grid = config.image_size // config.patch_size
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, config.hidden_size, grid, grid))
        self.cond_embed = ConditionEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)

    @property
    def context_tokens(self) -> int:
        """T: how many tokens of the condition stand before the image tokens in every block."""
        counts = {Conditioning.TEXT: self.config.text_tokens, Conditioning.CLASS: 1, Conditioning.NONE: 0}
        return counts[self.config.conditioning]

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition = Condition()) -> Tensor:  # noqa: B008 (immutable)
        height, width = x_t.shape[-2:]
        rows, columns = height // self.config.patch_size, width // self.config.patch_size
        low = self._low(condition, x_t) if self.config.low_channels else None  # [B,K,H,W]
        read = x_t if low is None else torch.cat((x_t, low), dim=1)
        patches = F.unfold(read, **self._patch_geometry).transpose(1, 2)  # [B,N,read_values]
        x = self.patch_embed(patches) + self._pos_embed(rows, columns)  # [B,N,D]
        c, context = self.cond_embed(t, condition)  # [B,C], [B,T,D]
        rotation = rotary_embedding(rows, columns, context.shape[1], self.config, x_t.device)
        x = torch.cat((context.to(x.dtype), x), dim=1)  # [B,T+N,D]
        for block in self.blocks:
            x = block(x, c, rotation)
        patches = self.final_layer(x[:, context.shape[1] :], c)
        image = F.fold(patches.float().transpose(1, 2), (height, width), **self._patch_geometry)
        return image if low is None else image + low

    def _low(self, condition: Condition, x_t: Tensor) -> Tensor:
        """The low-resolution image at the size of x_t [B,K,H,W]; zeros without one."""
        if condition.low is None:
            return torch.zeros_like(x_t)
        return enlarged(condition.low.to(x_t), x_t.shape[-2], x_t.shape[-1])

    @property
    def _patch_geometry(self) -> dict[str, int]:
        size, margin = self.config.patch_size, self.config.patch_margin
        return {"kernel_size": size + 2 * margin, "stride": size, "padding": margin}

    def _pos_embed(self, rows: int, columns: int) -> Tensor:
        pos_embed: Tensor = self.pos_embed
        if pos_embed.shape[-2:] != (rows, columns):
            pos_embed = F.interpolate(pos_embed, (rows, columns), mode="bicubic", align_corners=False)
        return pos_embed.flatten(2).transpose(1, 2)


def enlarged(low: Tensor, height: int, width: int) -> Tensor:
    """Images [B,K,h,w] at a larger size [B,K,height,width], by bicubic interpolation.

    Where the size is a whole multiple, means of squares are then corrected to those of `low`: one step of iterative
    back-projection (Irani & Peleg 1991), which is exact for squares.
    """
    larger = F.interpolate(low, (height, width), mode="bicubic", align_corners=False)
    factor = height // low.shape[-2]
    if factor < 2 or (height, width) != (factor * low.shape[-2], factor * low.shape[-1]):
        return larger
    return larger + F.interpolate(low - F.avg_pool2d(larger, factor), scale_factor=factor, mode="nearest")


class PatchEmbed(nn.Module):
    """Patches [B,N,read_values] -> tokens [B,N,D] through a bottleneck: JiT (arXiv 2511.13720)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.proj1 = nn.Linear(config.read_values, config.bottleneck_dim, bias=False)
        self.proj2 = nn.Linear(config.bottleneck_dim, config.hidden_size)

    def forward(self, patches: Tensor) -> Tensor:
        tokens: Tensor = self.proj2(self.proj1(patches))
        return tokens


class ConditionEmbed(nn.Module):
    """Time and condition -> the modulating vector [B,C] and the context tokens [B,T,D]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.cond_dim
        self.time_embed = nn.Sequential(nn.Linear(_TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        if config.conditioning is Conditioning.TEXT:
            self.token_embed = nn.Embedding(config.vocab_size, config.hidden_size)
            self.token_pos_embed = nn.Parameter(0.02 * torch.randn(1, config.text_tokens, config.hidden_size))
            self.text_embed = nn.Sequential(nn.Linear(config.hidden_size, width), nn.SiLU(), nn.Linear(width, width))
            nn.init.normal_(self.token_embed.weight, std=0.5)
        elif config.conditioning is Conditioning.CLASS:
            self.class_embed = nn.Embedding(config.num_classes + 1, width)  # the last one: unconditional
            self.class_token = nn.Linear(width, config.hidden_size)
            nn.init.normal_(self.class_embed.weight, std=0.5)
        if config.augment_dim:
            self.augment_embed = nn.Linear(config.augment_dim, width, bias=False)
        if config.low_channels:
            self.noise_embed = nn.Sequential(nn.Linear(_TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))

    def embed(self, condition: Condition) -> Tensor:
        """The embeddings of the condition's tokens [B,T,D] or class [B,C], before positions are added."""
        if self.config.conditioning is Conditioning.TEXT:
            tokens: Tensor = self.token_embed(condition.token_ids)
            return tokens
        embedded: Tensor = self.class_embed(condition.class_labels)
        return embedded

    def forward(self, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        c = self.time_embed(timestep_embedding(t))
        context = c.new_zeros(len(t), 0, self.config.hidden_size)
        if self.config.conditioning is Conditioning.TEXT:
            token_ids = condition.token_ids
            if token_ids is None:
                token_ids = t.new_zeros((len(t), self.config.text_tokens), dtype=torch.int64)
            tokens = self.token_embed(token_ids) if condition.embedded is None else condition.embedded  # [B,T,D]
            mask = (token_ids != 0).unsqueeze(-1)
            # Divided by the root of the count, so that the variance is that of one token.
            pooled = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1).sqrt()  # [B,D]
            c, context = c + self.text_embed(pooled), tokens + self.token_pos_embed
        elif self.config.conditioning is Conditioning.CLASS:
            labels = condition.class_labels
            if labels is None:
                labels = torch.full((len(t),), self.config.num_classes, device=t.device)
            embedded = self.class_embed(labels) if condition.embedded is None else condition.embedded  # [B,C]
            c, context = c + embedded, self.class_token(embedded)[:, None]
        if self.config.augment_dim and condition.augment_labels is not None:
            c = c + self.augment_embed(condition.augment_labels)
        if self.config.low_channels:
            level = torch.zeros_like(t) if condition.low_noise is None else condition.low_noise
            c = c + self.noise_embed(timestep_embedding(level))
        return F.silu(c), context


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
        qkv = self.qkv(x).view(batch, count, 3, self.num_heads, -1)
        if count <= _FEW_TOKENS and training_passes.fits(qkv, training=self.training):
            weights = self.q_norm.weight, self.k_norm.weight
            q, k, v = (part.flatten(0, 1) for part in training_passes.attention_inputs(qkv, *weights, rotation))
            mixed = torch.bmm(torch.bmm(q, k.mT).softmax(dim=-1), v).view(batch, self.num_heads, count, -1)
            trained: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
            return trained
        q, k, v = qkv.unbind(2)  # [B,T+N,heads,head_dim]
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


class FinalLayer(nn.Module):
    """Tokens [B,N,D] -> patches [B,N,patch_values], modulated by the condition and zero at initialisation."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.adaLN_modulation = zero_init(nn.Linear(config.cond_dim, 2 * config.hidden_size))
        self.linear = zero_init(nn.Linear(config.hidden_size, config.patch_values))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, dim=-1)
        patches: Tensor = self.linear(modulate(rms_norm(x), shift, scale))
        return patches


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


def timestep_embedding(t: Tensor, count: int = _TIME_FEATURES) -> Tensor:
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
