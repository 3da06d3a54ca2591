"""A transformer on pixels that predicts the clean image: JiT (Li and He 2025, arXiv 2511.13720) made small.

No autoencoder: an image is cut into patches, each squeezed through a bottleneck into one token. What the image shows is
said twice, as tokens in context and as a vector that modulates every block (DiT's adaLN-zero, arXiv 2212.09748).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.networks.conditioning import Conditioning


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """What decides the shape of a PixelTransformer. Sides are in px; `size` is the side it is trained at."""

    size: int = 64
    patch: int = 8
    margin: int = 4  # px that a patch reaches over its edges, reading and writing, so that no seams show
    bottleneck: int = 128
    width: int = 256
    depth: int = 6
    heads: int = 4
    condition_width: int = 256
    conditioning: Conditioning = Conditioning.NONE
    classes: int = 0  # for Conditioning.CLASS
    vocabulary: int = 0  # for Conditioning.TEXT: words of the tokenizer; id 0 is padding
    text_tokens: int = 0
    told_width: int = 0  # numbers that say how a training picture was moved; zeros when sampling

    def __post_init__(self) -> None:
        if self.size % self.patch or self.size < self.patch:
            raise ValueError(f"size {self.size} is not a multiple of patch {self.patch}")
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise ValueError(f"width {self.width} does not give {self.heads} heads of a multiple of 4")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TransformerConfig:
        return cls(**{**values, "conditioning": Conditioning(values["conditioning"])})


class Condition(NamedTuple):
    """What a batch of images is to show. A part the network does not know stays None."""

    words: Tensor | None = None  # [B,text_tokens] int64, 0 where there is no word; all 0 says nothing
    labels: Tensor | None = None  # [B] int64; `classes` says nothing
    told: Tensor | None = None  # [B,told_width] float; zeros, or None: not moved


class PixelTransformer(nn.Module):
    """x_t [B,3,H,W], t [B] in [0,1] (0 is clean), condition -> the clean image [B,3,H,W].

    H and W may differ from the trained size, in multiples of `patch`: positions are stretched over the new grid.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, grid = config.width, config.size // config.patch
        window = 3 * (config.patch + 2 * config.margin) ** 2
        self.read_patches = nn.Sequential(
            nn.Linear(window, config.bottleneck, bias=False), nn.Linear(config.bottleneck, width)
        )
        self.positions = nn.Parameter(0.02 * torch.randn(1, width, grid, grid))
        self.condition = ConditionEncoder(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.last_modulation = zeroed(nn.Linear(config.condition_width, 2 * width))
        self.write_patches = zeroed(nn.Linear(width, window))

    @property
    def _windows(self) -> dict[str, int]:
        patch, margin = self.config.patch, self.config.margin
        return {"kernel_size": patch + 2 * margin, "stride": patch, "padding": margin}

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition = Condition()) -> Tensor:  # noqa: B008 (immutable)
        height, width = x_t.shape[-2:]
        rows, columns = height // self.config.patch, width // self.config.patch
        tokens = self.read_patches(F.unfold(x_t, **self._windows).transpose(1, 2))  # [B,rows*columns,width]
        tokens = tokens + self._positions(rows, columns)
        vector, words = self.condition(t, condition)  # [B,C], [B,T,width]
        rotation = rotary_angles(rows, columns, words.shape[1], self.config, x_t.device)
        tokens = torch.cat((words.to(tokens.dtype), tokens), dim=1)
        for block in self.blocks:
            tokens = block(tokens, vector, rotation)
        tokens = tokens[:, words.shape[1] :]
        shift, scale = self.last_modulation(vector)[:, None].chunk(2, dim=-1)
        patches = self.write_patches(modulate(rms_norm(tokens), shift, scale))  # [B,rows*columns,window]
        return F.fold(patches.float().transpose(1, 2), (height, width), **self._windows)

    def _positions(self, rows: int, columns: int) -> Tensor:
        positions: Tensor = self.positions
        if positions.shape[-2:] != (rows, columns):
            positions = F.interpolate(positions, (rows, columns), mode="bicubic", align_corners=False)
        return positions.flatten(2).transpose(1, 2)


class ConditionEncoder(nn.Module):
    """Time, and what the image is to show, as one vector [B,condition_width] and as tokens in context [B,T,width]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        inner = config.condition_width
        self.time = nn.Sequential(nn.Linear(256, inner), nn.SiLU(), nn.Linear(inner, inner))
        if config.conditioning is Conditioning.TEXT:
            self.words = nn.Embedding(config.vocabulary, config.width)
            self.order = nn.Parameter(0.02 * torch.randn(1, config.text_tokens, config.width))
            self.meaning = nn.Sequential(nn.Linear(config.width, inner), nn.SiLU(), nn.Linear(inner, inner))
            nn.init.normal_(self.words.weight, std=0.5)
        elif config.conditioning is Conditioning.CLASS:
            self.labels = nn.Embedding(config.classes + 1, inner)
            self.label_token = nn.Linear(inner, config.width)
            nn.init.normal_(self.labels.weight, std=0.5)
        if config.told_width:
            self.told = nn.Linear(config.told_width, inner, bias=False)

    def forward(self, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        vector = self.time(time_features(t))
        tokens = vector.new_zeros(t.shape[0], 0, self.config.width)
        if self.config.conditioning is Conditioning.TEXT:
            words = (
                condition.words
                if condition.words is not None
                else t.new_zeros((t.shape[0], self.config.text_tokens), dtype=torch.int64)
            )
            embedded = self.words(words)  # [B,T,width]
            said = (words != 0).unsqueeze(-1)
            mean = (embedded * said).sum(dim=1) / said.sum(dim=1).clamp(min=1).sqrt()  # keeps the variance of a word
            vector, tokens = vector + self.meaning(mean), embedded + self.order
        elif self.config.conditioning is Conditioning.CLASS:
            labels = (
                condition.labels
                if condition.labels is not None
                else torch.full((t.shape[0],), self.config.classes, device=t.device)
            )
            embedded = self.labels(labels)
            vector, tokens = vector + embedded, self.label_token(embedded)[:, None]
        if self.config.told_width and condition.told is not None:
            vector = vector + self.told(condition.told)
        return F.silu(vector), tokens


class Block(nn.Module):
    """Attention, then SwiGLU (Shazeer 2020), each modulated by the condition and added through a gate that starts at 0."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        width, hidden = config.width, round(config.width * 8 / 3 / 32) * 32
        self.modulation = zeroed(nn.Linear(config.condition_width, 6 * width))
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.query_scale = nn.Parameter(torch.ones(width // config.heads))
        self.key_scale = nn.Parameter(torch.ones(width // config.heads))
        self.attended = nn.Linear(width, width, bias=False)
        self.gate_and_value = nn.Linear(width, 2 * hidden, bias=False)
        self.hidden = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: Tensor, vector: Tensor, rotation: Tensor) -> Tensor:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(vector)[:, None].chunk(6, dim=-1)
        tokens = torch.addcmul(tokens, gate, self._attention(modulate(rms_norm(tokens), shift, scale), rotation))
        return torch.addcmul(tokens, gate_mlp, self._swiglu(modulate(rms_norm(tokens), shift_mlp, scale_mlp)))

    def _attention(self, tokens: Tensor, rotation: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = self.query_key_value(tokens).view(batch, count, 3, self.heads, -1).unbind(2)
        query = rotate(rms_norm(query) * self.query_scale.to(query.dtype), rotation)  # [B,N,heads,width/heads]
        key = rotate(rms_norm(key) * self.key_scale.to(key.dtype), rotation)
        mixed = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.attended(mixed.transpose(1, 2).reshape(batch, count, width))

    def _swiglu(self, tokens: Tensor) -> Tensor:
        gate, value = self.gate_and_value(tokens).chunk(2, dim=-1)
        return self.hidden(F.silu(gate) * value)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(D)) V (Vaswani et al. 2017, eq. 1), each [B,heads,N,D].

    Written out on a CPU: at a few hundred tokens its two products and their gradients take a quarter of the fused
    kernel's time there.
    """
    if query.is_cuda or query.shape[-2] > 512:
        return F.scaled_dot_product_attention(query, key, value)
    batch, heads, count, inner = query.shape
    query, key, value = (part.reshape(batch * heads, count, inner) for part in (query * inner**-0.5, key, value))
    return torch.bmm(torch.bmm(query, key.transpose(1, 2)).softmax(dim=-1), value).view(batch, heads, count, inner)


def rms_norm(x: Tensor) -> Tensor:
    """Each vector along the last axis to a root mean square of 1 (Zhang and Sennrich 2019), without a scale of its own."""
    return F.rms_norm(x, (x.shape[-1],))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


def time_features(t: Tensor, count: int = 256) -> Tensor:
    """Sinusoids of 1000 t, as the first diffusion models had them (Ho et al. 2020): t [B] -> [B,count]."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(count // 2, device=t.device) / (count // 2))
    angles = 1000 * t.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def rotary_angles(rows: int, columns: int, words: int, config: TransformerConfig, device: torch.device) -> Tensor:
    """Cosines and sines that turn queries and keys (Su et al. 2021, over two axes): [2,words+rows*columns,1,head/2].

    Half of a head's pairs turn with the row, half with the column, measured from the centre in patches of the trained
    grid; words in context stand at the centre and do not turn.
    """
    pairs = config.width // config.heads // 4
    frequencies = (math.pi / 2) * 16.0 ** (-torch.arange(pairs, device=device) / pairs)
    grid = config.size / config.patch
    row = (torch.arange(rows, device=device) + 0.5 - rows / 2) * (grid / rows)
    column = (torch.arange(columns, device=device) + 0.5 - columns / 2) * (grid / columns)
    by_row = (row[:, None] * frequencies)[:, None].expand(rows, columns, pairs)
    by_column = (column[:, None] * frequencies)[None].expand(rows, columns, pairs)
    angles = torch.cat((by_row, by_column), dim=-1).reshape(rows * columns, 2 * pairs)
    angles = F.pad(angles, (0, 0, words, 0))
    return torch.stack((angles.cos(), angles.sin()))[:, :, None]


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """x [B,N,heads,D] with each pair (i, i + D/2) turned by its angle."""
    cos, sin = rotation.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def zeroed(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear
