"""FlowModel: the base class of the rectified-flow families, with timestep shift, guidance and sizes as in diffusers.

A family defines how its text encoders encode a prompt (`_embeds`) and how its network is called (`_network`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
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
from diffstudio.models.conditioning.composition import Composition
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.families.latent import LatentModel
from diffstudio.models.files.file_access import DOWNLOAD_AGAIN
from diffstudio.models.model import AnnealRows, EncodedPrompt, PromptEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATCH = 2  # latent px along a side of a token, in all of these transformers


@dataclass(frozen=True, slots=True)
class Shift:
    """Timestep shift towards the noise, as configured in `scheduler_config.json`: Esser et al. 2024, arXiv 2403.03206,
    eq. 23.

    Either constant or, with `by_size` (diffusers' dynamic shifting), a function of the number of image tokens: mu is
    linear from `mu[0]` at `tokens[0]` to `mu[1]` at `tokens[1]`, and the shift is exp(mu). The timesteps are then
    stretched so that the last one before 0 is `terminal`, unless that is 0.
    """

    constant: float = 1.0
    by_size: bool = False
    tokens: tuple[int, int] = (256, 4096)
    mu: tuple[float, float] = (0.5, 1.15)
    linear: bool = False  # the shift is mu itself, not exp(mu)
    terminal: float = 0.0

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Shift:
        """Read the config of diffusers' FlowMatchEulerDiscreteScheduler, with its defaults.

        CheckpointDamaged for invalid values.
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
                and all(abs(mu) < 10 for mu in shift.mu)
                and 0 <= shift.terminal < 1
            ):
                raise ValueError(f"{shift}")
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointDamaged(
                "The checkpoint has no valid scheduler configuration",
                f"its scheduler_config.json is invalid ({str(error)[:150]})",
                DOWNLOAD_AGAIN,
            ) from error
        return shift

    def at(self, tokens: int) -> float:
        """The shift for an image with this number of tokens."""
        if not self.by_size:
            return self.constant
        slope = (self.mu[1] - self.mu[0]) / (self.tokens[1] - self.tokens[0])
        mu = self.mu[0] + slope * (tokens - self.tokens[0])
        return max(mu, 0.01) if self.linear else math.exp(mu)

    def stretched(self, times: Tensor) -> Tensor:
        """Stretch decreasing timesteps [N], without the final 0, so that the last is `terminal`; a single one is kept."""
        if self.terminal == 0 or len(times) < 2:
            return times
        return 1 - (1 - times) * (1 - self.terminal) / (1 - times[-1])


@dataclass(frozen=True, slots=True)
class PromptEmbeds:
    """Encoded prompts: for each image the embeddings [T,D] and, in some families, a pooled embedding [P]."""

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
    positive: Composition[PromptEmbeds]
    negative: Callable[[], PromptEmbeds]  # encodes the negative prompts, which is only done if guidance needs them


class FlowModel(LatentModel, ABC):
    """A latent model trained with rectified flow: its network predicts the velocity eps - x_0 at t in [0,1]."""

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
        )
        self.shift = shift
        self.schedule = RectifiedFlow(shift.at(self._tokens(*self.default_size)))

    # ---- timesteps ---------------------------------------------------------------------------------------------------

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        """The timesteps for an image of this size, shifted and stretched; with `uniform` those of diffusers."""
        flow = RectifiedFlow(self.shift.at(self._tokens(width, height)))
        space = SPACINGS.get(spacing)
        if space is None:
            return sampling_times(flow, steps, spacing, strength=strength)  # raises BadRequest

        def shifted(_schedule: Schedule, steps: int) -> Tensor:
            return self.shift.stretched(self._uniform(flow, steps) if spacing == "uniform" else space(flow, steps))

        return sampling_times(flow, steps, shifted, strength=strength)

    def _uniform(self, flow: RectifiedFlow, steps: int) -> Tensor:
        return trailing(flow, steps)

    def _tokens(self, width: int, height: int) -> int:
        return (width // self.vae_scale_factor // PATCH) * (height // self.vae_scale_factor // PATCH)

    # ---- prompts and guidance ----------------------------------------------------------------------------------------

    @property
    def prompt_features(self) -> PromptFeature:
        """These families have no prompt weighting."""
        return PromptFeature.TEXT | PromptFeature.SCHEDULE | PromptFeature.AND | PromptFeature.NEGATIVE

    def prompt_encoder(self, clip_skip: int | None) -> PromptEncoder:
        known: dict[str, PromptEmbeds] = {}  # of one row each
        embedder = self._embedder(clip_skip)

        @torch.no_grad()
        def rows(texts: Sequence[str]) -> PromptEmbeds:
            new = [text for text in dict.fromkeys(texts) if text not in known]
            if new:
                embeds = embedder(new)
                known.update({text: embeds.rows([index]) for index, text in enumerate(new)})
            return reduce(PromptEmbeds.__add__, [known[text] for text in texts])

        def encode(texts: StepTexts) -> FlowPrompt:
            count, together = len(texts.negative), rows([text for subprompt in texts.positive for text in subprompt])
            subprompts = (
                together.rows(range(first, first + count)) for first in range(0, len(texts.positive) * count, count)
            )
            return FlowPrompt(Composition(tuple(subprompts), texts.weights), lambda: rows(texts.negative))

        return encode

    def _embedder(self, clip_skip: int | None) -> Callable[[Sequence[str]], PromptEmbeds]:
        """`_embeds` with this clip skip, which most of these families ignore. BadRequest for too many layers."""
        return self._embeds

    def _read(self, encoder: str, ids: Tensor, **options: Any) -> Any:
        """A text encoder's output, computed on the encoder's device: it may be offloaded."""
        module: Any = self.text_encoders[encoder]
        return module(
            ids.to(module.device),
            **{
                name: value.to(module.device) if isinstance(value, Tensor) else value for name, value in options.items()
            },
        )

    @abstractmethod
    def _embeds(self, prompts: Sequence[str]) -> PromptEmbeds:
        """Encode prompts with this family's text encoders."""

    @torch.no_grad()
    def masked(self, prompt: EncodedPrompt, tokens: Sequence[Sequence[int]]) -> EncodedPrompt:
        assert isinstance(prompt, FlowPrompt)
        nothing = self._embeds([""]).prompt_embeds[0]  # [T,D]; of fewer tokens in some families

        def without(places: Sequence[int], embeds: PromptEmbeds) -> PromptEmbeds:
            rows = [row.clone() for row in embeds.prompt_embeds]
            for row in rows:
                for place in places:
                    row[place] = nothing[place] if place < len(nothing) else 0.0
            return replace(embeds, prompt_embeds=tuple(rows))

        return replace(prompt, positive=prompt.positive.each_mapped([partial(without, places) for places in tokens]))

    def annealed(self, prompt: EncodedPrompt, anneal: AnnealRows) -> EncodedPrompt:
        assert isinstance(prompt, FlowPrompt)

        def noisy(embeds: PromptEmbeds) -> PromptEmbeds:
            return PromptEmbeds(
                tuple(anneal(embeds.prompt_embeds)), tuple(anneal(embeds.pooled)) if embeds.pooled else ()
            )

        return replace(prompt, positive=prompt.positive.mapped(noisy))

    @torch.no_grad()
    def denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        assert isinstance(prompt, FlowPrompt)
        guided = guidance > self.unguided_scale
        negative = prompt.negative() if guided or prompt.positive.needs_unconditional else None
        if negative is None or not guided:
            network = prompt.positive.conditional(negative, self._network_of(guidance))
            return FlowPrediction(network, self.schedule)
        return FlowPrediction(self._guided(prompt.positive, negative, guidance, interval), self.schedule)

    def _guided(
        self,
        positive: Composition[PromptEmbeds],
        negative: PromptEmbeds,
        guidance: float,
        interval: tuple[float, float] | None,
    ) -> Network:
        """Classifier-free guidance, with both predictions in one call with twice the batch."""
        network_of = self._network_of(guidance)
        conditional, paired = positive.conditional(negative, network_of), positive.paired(negative, network_of)
        return ClassifierFreeGuidance(conditional, None, guidance, interval, paired=paired)

    def _network_of(self, guidance: float) -> Callable[[Sequence[PromptEmbeds]], Network]:
        return lambda texts: self._network(reduce(PromptEmbeds.__add__, texts), guidance)

    def _stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack one row for each image, on the network's device and in its dtype."""
        return torch.stack(list(tensors)).to(self.device, self.dtype)

    @abstractmethod
    def _network(self, embeds: PromptEmbeds, guidance: float) -> Network:
        """x_t [B,C,h,w], t [B] in [0,1] -> velocity [B,C,h,w], with one row of `embeds` per image."""


# ---- shared by the families ------------------------------------------------------------------------------------------


def pack(latents: Tensor) -> Tensor:
    """Flatten latents to tokens of 2 × 2 px: [B,C,h,w] -> [B,(h/2)(w/2),4 C], as in FLUX and Qwen-Image."""
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * PATCH * PATCH)


def unpack(packed: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack` for latents of this height and width: [B,N,4 C] -> [B,C,h,w]."""
    patches = packed.reshape(len(packed), height // PATCH, width // PATCH, -1, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(packed), -1, height, width)


def token_ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """Token ids [B,length] int64 on the CPU: truncated or padded, with the tokenizer's start and end tokens."""
    ids: Tensor = tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def offsets(tokenizer: Any, text: str, **options: Any) -> list[tuple[int, int]]:
    """The characters of each token that `token_ids` or the tokenizer itself gives for a text, of special ones none."""
    found: list[tuple[int, int]] = tokenizer(text, return_offsets_mapping=True, **options).offset_mapping
    return found


def read_shift(components: Components, default: Shift) -> Shift:
    """The shift in the checkpoint's scheduler config, or the family's default."""
    return Shift.read(components.config("scheduler")) if components.has("scheduler") else default


def vae_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 in place of float16, in which the VAEs of these families overflow (the largest value is 65,504)."""
    return torch.float32 if dtype is torch.float16 else dtype


def load_component(components: Components, name: str, kind: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Load a component of the diffusers or transformers class `kind` onto the device.

    CheckpointMissing, CheckpointDamaged.
    """
    module: Any = components.module(name, kind, dtype)
    if module.dtype is torch.float32 and dtype is not torch.float32:
        module = module.to(dtype)  # diffusers' loader ignores `dtype` for modules with a position buffer
    return module.to(device)
