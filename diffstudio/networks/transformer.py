"""PixelTransformer: predicts the clean image from noisy pixels, a small JiT (Li & He 2025, arXiv 2511.13720).

There is no autoencoder: an image is cut into patches, each projected through a bottleneck to one token. The condition
enters twice, as context tokens and as a vector that modulates every block (adaLN-Zero of DiT: Peebles & Xie 2022,
arXiv 2212.09748). In the shapes, N is the number of image tokens, T of text or class tokens, D the hidden size, C
`cond_dim`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.networks.transformer_layers import (
    TIME_FEATURES,
    Block,
    modulate,
    rms_norm,
    rotary_embedding,
    timestep_embedding,
    zero_init,
)


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

    Where the size is a whole multiple, the averages of blocks are then corrected to the pixels of `low`: one step of
    iterative back-projection (Irani & Peleg 1991), after which they are equal.
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
        self.time_embed = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
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
            self.noise_embed = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))

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
