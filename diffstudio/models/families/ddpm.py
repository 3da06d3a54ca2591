"""The unconditional pipelines of diffusers, DDPMPipeline and DDIMPipeline: a UNet2DModel in pixels and its scheduler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Clip, Clipped, Denoiser, clipped_to, dynamically_thresholded
from diffstudio.diffusion.noise import Noise
from diffstudio.diffusion.samplers import SAMPLERS, Sampler, ddim
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.detection.families_table import DDPM, FAMILIES, Family
from diffstudio.models.families.scheduler_config import DDPM_BETAS, Scheduling, scheduling_of, unsupported_schedule
from diffstudio.models.inspection.layers import NetworkBlock
from diffstudio.models.inspection.unet_blocks import unet_blocks
from diffstudio.models.model import EncodedPrompt, Model, PromptEncoder, multiples_of, unsupported_size
from diffstudio.models.output_format import OutputFormat

_LARGEST_TIMES_TRAINED = 2  # the largest side of an image, as a multiple of the training size
_CLIPPING_BY_DEFAULT = ("DDPMScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler")


class DDPMModel(Model):
    """A UNet2DModel as a Model: the state is the image [B,C,H,W] itself. It takes no prompt.

    `clip` is what the scheduler does to each estimate of x_0 while sampling; the denoiser alone does not.
    """

    unguided_scale = math.inf
    starts_with_unit_noise = True

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        network: nn.Module,
        scheduling: Scheduling,
        clip: Clip | None,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.checkpoint, self.network = checkpoint, network
        self.scheduling, self.schedule, self.clip = scheduling, scheduling.schedule, clip
        self.device, self.dtype = device, dtype
        self.guidance = self.family.guidance
        config: Any = network.config
        self.output = OutputFormat(config.in_channels)
        self._multiple: int = 2 ** (len(config.block_out_channels) - 1)
        height, width = (
            config.sample_size if isinstance(config.sample_size, (list, tuple)) else [config.sample_size] * 2
        )
        self._size = width, height
        self._whole_timesteps = config.time_embedding_type == "learned"  # a table has whole timesteps only

    @property
    def family(self) -> Family:
        return FAMILIES[DDPM]

    @property
    def default_size(self) -> tuple[int, int]:
        return self._size

    @property
    def multiple(self) -> int:
        return self._multiple

    @property
    def samplers(self) -> tuple[str, ...]:
        return tuple(SAMPLERS)

    def sampler(self, name: str) -> Sampler:
        """With the estimates clipped; DDIM keeps the noise that the network predicts, like diffusers' DDIMScheduler."""
        if self.clip is None:
            return SAMPLERS[name]
        return partial(ddim, clip=self.clip) if name == "ddim" else _with_clipped_estimates(SAMPLERS[name], self.clip)

    @property
    def blocks(self) -> Sequence[NetworkBlock]:
        return unet_blocks(self.network)

    def check_size(self, width: int, height: int) -> None:
        multiple, largest = self._multiple, _LARGEST_TIMES_TRAINED * max(self._size)
        if (
            width % multiple == 0 == height % multiple
            and multiple <= min(width, height)
            and max(width, height) <= largest
        ):
            return
        raise unsupported_size(width, height, multiples_of(multiple, largest), f"{self._size[0]} × {self._size[1]}")

    def state_shape(self, width: int, height: int) -> tuple[int, int, int]:
        return self.output.channels, height, width

    @property
    def prompt_features(self) -> PromptFeature:
        return PromptFeature.NONE

    def prompt_encoder(self, clip_skip: int | None) -> PromptEncoder:
        return lambda texts: EncodedPrompt()

    def encode_image(self, image: Tensor) -> Tensor:
        return self.output.from_image(image.float())

    def decode(self, state: Tensor) -> Tensor:
        return self.output.to_rgb(state)

    def latents_to_rgb(self, state: Tensor) -> Tensor:
        return self.decode(state)

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        return self.scheduling.times(steps, spacing, strength)

    def denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        return self.scheduling.wrap(self._predicted)

    @torch.no_grad()
    def _predicted(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        """The network's prediction [B,C,H,W] as float32, without the variances that some networks predict too."""
        if self._whole_timesteps:
            timestep = timestep.round().long().clamp(0, int(self.schedule.t_max) - 1)
        predicted: Tensor = self.network(x_t.to(self.dtype), timestep, return_dict=False)[0]
        return predicted[:, : self.output.channels].float()


def _with_clipped_estimates(sampler: Sampler, clip: Clip) -> Sampler:
    def clipping(denoiser: Denoiser, x: Tensor, times: Tensor, noise: Noise) -> Any:
        return sampler(Clipped(denoiser, clip), x, times, noise)

    return clipping


def load(checkpoint: Checkpoint, components: Components, device: torch.device, dtype: torch.dtype) -> DDPMModel:
    """Load such a folder. CheckpointDamaged; CheckpointUnknown for a noise schedule that is not supported."""
    from diffusers import UNet2DModel

    scheduling = scheduling_of(components, checkpoint.name, checkpoint.prediction, betas=DDPM_BETAS)
    clip = _clip(components.config("scheduler"), checkpoint.name)
    network: Any = components.module("unet", UNet2DModel, dtype)
    table = network.time_proj
    rows = table.num_embeddings if isinstance(table, nn.Embedding) else scheduling.schedule.steps
    if rows < scheduling.schedule.steps:
        raise CheckpointDamaged(
            f"{checkpoint.name} cannot be loaded",
            f"its scheduler has {scheduling.schedule.steps:,} timesteps, and its U-Net has embeddings for {rows:,}",
            "Download it again",
        )
    return DDPMModel(checkpoint, network.to(device), scheduling, clip, device=device, dtype=dtype)


def _clip(config: Mapping[str, Any], name: str) -> Clip | None:
    """What the scheduler of a folder does to estimates; None if nothing. CheckpointUnknown for invalid values."""
    by_default = config.get("_class_name") in _CLIPPING_BY_DEFAULT
    if config.get("thresholding", False):
        ratio, largest = (
            _number(config, "dynamic_thresholding_ratio", 0.995, name),
            _number(config, "sample_max_value", 1.0, name),
        )
        if ratio <= 1 <= largest:
            return dynamically_thresholded(ratio, largest)
        raise unsupported_schedule(name, f"its thresholding has the ratio {ratio} and the maximum {largest}")
    if config.get("clip_sample", by_default):
        return clipped_to(_number(config, "clip_sample_range", 1.0, name))
    return None


def _number(config: Mapping[str, Any], key: str, default: float, name: str) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise unsupported_schedule(name, f"its {key} is {str(value)[:40]}")
    return float(value)
