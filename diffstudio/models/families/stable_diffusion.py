"""Stable Diffusion 1 and 2: a U-Net on latents, conditioned on CLIP text embeddings. Rombach et al. 2021, arXiv
2112.10752.

Inpainting checkpoints also take the mask and the masked image as input (nine channels), latent consistency models the
guidance scale (Luo et al. 2023, arXiv 2310.04378). The differences of XL are in `stable_diffusion_xl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser, Network
from diffstudio.diffusion.guidance import ClassifierFreeGuidance
from diffstudio.errors import CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components
from diffstudio.models.conditioning import prompt_weighting
from diffstudio.models.conditioning.clip_skip import layer_count, skipped_layers
from diffstudio.models.conditioning.controlnet import ControlNetResiduals, ControlNets, controlnet_residuals
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.conditioning.textual_inversion import TextualInversions
from diffstudio.models.families.latent import LatentModel
from diffstudio.models.families.prompt_embeds import PromptEmbeds, StableDiffusionPrompt, composed
from diffstudio.models.families.scheduler_config import Scheduling, scheduling_of
from diffstudio.models.inspection.cross_attention import cross_attention_layers
from diffstudio.models.inspection.layers import AttentionLayer, NetworkBlock
from diffstudio.models.inspection.unet_blocks import unet_blocks
from diffstudio.models.inspection.words import PromptWord, weighted_words
from diffstudio.models.model import AnnealRows, EncodedPrompt, PromptEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_RESCALE = 0.7  # of guidance, with zero terminal SNR: Lin et al. 2023, arXiv 2305.08891, section 3.4
_FEW_STEPS = ("turbo", "lightning", "hyper")  # in the names of checkpoints distilled to few steps without guidance
_NEEDS_UNCONDITIONAL = PromptFeature.AND | PromptFeature.NEGATIVE
_PROMPT_FEATURES = (
    PromptFeature.TEXT
    | PromptFeature.WEIGHTS
    | PromptFeature.SCHEDULE
    | PromptFeature.EMBEDDINGS
    | _NEEDS_UNCONDITIONAL
)
_DISTILLED_GUIDANCE = 8.0  # about what latent consistency models were distilled with: Luo et al. 2023


class StableDiffusion(LatentModel):
    """Stable Diffusion 1 or 2 as a Model. `network` is diffusers' UNet2DConditionModel.

    `rescale`, from 0 to 1, is how far guided predictions keep the standard deviation of the unguided ones.
    """

    textual_inversions: TextualInversions
    controlnets: ControlNets
    hidden_layer = 1  # of its text encoders that is read without clip skip: 1 is the last

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        scheduling: Scheduling,
        network: nn.Module,
        vae: nn.Module,
        family: str,
        *,
        text_encoders: Mapping[str, nn.Module],
        tokenizers: Mapping[str, PreTrainedTokenizerBase],
        device: torch.device,
        dtype: torch.dtype,
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
        )
        self.scheduling = scheduling
        self._side = _side(config.sample_size) * self.vae_scale_factor or self._family.side
        self.inpaints = config.in_channels == 2 * self.channels + 1  # latents, mask, and masked image
        self._guidance_width = int(config.time_cond_proj_dim or 0)  # of the guidance embedding, if it is an input
        self.rescale = _RESCALE if scheduling.schedule.zero_terminal_snr else 0.0
        self.textual_inversions = TextualInversions(text_encoders)
        self.controlnets = ControlNets()
        if self._guidance_width:
            self.guidance = _DISTILLED_GUIDANCE
        elif checkpoint is not None and any(name in checkpoint.name.casefold() for name in _FEW_STEPS):
            self.guidance = 1.0

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        return self.scheduling.times(steps, spacing, strength)

    # ---- prompts -----------------------------------------------------------------------------------------------------

    @property
    def prompt_features(self) -> PromptFeature:
        """A network that takes the guidance scale as an input has no unconditional prediction to compose with."""
        return _PROMPT_FEATURES & ~_NEEDS_UNCONDITIONAL if self._guidance_width else _PROMPT_FEATURES

    def prompt_encoder(self, clip_skip: int | None) -> PromptEncoder:
        known: list[prompt_weighting.EncodedChunks] = [{} for _ in self.text_encoders]
        skipped = self._skipped_layers(clip_skip)

        @torch.no_grad()
        def encode(texts: StepTexts) -> StableDiffusionPrompt:
            return self._encode_texts(texts, skipped, known)

        return encode

    def _skipped_layers(self, clip_skip: int | None) -> int:
        """The number of layers above the one to read that the family itself would read. BadRequest for too many."""
        layers = min(layer_count(encoder) for encoder in self.text_encoders.values())
        return skipped_layers(clip_skip, self.family.clip_skip, layers - self.hidden_layer)

    def _encode_texts(
        self, texts: StepTexts, skipped: int, known: Sequence[prompt_weighting.EncodedChunks]
    ) -> StableDiffusionPrompt:
        encoded = self._encoded("", texts, skipped, known[0])
        return StableDiffusionPrompt(*composed(texts, PromptEmbeds(encoded.states)))

    def _encoded(
        self, number: str, texts: StepTexts, skipped: int, known: prompt_weighting.EncodedChunks
    ) -> prompt_weighting.EncodedPrompts:
        """Encode with the text encoder of that number, "" or "_2": all subprompts, then the negative prompts."""
        encoder = self.text_encoders[f"text_encoder{number}"]
        rows = [text for prompts in (*texts.positive, texts.negative) for text in prompts]

        def encode(ids: Tensor) -> tuple[Tensor, Tensor | None]:
            out = encoder(ids.to(self.device), output_hidden_states=skipped > 0 or self.hidden_layer > 1)
            return self._states(encoder, out, skipped), getattr(out, "text_embeds", None)

        with self.textual_inversions.injected_into(encoder):
            return prompt_weighting.encode_weighted(
                rows,
                self.textual_inversions.tokenizer(self.tokenizers[f"tokenizer{number}"]),
                encode,
                known,
                self.textual_inversions.lengths,
            )

    def _states(self, encoder: nn.Module, out: Any, skipped: int) -> Tensor:
        """The states of the last layer, or of one below it, normalised likewise."""
        if not skipped:
            states: Tensor = out.last_hidden_state
            return states
        norm = next(module for name, module in encoder.named_modules() if name.endswith("final_layer_norm"))
        normalised: Tensor = norm(out.hidden_states[-1 - skipped])
        return normalised

    def prompt_words(self, text: str) -> Sequence[PromptWord]:
        """By the first text encoder's tokenizer: XL's two have the same tokens."""
        tokenizer = self.textual_inversions.tokenizer(next(iter(self.tokenizers.values())))

        def ids(text: str) -> Sequence[int]:
            return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

        return weighted_words(text, prompt_weighting.split_chunks(text, ids, self.textual_inversions.lengths), ids)

    def masked(self, prompt: EncodedPrompt, tokens: Sequence[Sequence[int]]) -> EncodedPrompt:
        assert isinstance(prompt, StableDiffusionPrompt)
        empty = self.encode_prompt("")
        assert isinstance(empty, StableDiffusionPrompt)
        nothing = empty.positive.first.prompt_embeds  # [1,L,D] of one chunk

        def without(places: Sequence[int], embeds: PromptEmbeds) -> PromptEmbeds:
            changed = embeds.prompt_embeds.clone()
            changed[:, list(places)] = nothing[:, [place % nothing.shape[1] for place in places]]
            return replace(embeds, prompt_embeds=changed)

        return replace(prompt, positive=prompt.positive.each_mapped([partial(without, places) for places in tokens]))

    # ---- the network -------------------------------------------------------------------------------------------------

    @property
    def blocks(self) -> Sequence[NetworkBlock]:
        return unet_blocks(self.network)

    @property
    def attention_layers(self) -> Sequence[AttentionLayer]:
        return cross_attention_layers(self.network)

    def annealed(self, prompt: EncodedPrompt, anneal: AnnealRows) -> EncodedPrompt:
        assert isinstance(prompt, StableDiffusionPrompt)

        def noisy(embeds: PromptEmbeds) -> PromptEmbeds:
            pooled = None if embeds.pooled is None else torch.stack(anneal(tuple(embeds.pooled)))
            return replace(embeds, prompt_embeds=torch.stack(anneal(tuple(embeds.prompt_embeds))), pooled=pooled)

        return replace(prompt, positive=prompt.positive.mapped(noisy))

    def denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        """As `Model.denoiser`; with guidance up to 1 the network is called without the negative prompt."""
        assert isinstance(prompt, StableDiffusionPrompt)
        masked_image = self._masked_image(images)
        controlnets = controlnet_residuals(images.controls, self._indices(images.times), self.dtype)

        def network_of(texts: Sequence[PromptEmbeds]) -> Network:
            return self._prediction(reduce(PromptEmbeds.concatenated, texts), guidance, masked_image, controlnets)

        conditional = prompt.positive.conditional(prompt.negative, network_of)
        if guidance <= 1 or self._guidance_width:
            return self.scheduling.wrap(conditional)
        paired = prompt.positive.paired(prompt.negative, network_of)
        return self.scheduling.wrap(
            ClassifierFreeGuidance(
                conditional=conditional,
                unconditional=None,
                scale=guidance,
                interval=interval,
                rescale=self.rescale,
                t_max=self.schedule.t_max,
                paired=paired,
            )
        )

    def _prediction(
        self,
        embeds: PromptEmbeds,
        guidance: float,
        masked_image: Callable[[Tensor], Tensor] | None,
        controlnets: ControlNetResiduals | None = None,
    ) -> Network:
        """The network's prediction [B,C,h,w] (eps, v or x_0) for x_t [B,C,h,w] and t [B], B as in `embeds`."""
        network, dtype = self.network, self.dtype
        timestep_cond = self._guidance_embedding(guidance) if self._guidance_width else None

        @torch.no_grad()
        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            x = x_t if masked_image is None else torch.cat((x_t, masked_image(x_t)), dim=1)
            conditions = self._conditions(embeds, x_t)
            residuals = {} if controlnets is None else controlnets(x_t, t, embeds.prompt_embeds, conditions)
            prediction: Tensor = network(
                x.to(dtype),
                t,
                encoder_hidden_states=embeds.prompt_embeds,
                timestep_cond=timestep_cond,
                added_cond_kwargs=conditions,
                return_dict=False,
                **residuals,
            )[0]
            return prediction

        return predict

    def _indices(self, times: Tensor | None) -> Tensor | None:
        """The timesteps as the network takes them, counted from 0."""
        return None if times is None else times - 1

    def _conditions(self, embeds: PromptEmbeds, x_t: Tensor) -> dict[str, Tensor] | None:
        """The U-Net's additional conditions (diffusers' `added_cond_kwargs`)."""
        return None

    def _guidance_embedding(self, guidance: float) -> Tensor:
        """The embedding [1,D] of the guidance scale: sines and cosines of 1000 w, where w = guidance - 1.

        Luo et al. 2023, arXiv 2310.04378.
        """
        half = self._guidance_width // 2
        frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.tensor(10_000.0).log() / (half - 1)))
        angles = 1000 * (guidance - 1) * frequencies
        embedding = torch.cat((angles.sin(), angles.cos()))
        return F.pad(embedding, (0, self._guidance_width % 2))[None].to(self.device, self.dtype)

    # ---- inpainting --------------------------------------------------------------------------------------------------

    def _masked_image(self, images: ImageInputs) -> Callable[[Tensor], Tensor] | None:
        """The additional inputs of an inpainting network, mask and masked latents [B,1 + C,h,w]; None for others.

        Without an image the whole area is inpainted. The mask is resized as in training: nearest, 0 or 1.
        """
        if not self.inpaints:
            return None
        cache: dict[tuple[int, ...], Tensor] = {}  # by size

        def masked_image(x_t: Tensor) -> Tensor:
            shape = (1, 3, *(self.vae_scale_factor * side for side in x_t.shape[-2:]))
            if shape not in cache:
                image = torch.zeros(shape) if images.image is None else images.image
                mask = (
                    torch.ones_like(image[:, :1])
                    if images.mask is None or images.image is None
                    else (images.mask >= 0.5).float()
                )
                latents = self.encode_image(image * (1 - mask))
                small = F.interpolate(mask, x_t.shape[-2:]).to(latents)
                cache[shape] = torch.cat((small.expand(len(latents), -1, -1, -1), latents), dim=1)  # [1 or B,1 + C,h,w]
            inputs = cache[shape]
            return inputs.repeat(len(x_t) // len(inputs), 1, 1, 1).to(x_t)  # twice the batch when guided

        return masked_image


def _side(sample_size: Any) -> int:
    return int(max(sample_size)) if isinstance(sample_size, Sequence) else int(sample_size or 0)


_S = TypeVar("_S", bound=StableDiffusion)


def load(checkpoint: Checkpoint, components: Components, device: torch.device, dtype: torch.dtype) -> StableDiffusion:
    """Load a checkpoint of family `sd1` or `sd2`. CheckpointMissing, CheckpointDamaged, CheckpointUnknown."""
    return load_as(StableDiffusion, checkpoint, components, device, dtype, encoders=("",))


def load_as(
    kind: type[_S],
    checkpoint: Checkpoint,
    components: Components,
    device: torch.device,
    dtype: torch.dtype,
    *,
    encoders: Sequence[str],
) -> _S:
    """Load all components onto the device; `encoders` are the numbers of the text encoders, "" and "_2"."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    channels = components.config("unet").get("in_channels", 4)
    if channels not in (4, 9):
        raise CheckpointUnknown(
            f"{checkpoint.name} is not supported", f"its network takes {channels} channels", "Choose another checkpoint"
        )
    kinds: dict[str, Any] = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }

    def module(name: str, dtype: torch.dtype = dtype) -> Any:
        return components.module(name, kinds[name], dtype).to(device)

    network = module("unet")
    overflows = dtype is torch.float16 and bool(components.config("vae").get("force_upcast", True))
    scheduling = scheduling_of(
        components,
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
        text_encoders={f"text_encoder{n}": module(f"text_encoder{n}") for n in encoders},
        tokenizers={f"tokenizer{n}": components.tokenizer(f"tokenizer{n}", CLIPTokenizer) for n in encoders},
    )
