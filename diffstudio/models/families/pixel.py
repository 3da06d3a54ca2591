"""The pixel family: transformers and U-Nets on pixels, trained with diffstudio; unconditional, class- or text-conditional."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import CleanPrediction, Denoiser, MinTimestep, Network, denoiser_for
from diffstudio.diffusion.guidance import ClassifierFreeGuidance
from diffstudio.diffusion.objectives.parameterisation import CLEAN_IMAGE, Parameterisation, Prediction
from diffstudio.diffusion.samplers import HEUN_STEP_OF_CLEAN_PREDICTION, SAMPLERS, Sampler, heun
from diffstudio.diffusion.schedule import RectifiedFlow, schedule_from_json
from diffstudio.diffusion.spacing import sampling_times, times_from_noise_level
from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models.checkpoint import TRAIN_OR_DOWNLOAD, Checkpoint
from diffstudio.models.conditioning.composition import Composition, NetworkOf
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.detection.families_table import FAMILIES, Family
from diffstudio.models.families import pixel_file
from diffstudio.models.families.scheduler_config import unsupported_schedule
from diffstudio.models.fitted_steps.distilled import distilled
from diffstudio.models.inspection.cross_attention import cross_attention_layers
from diffstudio.models.inspection.layers import AttentionLayer, NetworkBlock
from diffstudio.models.inspection.own_attention import own_attention_layers, own_blocks
from diffstudio.models.inspection.unet_blocks import unet_blocks
from diffstudio.models.inspection.words import PromptWord, words_at
from diffstudio.models.library.lookup import similar_names
from diffstudio.models.model import AnnealRows, EncodedPrompt, Model, PromptEncoder, multiples_of, unsupported_size
from diffstudio.models.output_format import OutputFormat
from diffstudio.models.recommended import min_timestep_of
from diffstudio.models.upper_level import UpperLevel
from diffstudio.networks.caption_tokenizer import PADDING, CaptionTokenizer
from diffstudio.networks.cascade import CascadedTransformer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.one_call import OneCallConfig
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.networks.unet import PixelNetwork, UNetConfig

FAMILY = "pixel"
_TEXT_FEATURES = PromptFeature.TEXT | PromptFeature.SCHEDULE | PromptFeature.AND | PromptFeature.NEGATIVE
_SECOND_TIMES = (0.9, 0.95)  # limits of the second time of `log_snr`, which is where guidance begins
_LARGEST_TIMES_TRAINED = 2  # of the training size: positions are interpolated, and larger images fall apart


@dataclass(frozen=True, slots=True)
class PixelPrompt(EncodedPrompt):
    positive: Composition[Condition]
    negative: Condition  # the null condition without a negative prompt
    null: Condition  # for guidance 0, which ignores the prompt


class PixelModel(Model):
    """A PixelTransformer or PixelUNet as a Model. There is no VAE: the state is the image [B,C,H,W] itself, of any channels.

    Also built from a network that is still being trained, for its sample sheets; then `checkpoint` is None. Samplers call
    the network with no t below `min_timestep`.
    """

    # Guidance would draw the whole prompt into each tile, and images fall apart beyond the training size.
    guides_second_pass = False
    guides_last_call = False  # its estimate is the image, and guidance would add grain

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        network: PixelNetwork,
        tokenizer: CaptionTokenizer | None,
        classes: Sequence[str] = (),
        schedule: RectifiedFlow | None = None,
        *,
        parameterisation: Parameterisation = CLEAN_IMAGE,
        guidance: Mapping[str, Any] | None = None,
        min_timestep: float = 0.0,
        built_in_guidance: float | None = None,
        output: OutputFormat | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.checkpoint = checkpoint
        self.network = network
        self.tokenizer = tokenizer
        self.classes = tuple(classes)
        self.schedule: RectifiedFlow = schedule if schedule is not None else RectifiedFlow()
        self.parameterisation = parameterisation
        self.min_timestep = min_timestep
        self.config: TransformerConfig | UNetConfig = network.config
        self.output = output or OutputFormat(network.config.in_channels)
        self.device = device if device is not None else next(network.parameters()).device
        self.dtype = dtype
        about = guidance or {}
        self.guidance = float(about.get("scale", 3.0))
        lowest, highest = about.get("interval", (0.05, 0.95))
        self._guidance_interval = (float(lowest), float(highest))
        if isinstance(network, CascadedTransformer):
            self.upper = UpperLevel(network, self.schedule, lambda x_t, t, condition: self._call(x_t, t, condition))
        if built_in_guidance is not None:
            self.built_in_guidance, self.unguided_scale = built_in_guidance, math.inf

    @property
    def default_size(self) -> tuple[int, int]:
        if self.checkpoint is not None and self.checkpoint.width and self.checkpoint.height:
            return self.checkpoint.width, self.checkpoint.height
        side = self.config.image_size if self.upper is None else self.upper.trained_size
        return side, side

    @property
    def network_size(self) -> tuple[int, int]:
        width, height = self.default_size
        return (width, height) if self.upper is None else (width // self.upper.factor, height // self.upper.factor)

    @property
    def multiple(self) -> int:
        return self.config.patch_size if self.upper is None else self.upper.multiple

    @property
    def samplers(self) -> tuple[str, ...]:
        return tuple(SAMPLERS)

    @property
    def family(self) -> Family:
        return FAMILIES[FAMILY]

    def sampler(self, name: str) -> Sampler:
        if name != "heun":
            return SAMPLERS[name]
        of_clean_image = self.parameterisation.prediction is Prediction.X0
        return partial(heun, longest=HEUN_STEP_OF_CLEAN_PREDICTION if of_clean_image else math.inf)

    def check_size(self, width: int, height: int) -> None:
        in_two_levels = self.upper is not None and self.upper.draws(width, height)
        patch = self.multiple if in_two_levels else self.config.patch_size
        largest = _LARGEST_TIMES_TRAINED * max(self.default_size)
        if width % patch == 0 and height % patch == 0 and max(width, height) <= largest and min(width, height) >= patch:
            return
        possible = [min(largest, max(patch, round(side / patch) * patch)) for side in (width, height)]
        trained = f"{self.default_size[0]} × {self.default_size[1]}, for which it was trained"
        near = f"{possible[0]} × {possible[1]}"
        suggestion = trained if trained.startswith(near) else f"{near}, or {trained}"
        raise unsupported_size(width, height, multiples_of(patch, largest), suggestion)

    def state_shape(self, width: int, height: int) -> tuple[int, int, int]:
        return self.config.in_channels, height, width

    @property
    def prompt_features(self) -> PromptFeature:
        match self.config.conditioning:
            case Conditioning.TEXT if self.built_in_guidance is not None:
                return _TEXT_FEATURES & ~PromptFeature.NEGATIVE
            case Conditioning.TEXT:
                return _TEXT_FEATURES
            case Conditioning.CLASS if self.built_in_guidance is None:
                return PromptFeature.NEGATIVE
            case _:
                return PromptFeature.NONE

    def prompt_encoder(self, clip_skip: int | None) -> PromptEncoder:
        def encode(texts: StepTexts) -> PixelPrompt:
            subprompts = tuple(self._condition(prompts) for prompts in texts.positive)
            negative = self._condition([text if text.strip() else "" for text in texts.negative])
            return PixelPrompt(
                Composition(subprompts, texts.weights), negative, self._condition([""] * len(texts.negative))
            )

        return encode

    @property
    def blocks(self) -> Sequence[NetworkBlock]:
        if isinstance(self.network, PixelTransformer):
            return own_blocks(self.network)
        return unet_blocks(self.network.unet)

    @property
    def attention_layers(self) -> Sequence[AttentionLayer]:
        if isinstance(self.network, PixelTransformer):
            return own_attention_layers(self.network)
        return cross_attention_layers(self.network.unet)

    def prompt_words(self, text: str) -> Sequence[PromptWord]:
        if self.tokenizer is None or self.config.conditioning is not Conditioning.TEXT:
            return ()
        return words_at(text, self.tokenizer.offsets(text), longest=self.config.text_tokens)

    def masked(self, prompt: EncodedPrompt, tokens: Sequence[Sequence[int]]) -> EncodedPrompt:
        assert isinstance(prompt, PixelPrompt)

        def without(places: Sequence[int], condition: Condition) -> Condition:
            if condition.token_ids is None:
                return condition
            token_ids = condition.token_ids.clone()
            token_ids[:, list(places)] = PADDING
            return condition._replace(token_ids=token_ids)

        return replace(prompt, positive=prompt.positive.each_mapped([partial(without, places) for places in tokens]))

    def _condition(self, prompts: Sequence[str]) -> Condition:
        return condition_of(prompts, self.config, self.tokenizer, self.classes, self.device)

    def encode_image(self, image: Tensor) -> Tensor:
        return self.output.from_image(image.float())

    def decode(self, state: Tensor) -> Tensor:
        return state if self.output.is_plain else self.output.to_rgb(state)

    def latents_to_rgb(self, state: Tensor) -> Tensor:
        return self.decode(state)

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        guided_from = min(max(self._guidance_interval[1], _SECOND_TIMES[0]), _SECOND_TIMES[1])
        return times_from_noise_level(self.schedule, steps, spacing, strength, guided_from)

    def times_in_steps(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        return sampling_times(self.schedule, steps, spacing, strength=strength)

    def annealed(self, prompt: EncodedPrompt, anneal: AnnealRows) -> EncodedPrompt:
        assert isinstance(prompt, PixelPrompt)
        if self.config.conditioning is Conditioning.NONE:
            return super().annealed(prompt, anneal)
        embed = self.network.cond_embed.embed

        def noisy(condition: Condition) -> Condition:
            return condition._replace(embedded=torch.stack(anneal(tuple(embed(condition)))))

        negative = prompt.negative._replace(
            embedded=embed(prompt.negative)
        )  # one batch with the prompts needs embeddings too
        return replace(prompt, positive=prompt.positive.mapped(noisy), negative=negative)

    def denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        return self._denoiser(prompt, guidance, interval, self._prediction)

    def sampling_denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        # An image that sampling begins with, in img2img, has the noise of the first time and no other yet.
        smallest = self.min_timestep if images.times is None else min(self.min_timestep, float(images.times[0]))
        if not smallest:
            return self.denoiser(prompt, guidance, images, interval)

        def predict(conditions: Sequence[Condition]) -> Network:
            return MinTimestep(self._prediction(conditions), smallest)

        return self._denoiser(prompt, guidance, interval, predict)

    def _denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        interval: tuple[float, float] | None,
        predict: NetworkOf[Condition],
    ) -> Denoiser:
        assert isinstance(prompt, PixelPrompt)
        network: Network
        if self.config.conditioning is Conditioning.NONE:
            network = predict(prompt.positive.subprompts)
        elif guidance == 0.0 and self.built_in_guidance is None:
            network = predict((prompt.null,))
        else:
            network = prompt.positive.conditional(prompt.negative, predict)
            if guidance != 1.0 and self.built_in_guidance is None:
                network = ClassifierFreeGuidance(
                    conditional=network,
                    unconditional=None,
                    scale=guidance,
                    interval=interval or self._guidance_interval,
                    paired=prompt.positive.paired(prompt.negative, predict),
                    t_max=self.schedule.t_max,
                )
        return CleanPrediction(network, self.schedule)

    def _prediction(self, conditions: Sequence[Condition]) -> Denoiser:
        """The estimate of x_0 for a batch of len(conditions) · B images; each condition has B rows."""
        joined = Condition(
            *(
                torch.cat([row for row in rows if row is not None]) if rows[0] is not None else None
                for rows in zip(*conditions, strict=True)
            )
        )
        return denoiser_for(self.parameterisation, lambda x_t, t: self._call(x_t, t, joined), self.schedule)

    def _call(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The network's prediction [B,C,H,W] as float32; the network runs in `dtype`.

        Differentiable if x_t requires a gradient: likelihoods need the divergence.
        """
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and x_t.requires_grad),
            torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32),
        ):
            predicted: Tensor = self.network(x_t, t.to(x_t), condition)
        return predicted.float()


def condition_of(
    prompts: Sequence[str],
    config: TransformerConfig | UNetConfig | OneCallConfig,
    tokenizer: CaptionTokenizer | None,
    classes: Sequence[str],
    device: torch.device,
) -> Condition:
    """The condition of a network trained with diffstudio for these prompts. BadRequest for an unknown class name."""
    match config.conditioning:
        case Conditioning.TEXT if tokenizer is not None:
            return Condition(token_ids=tokenizer.encode(prompts, config.text_tokens).to(device))
        case Conditioning.CLASS:
            labels = [class_label(prompt, classes) for prompt in prompts]
            return Condition(class_labels=torch.tensor(labels, device=device))
        case _:
            return Condition()


def class_label(prompt: str, classes: Sequence[str]) -> int:
    """The index of a class by its name; an empty prompt gives the null class, one beyond the last. BadRequest."""
    name = prompt.strip().casefold()
    if not name:
        return len(classes)
    names = [known.casefold() for known in classes]
    if name in names:
        return names.index(name)
    near = similar_names(name, names, cutoff=0.4)
    choices = ", ".join(classes[names.index(one)] for one in near) or ", ".join(classes[:12])
    raise BadRequest(
        f"This checkpoint does not know {prompt.strip()[:80]!r}",
        "it is class-conditional, so the prompt must be the name of a class",
        f"Try: {choices}",
    )


def load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> PixelModel:
    """Load a checkpoint trained with diffstudio. CheckpointDamaged, CheckpointUnknown."""
    loaded = pixel_file.load(checkpoint)
    try:
        schedule = schedule_from_json(loaded.schedule)
        _check_guidance(loaded.guidance)
    except (TypeError, ValueError) as error:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} has no valid sampling settings", str(error)[:200], TRAIN_OR_DOWNLOAD
        ) from error
    if not isinstance(schedule, RectifiedFlow):
        raise unsupported_schedule(checkpoint.name, f"it is {loaded.schedule['kind']}")
    network = loaded.network.to(device).eval().requires_grad_(False)
    if not isinstance(network, PixelNetwork):
        raise pixel_file.other_network(checkpoint)
    found = distilled(checkpoint)
    return PixelModel(
        checkpoint,
        network,
        loaded.tokenizer,
        loaded.classes,
        schedule,
        parameterisation=loaded.parameterisation,
        guidance=loaded.guidance,
        min_timestep=min_timestep_of(checkpoint),
        built_in_guidance=None if found is None else found.guidance,
        output=loaded.output,
        device=device,
        dtype=dtype,
    )


def _check_guidance(about: Mapping[str, Any]) -> None:
    """ValueError or TypeError for invalid guidance defaults."""
    lowest, highest = about.get("interval", (0.0, 1.0))
    if not (0 <= lowest <= highest <= 1 and 0 <= about.get("scale", 1.0) <= 1000):
        raise ValueError(f"invalid guidance: {dict(about)}")
