"""Stable Diffusion 1 and 2: Rombach et al. 2022. A U-Net on latents, told what a CLIP text encoder made of the prompt.

Both read a picture's surroundings where they were trained to (inpainting: nine channels), and the consistency models among
them the guidance itself (Luo et al. 2023). What XL does otherwise is in `stable_diffusion_xl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser, Network
from diffstudio.diffusion.guidance import ClassifierFreeGuidance, PairedNetwork
from diffstudio.errors import CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.conditioning import prompt_weighting
from diffstudio.models.conditioning.controlnet import ControlNetResiduals, ControlNets, controlnet_residuals
from diffstudio.models.conditioning.textual_inversion import TextualInversions
from diffstudio.models.families.latent import LatentModel
from diffstudio.models.families.scheduler_config import Scheduling, scheduling_of
from diffstudio.models.model import NO_IMAGES, ImageInputs

_RESCALE = 0.7  # of guidance, where sampling begins without a trace of the picture: Lin et al. 2023, section 3.4
_FEW_STEPS = (
    "turbo",
    "lightning",
    "hyper",
)  # in the names of checkpoints that were distilled with their guidance in them
_DISTILLED_GUIDANCE = 8.0  # what consistency models were distilled with, about: Luo et al. 2023


@dataclass(frozen=True, slots=True)
class Told:
    """What the network is told of B pictures."""

    words: Tensor  # [B,L,D]
    pooled: Tensor | None = None  # [B,P]: the whole prompt in one vector, for XL
    score: Tensor | None = None  # [B,1]: how beautiful it is to be, for XL's refiner

    def and_then(self, other: Told) -> Told:
        """Both, one after the other along the batch."""
        return Told(
            torch.cat((self.words, other.words)), _cat(self.pooled, other.pooled), _cat(self.score, other.score)
        )


def _cat(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else torch.cat((one, other))


@dataclass(frozen=True, slots=True)
class StableDiffusionPrompted:
    wanted: Told
    unwanted: Told  # the negative prompt, or an empty one


class StableDiffusion(LatentModel):
    """Stable Diffusion 1 or 2 as a Model. `network` is diffusers' UNet2DConditionModel.

    `rescale` is how far guidance keeps each prediction's own spread, from 0 to 1.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        scheduling: Scheduling,
        network: nn.Module,
        vae: nn.Module,
        family: str,
        *,
        text_encoders: Mapping[str, nn.Module],
        tokenizers: Mapping[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        sha256: str = "",
    ) -> None:
        config: Any = network.config
        super().__init__(
            checkpoint,
            scheduling.schedule,
            network,
            vae,
            family,
            text_encoders=text_encoders,
            tokenizers=tokenizers,
            side=0,
            device=device,
            dtype=dtype,
            sha256=sha256,
        )
        self.scheduling = scheduling
        self._side = _side(config.sample_size) * self.shrinks or self.family.side
        self.paints = config.in_channels == 2 * self.channels + 1  # was shown a mask and what is around it
        self._guidance_width = int(config.time_cond_proj_dim or 0)  # of its embedding, where it is an input
        self.rescale = _RESCALE if scheduling.schedule.zero_terminal_snr else 0.0
        self.embeddings = TextualInversions(text_encoders)
        self.controlnets = ControlNets()
        if self._guidance_width:
            self.guidance = _DISTILLED_GUIDANCE
        elif checkpoint is not None and any(word in checkpoint.name.casefold() for word in _FEW_STEPS):
            self.guidance = 1.0

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        return self.scheduling.times(steps, spacing, strength)

    # ---- what it is told ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_prompt(self, prompt: str | Sequence[str], negative: str = "", count: int = 1) -> StableDiffusionPrompted:
        wanted = [prompt] * count if isinstance(prompt, str) else list(prompt)
        words = self._encoded("", [*wanted, *[negative] * len(wanted)], -1).states
        return StableDiffusionPrompted(*(Told(half) for half in words.chunk(2)))

    def _encoded(self, number: str, texts: Sequence[str], layer: int) -> prompt_weighting.EncodedPrompts:
        """By the encoder of that number, "" or "_2": its last states, or those that many layers before the end (-2: one)."""
        encoder = self.text_encoders[f"text_encoder{number}"]

        def encode(ids: Tensor) -> tuple[Tensor, Tensor | None]:
            out = encoder(ids.to(self.device), output_hidden_states=layer != -1)
            return out.last_hidden_state if layer == -1 else out.hidden_states[layer], getattr(out, "text_embeds", None)

        with self.embeddings.injected_into(encoder):
            return prompt_weighting.encode_weighted(
                texts, self.embeddings.tokenizer(self.tokenizers[f"tokenizer{number}"]), encode
            )

    # ---- what it says ------------------------------------------------------------------------------------------------

    def denoiser(self, prompted: StableDiffusionPrompted, guidance: float, hints: ImageInputs = NO_IMAGES) -> Denoiser:
        """Guidance of 1 and below asks the network once, with the prompt: networks that need none were distilled so."""
        surroundings, steer = (
            self._surroundings(hints),
            controlnet_residuals(hints.controls, self._indices(hints.times), self.dtype),
        )
        wanted = self._told(prompted.wanted, guidance, surroundings, steer)
        if guidance <= 1 or self._guidance_width:
            return self.scheduling.wrap(wanted)
        together = self._told(prompted.wanted.and_then(prompted.unwanted), guidance, surroundings, steer)
        return self.scheduling.wrap(
            ClassifierFreeGuidance(
                conditional=wanted, unconditional=None, scale=guidance, rescale=self.rescale, paired=_paired(together)
            )
        )

    def _told(
        self,
        told: Told,
        guidance: float,
        surroundings: Callable[[Tensor], Tensor] | None,
        steer: ControlNetResiduals | None = None,
    ) -> Network:
        """The network's own prediction [B,C,h,w] for x_t [B,C,h,w] and t [B], B as told."""
        network, dtype = self.network, self.dtype
        about_guidance = self._guidance_embedding(guidance) if self._guidance_width else None

        @torch.no_grad()
        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            x = x_t if surroundings is None else torch.cat((x_t, surroundings(x_t)), dim=1)
            conditions = self._conditions(told, x_t)
            steered = {} if steer is None else steer(x_t, t, told.words, conditions)
            prediction: Tensor = network(
                x.to(dtype),
                t,
                encoder_hidden_states=told.words,
                timestep_cond=about_guidance,
                added_cond_kwargs=conditions,
                return_dict=False,
                **steered,
            )[0]
            return prediction

        return predict

    def _indices(self, times: Tensor | None) -> Tensor | None:
        """The ladder as the network is told it: training steps are counted from 0."""
        return None if times is None else times - 1

    def _conditions(self, told: Told, x_t: Tensor) -> dict[str, Tensor] | None:
        """What the U-Net takes besides words and time."""
        return None

    def _guidance_embedding(self, guidance: float) -> Tensor:
        """[1,D]: sines and cosines of 1000 w, where w = guidance - 1 is what the paper calls its scale: Luo et al. 2023."""
        half = self._guidance_width // 2
        frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.tensor(10_000.0).log() / (half - 1)))
        angles = 1000 * (guidance - 1) * frequencies
        embedding = torch.cat((angles.sin(), angles.cos()))
        return F.pad(embedding, (0, self._guidance_width % 2))[None].to(self.device, self.dtype)

    # ---- what it is shown --------------------------------------------------------------------------------------------

    def _surroundings(self, hints: ImageInputs) -> Callable[[Tensor], Tensor] | None:
        """For a network that paints: the mask and the picture without what is under it, as latents [B,1 + C,h,w].

        Without a picture all is to be painted. The mask is read as it was in training: nearest pixels, all or nothing.
        """
        if not self.paints:
            return None
        known: dict[tuple[int, ...], Tensor] = {}

        def surroundings(x_t: Tensor) -> Tensor:
            shape = (1, 3, *(self.shrinks * side for side in x_t.shape[-2:]))
            if shape not in known:
                image = torch.zeros(shape) if hints.image is None else hints.image
                mask = (
                    torch.ones_like(image[:, :1])
                    if hints.mask is None or hints.image is None
                    else (hints.mask >= 0.5).float()
                )
                around = self.encode_image(image * (1 - mask))
                small = F.interpolate(mask, x_t.shape[-2:]).to(around)
                known[shape] = torch.cat((small.expand(len(around), -1, -1, -1), around), dim=1)  # [1 or B,1 + C,h,w]
            shown = known[shape]
            return shown.repeat(len(x_t) // len(shown), 1, 1, 1).to(x_t)  # twice the batch when guided

        return surroundings


def _paired(together: Network) -> PairedNetwork:
    """Both predictions of guidance in one call with twice the batch."""

    def both(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        conditional, unconditional = together(torch.cat((x_t, x_t)), torch.cat((t, t))).chunk(2)
        return conditional, unconditional

    return both


def _side(sample_size: Any) -> int:
    return int(max(sample_size)) if isinstance(sample_size, Sequence) else int(sample_size or 0)


_S = TypeVar("_S", bound=StableDiffusion)


def load(
    checkpoint: Checkpoint, parts: Components, device: torch.device, dtype: torch.dtype, sha256: str = ""
) -> StableDiffusion:
    """The model of a checkpoint of family `sd1` or `sd2`. CheckpointMissing, CheckpointDamaged, CheckpointUnknown."""
    return load_as(StableDiffusion, checkpoint, parts, device, dtype, sha256, encoders=("",))


def load_as(
    kind: type[_S],
    checkpoint: Checkpoint,
    parts: Components,
    device: torch.device,
    dtype: torch.dtype,
    sha256: str,
    *,
    encoders: Sequence[str],
) -> _S:
    """All parts where they are to run; `encoders` are the numbers of the text encoders, "" and "_2"."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    channels = parts.config("unet").get("in_channels", 4)
    if channels not in (4, 9):
        raise CheckpointUnknown(
            f"{checkpoint.name} is of a kind that cannot be used yet",
            f"its network looks at {channels} channels",
            "Choose another checkpoint",
        )
    kinds: dict[str, Any] = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }

    def module(name: str, dtype: torch.dtype = dtype) -> Any:
        return parts.module(name, kinds[name], dtype).to(device)

    network = module("unet")
    overflows = dtype is torch.float16 and bool(parts.config("vae").get("force_upcast", True))
    scheduling = scheduling_of(
        parts,
        checkpoint.name,
        checkpoint.prediction,
        distilled=bool(network.config.time_cond_proj_dim),
        aligned_xl="_2" in encoders,
    )
    return kind(
        checkpoint,
        scheduling,
        network,
        module("vae", torch.float32 if overflows else dtype),
        checkpoint.family,
        device=device,
        dtype=dtype,
        sha256=sha256,
        text_encoders={f"text_encoder{n}": module(f"text_encoder{n}") for n in encoders},
        tokenizers={f"tokenizer{n}": parts.tokenizer(f"tokenizer{n}", CLIPTokenizer) for n in encoders},
    )
