"""What the rectified-flow families have in common: one schedule, ladders shifted towards the noise, transformers on
patches.

A family says how its text encoders read a prompt (`_embeds`) and how its network is called (`_network`); guidance,
ladders and sizes are here, by the rules of diffusers' own pipelines.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser, FlowPrediction, Network
from diffstudio.diffusion.guidance import ClassifierFreeGuidance
from diffstudio.diffusion.schedule import RectifiedFlow, Schedule
from diffstudio.diffusion.spacing import SPACINGS, sampling_times, trailing
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.families.latent import LatentModel
from diffstudio.models.model import EncodedPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATCH = 2  # latent px along the side of what the transformers of all these families take as one token


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a family's ladders lean towards the noise, as its `scheduler_config.json` says it: Esser et al. 2024, eq.
    23.

    Either the same for all pictures or, with `by_size`, growing with the number of tokens in the picture: mu goes in a
    line from `mu[0]` at `tokens[0]` to `mu[1]` at `tokens[1]`, and the shift is exp(mu). A ladder is then stretched so
    that its last time before 0 is `terminal`, unless that is 0.
    """

    constant: float = 1.0
    by_size: bool = False
    tokens: tuple[int, int] = (256, 4096)
    mu: tuple[float, float] = (0.5, 1.15)
    linear: bool = False  # the shift is mu itself
    terminal: float = 0.0

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Shift:
        """From diffusers' FlowMatchEulerDiscreteScheduler, whose defaults these are.

        CheckpointDamaged when it makes no sense.
        """
        try:
            shift = cls(
                constant=float(config.get("shift", 1.0)),
                by_size=bool(config.get("use_dynamic_shifting", False)),
                tokens=(int(config.get("base_image_seq_len", 256)), int(config.get("max_image_seq_len", 4096))),
                mu=(float(config.get("base_shift", 0.5)), float(config.get("max_shift", 1.15))),
                linear=config.get("time_shift_type", "exponential") == "linear",
                terminal=float(config.get("shift_terminal") or 0.0),
            )
            if not (
                0 < shift.constant < 1000
                and shift.tokens[0] != shift.tokens[1]
                and max(map(abs, shift.mu)) < 10
                and 0 <= shift.terminal < 1
            ):
                raise ValueError(f"{shift}")
        except (TypeError, ValueError) as error:
            raise CheckpointDamaged(
                "The checkpoint does not say how it is to be sampled",
                f"its scheduler_config.json makes no sense ({str(error)[:150]})",
                "Download it again",
            ) from error
        return shift

    def at(self, tokens: int) -> float:
        """The factor for a picture of so many tokens."""
        if not self.by_size:
            return self.constant
        slope = (self.mu[1] - self.mu[0]) / (self.tokens[1] - self.tokens[0])
        mu = self.mu[0] + slope * (tokens - self.tokens[0])
        return max(mu, 0.01) if self.linear else math.exp(mu)

    def stretched(self, times: Tensor) -> Tensor:
        """Falling times [N] without the final 0, so that the last of them is `terminal`. A single one stays as it is."""
        if self.terminal == 0 or len(times) < 2:
            return times
        return 1 - (1 - times) * (1 - self.terminal) / (1 - times[-1])


@dataclass(frozen=True, slots=True)
class PromptEmbeds:
    """Encoded prompts: for each image its embeddings [T,D] and, if the family has one, a pooled embedding [P]."""

    prompt_embeds: tuple[Tensor, ...]
    pooled: tuple[Tensor, ...] = ()

    def __add__(self, other: PromptEmbeds) -> PromptEmbeds:
        return PromptEmbeds(self.prompt_embeds + other.prompt_embeds, self.pooled + other.pooled)

    def rows(self, indices: Sequence[int]) -> PromptEmbeds:
        return PromptEmbeds(
            tuple(self.prompt_embeds[index] for index in indices),
            tuple(self.pooled[index] for index in indices) if self.pooled else (),
        )


@dataclass(frozen=True, slots=True)
class FlowPrompt(EncodedPrompt):
    positive: PromptEmbeds
    negative: tuple[str, ...]  # encoded only if guidance needs it


class FlowModel(LatentModel, ABC):
    """A latent model of the rectified-flow kind. The network's time is t in [0,1], its answer the velocity eps - x_0."""

    unguided = 1.0  # up to this guidance the negative prompt has no effect
    longest_prompt = 512  # tokens; longer prompts are truncated

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        network: nn.Module,
        vae: nn.Module,
        family: str,
        shift: Shift,
        *,
        text_encoders: Mapping[str, nn.Module],
        tokenizers: Mapping[str, PreTrainedTokenizerBase],
        device: torch.device,
        dtype: torch.dtype,
        side: int = 0,
        sha256: str = "",
    ) -> None:
        super().__init__(
            checkpoint,
            RectifiedFlow(),
            network,
            vae,
            family,
            text_encoders=text_encoders,
            tokenizers=tokenizers,
            side=side or FAMILIES[family].side,
            device=device,
            dtype=dtype,
            sha256=sha256,
        )
        self.shift = shift
        self.schedule = RectifiedFlow(shift.at(self._tokens(*self.default_size)))

    # ---- the ladder --------------------------------------------------------------------------------------------------

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        """The ladder of a picture of this size: diffusers' own with `uniform`; all others are shifted and stretched
        alike.
        """
        flow = RectifiedFlow(self.shift.at(self._tokens(width, height)))
        lay = SPACINGS.get(spacing)
        if lay is None:
            return sampling_times(flow, steps, spacing, strength=strength)  # which refuses it

        def shifted(_schedule: Schedule, steps: int) -> Tensor:
            return self.shift.stretched(self._uniform(flow, steps) if spacing == "uniform" else lay(flow, steps))

        return sampling_times(flow, steps, shifted, strength=strength)

    def _uniform(self, flow: RectifiedFlow, steps: int) -> Tensor:
        return trailing(flow, steps)

    def _tokens(self, width: int, height: int) -> int:
        return (width // self.vae_scale_factor // PATCH) * (height // self.vae_scale_factor // PATCH)

    # ---- prompts and guidance ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_prompt(self, prompt: str | Sequence[str], negative: str = "", count: int = 1) -> FlowPrompt:
        """Prompts are read literally: these families support no prompt weighting."""
        prompts = [prompt] * count if isinstance(prompt, str) else list(prompt)
        return FlowPrompt(self._each(prompts), (negative,) * len(prompts))

    def _each(self, prompts: Sequence[str]) -> PromptEmbeds:
        """Every distinct prompt is encoded once."""
        distinct = list(dict.fromkeys(prompts))
        return self._embeds(distinct).rows([distinct.index(prompt) for prompt in prompts])

    def _read(self, encoder: str, ids: Tensor, **options: Any) -> Any:
        """A text encoder's output, on whatever device it is: it may be offloaded."""
        module: Any = self.text_encoders[encoder]
        return module(
            ids.to(module.device),
            **{
                name: value.to(module.device) if isinstance(value, Tensor) else value for name, value in options.items()
            },
        )

    @abstractmethod
    def _embeds(self, prompts: Sequence[str]) -> PromptEmbeds:
        """The prompts, by this family's text encoders."""

    @torch.no_grad()
    def denoiser(self, prompt: EncodedPrompt, guidance: float, images: ImageInputs = NO_IMAGES) -> Denoiser:
        assert isinstance(prompt, FlowPrompt)
        if guidance <= self.unguided:
            return FlowPrediction(self._network(prompt.positive, guidance), self.schedule)
        return FlowPrediction(self._guided(prompt.positive, self._each(prompt.negative), guidance), self.schedule)

    def _guided(self, positive: PromptEmbeds, negative: PromptEmbeds, guidance: float) -> Network:
        """Plain guidance, both halves in one call of twice the batch."""
        together = self._network(positive + negative, guidance)

        def both(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            conditional, unconditional = together(torch.cat((x_t, x_t)), torch.cat((t, t))).chunk(2)
            return conditional, unconditional

        return ClassifierFreeGuidance(self._network(positive, guidance), None, guidance, paired=both)

    def _stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        """One row for each image, as the network takes it."""
        return torch.stack(list(tensors)).to(self.device, self.dtype)

    @abstractmethod
    def _network(self, embeds: PromptEmbeds, guidance: float) -> Network:
        """x_t [B,C,h,w], t [B] in [0,1] -> velocity [B,C,h,w], with one row of `embeds` per image."""


# ---- what the families build with ------------------------------------------------------------------------------------


def pack(latents: Tensor) -> Tensor:
    """Patches of 2 × 2 in a row: [B,C,h,w] -> [B,(h/2)(w/2),4 C], as FLUX and Qwen-Image take them."""
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * PATCH * PATCH)


def unpack(packed: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack` for latents of this height and width: [B,N,4 C] -> [B,C,h,w]."""
    patches = packed.reshape(len(packed), height // PATCH, width // PATCH, -1, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(packed), -1, height, width)


def token_ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """[B,length] int64 on the CPU: cut or padded, with the tokenizer's own beginning and end."""
    ids: Tensor = tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def read_shift(parts: Components, otherwise: Shift) -> Shift:
    """What the checkpoint's scheduler says, or what its family is known by."""
    return Shift.read(parts.config("scheduler")) if parts.has("scheduler") else otherwise


def vae_dtype(dtype: torch.dtype) -> torch.dtype:
    """The autoencoders of these families overflow in float16, whose largest number is 65,504."""
    return torch.float32 if dtype is torch.float16 else dtype


def part(parts: Components, name: str, kind: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A component of diffusers' or transformers' class `kind`, where it is to work.

    CheckpointMissing, CheckpointDamaged.
    """
    module: Any = parts.module(name, kind, dtype)
    if module.dtype is torch.float32 and dtype is not torch.float32:
        module = module.to(dtype)  # diffusers' loader forgets it where weights lie beside a table of positions
    return module.to(device)
