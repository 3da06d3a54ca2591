"""A convolutional conditional sigma-VAE (Rybkin et al. 2020, arXiv 2006.13260) with a flow prior on its latents.

The decoder's Gaussian has one variance for all pixels, the optimal one for its errors (their eq. 4), so no weight
between reconstruction and KL divergence has to be chosen. A VAE alone leaves "prior holes": regions of the standard
normal where no image is encoded. A second, small model of the latents closes them (two stages, Dai & Wipf 2019, arXiv
1903.05789). It is a rectified flow on an MLP rather than a normalising flow: it needs no invertible layers, trains with
the program's own loss, and is the standard normal before training. In the shapes, L is the number of latent channels,
G the side of the latent grid, and Z = L G^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import FlowPrediction
from diffstudio.diffusion.samplers import heun
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.networks.condition_vector import ConditionVector
from diffstudio.networks.one_call import OneCallConfig
from diffstudio.networks.transformer import Condition
from diffstudio.networks.transformer_layers import timestep_embedding, zero_init

PRIOR_STEPS = 16  # of Heun's method; they call only the small MLP
_LOG_VARIANCES = (-12.0, 4.0)  # range for the latents
_MOST_DIRECTIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderConfig(OneCallConfig):
    """The architecture of an Autoencoder."""

    latent_channels: int = 8  # of each cell of the coarsest grid
    prior_width: int = 256
    prior_depth: int = 3  # residual blocks of the flow prior
    latent_grid: int = 0  # side of the grid of latents; 0: that of the coarsest grid; 1: one latent for the whole image

    def __post_init__(self) -> None:
        OneCallConfig.__post_init__(self)
        if self.latent_grid not in (0, 1):
            raise ValueError(f"a grid of latents of {self.latent_grid} cells a side is neither 1 nor the coarsest grid")

    @property
    def latent_side(self) -> int:
        """The side G of the grid of latents."""
        return self.latent_grid or self.grid

    @property
    def latent_values(self) -> int:
        """The number of values Z in the latent of an image."""
        return self.latent_channels * self.latent_side**2


class Autoencoder(nn.Module):
    """A VAE: encodes images [B,C,H,W] in [-1,1] as Gaussians over latents [B,L,G,G] and decodes latents."""

    variance: Tensor
    latent_mean: Tensor
    latent_directions: Tensor
    latent_deviations: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.cond_embed = ConditionVector(config.cond_dim, config.conditioning, **config.condition_sizes())
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.prior = FlowPrior(config)
        kept = min(_MOST_DIRECTIONS, config.latent_values)
        self.register_buffer("variance", torch.ones(()))  # of the decoder's Gaussian
        # Mean and principal directions of the training images' latents, set when a checkpoint is written.
        self.register_buffer("latent_mean", torch.zeros(config.latent_values))
        self.register_buffer("latent_directions", torch.zeros(kept, config.latent_values))  # [K,Z], orthonormal
        self.register_buffer("latent_deviations", torch.zeros(kept))  # standard deviation along each

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape [L,G,G] of the noise of one image."""
        return self.config.latent_channels, self.config.latent_side, self.config.latent_side

    def generate(self, noise: Tensor, condition: Condition) -> Tensor:
        """New images [B,C,H,W]: the decoder's mean for latents sampled from the flow prior."""
        c = self.condition(condition, len(noise))
        return self.decode(self.sample_latents(noise, c), c)

    def condition(self, condition: Condition, count: int) -> Tensor:
        """The condition as a vector [B,cond_dim]."""
        vector: Tensor = self.cond_embed(condition, count, self.variance.device)
        return vector

    def encode(self, images: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), each [B,L,G,G]."""
        mean, log_variance = self.encoder(images, c).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)

    def decode(self, z: Tensor, c: Tensor) -> Tensor:
        """The mean [B,C,H,W] of p(x | z)."""
        images: Tensor = self.decoder(z, c)
        return images

    def forward(self, images: Tensor, condition: Condition = Condition()) -> Tensor:  # noqa: B008 (immutable)
        """Reconstructions [B,C,H,W] from the means of the latents."""
        c = self.condition(condition, len(images))
        return self.decode(self.encode(images, c)[0], c)

    @torch.no_grad()
    def sample_latents(self, noise: Tensor, c: Tensor) -> Tensor:
        """Latents [B,L,G,G] of new images, sampled from the flow prior with Heun's method; `noise` has their shape."""

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            predicted: Tensor = self.prior(x_t.flatten(1), t, c)
            return predicted.view_as(x_t)

        denoiser = FlowPrediction(velocity, RectifiedFlow())
        times = torch.linspace(1, 0, PRIOR_STEPS + 1, dtype=torch.float64)
        *_, last = heun(denoiser, noise, times, torch.zeros_like)
        return last.x

    def set_directions(self, latents: Tensor) -> None:
        """Store the principal directions of latents [N,Z]; directions beyond the rank of N latents are zero."""
        mean = latents.mean(dim=0)
        _, values, directions = torch.linalg.svd(latents - mean, full_matrices=False)
        kept = min(len(values), len(self.latent_directions))
        signs = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).sign()  # the same on every device
        self.latent_mean.copy_(mean)
        self.latent_directions.zero_()[:kept] = signs[:kept] * directions[:kept]
        self.latent_deviations.zero_()[:kept] = values[:kept] / max(1, len(latents) - 1) ** 0.5


class Encoder(nn.Module):
    """Images [B,C,H,W], condition [B,cond_dim] -> mean and log-variance, [B,2L,G,G]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.stem, widths = config.stem_size, config.widths
        self.conv_in = nn.Conv2d(config.folded_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(_level(width, config) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.norm_out = _norm(widths[-1])
        cells = config.grid // config.latent_side  # of which each latent is made
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, cells)

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        x = self.conv_in(F.pixel_unshuffle(images, self.stem))
        for level, blocks in enumerate(self.blocks):
            x = self.down[level - 1](x) if level else x
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, c)
        parameters: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return parameters


class Decoder(nn.Module):
    """Latents [B,L,G,G], condition [B,cond_dim] -> images [B,C,H,W]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.stem, widths = config.stem_size, config.widths[::-1]
        self.conv_in: nn.Module = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        if config.latent_side != config.grid:  # one latent for all cells
            self.conv_in = nn.ConvTranspose2d(config.latent_channels, widths[0], config.grid)
        self.blocks = nn.ModuleList(_level(width, config) for width in widths)
        self.up = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False))
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.folded_channels, 3, padding=1)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = self.conv_in(z)
        for level, blocks in enumerate(self.blocks):
            x = self.up[level - 1](F.interpolate(x, scale_factor=2.0, mode="nearest")) if level else x
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, c)
        images: Tensor = F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.stem)
        return images


class ResBlock(nn.Module):
    """A residual block on [B,width,h,w]: two 3 x 3 convolutions with adaptive scale and shift, zero-initialised."""

    def __init__(self, width: int, cond_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(width), _norm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = zero_init(nn.Linear(cond_dim, 2 * width))
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.modulation(c)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        changed: Tensor = x + self.conv2(F.silu(h))
        return changed


class FlowPrior(nn.Module):
    """The flow prior, an MLP: z_t [B,Z], t [B], condition [B,cond_dim] -> velocity eps - z_0 [B,Z] of a rectified flow.

    Zero-initialised, so that an untrained prior samples the standard normal.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        width = config.prior_width
        self.time_embed = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.cond_proj = nn.Linear(config.cond_dim, width)
        self.linear_in = nn.Linear(config.latent_values, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "modulation": zero_init(nn.Linear(width, 2 * width)),
                    "linear1": nn.Linear(width, 2 * width),
                    "linear2": nn.Linear(2 * width, width),
                }
            )
            for _ in range(config.prior_depth)
        )
        self.linear_out = zero_init(nn.Linear(width, config.latent_values))

    def forward(self, z_t: Tensor, t: Tensor, c: Tensor) -> Tensor:
        m = F.silu(self.time_embed(timestep_embedding(t, 128)) + self.cond_proj(c))
        x = self.linear_in(z_t)
        for block in self.blocks:
            shift, scale = block["modulation"](m).chunk(2, dim=-1)  # type: ignore[index]
            h = torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)
            x = x + block["linear2"](F.silu(block["linear1"](h)))  # type: ignore[index]
        velocity: Tensor = self.linear_out(F.layer_norm(x, x.shape[-1:]))
        return velocity


def _level(width: int, config: AutoencoderConfig) -> nn.ModuleList:
    return nn.ModuleList(ResBlock(width, config.cond_dim) for _ in range(config.depth))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(gcd(8, width), width)
