"""Model: the interface of a checkpoint in memory, implemented by each family. No torch is imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from diffstudio.errors import BadRequest
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.conditioning.prompt_schedule import PromptBatch, StepTexts
from diffstudio.models.output_format import CANNOT_START_FROM_AN_IMAGE, PLAIN, OutputFormat

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from diffstudio.diffusion.denoiser import Denoiser
    from diffstudio.diffusion.samplers import Sampler, Step
    from diffstudio.diffusion.schedule import Schedule
    from diffstudio.models.adapters.adapters import Adapters
    from diffstudio.models.checkpoint import Checkpoint
    from diffstudio.models.conditioning.controlnet import ControlNets
    from diffstudio.models.conditioning.textual_inversion import TextualInversions
    from diffstudio.models.detection.families_table import Family
    from diffstudio.models.inspection.layers import AttentionLayer, NetworkBlock
    from diffstudio.models.inspection.words import PromptWord
    from diffstudio.models.upper_level import UpperLevel


IN_A_PIPELINE = "it runs in a diffusers pipeline"
ONE_SIZE_ONLY = "it generates one size only"
IN_ONE_CALL = "it generates each image in one network call"


class EncodedPrompt:
    """A batch of encoded prompts and negative prompts; its content is private to each family."""

    __slots__ = ()

    def at_steps(self, steps: int, steps_before: int | None = None) -> Sequence[EncodedPrompt]:
        """What conditions each of the `steps` of a pass: the same object for steps with the same texts.

        `steps_before` are the steps of the first pass; None in that itself.
        """
        return [self] * steps


AnnealRows: TypeAlias = Callable[["Sequence[Tensor]"], "list[Tensor]"]  # of CADS, see models.condition_noise
PromptEncoder: TypeAlias = Callable[[StepTexts], EncodedPrompt]


class ScheduledPrompt(EncodedPrompt):
    """Prompts whose texts change from step to step; each distinct text is encoded once."""

    __slots__ = ("_batch", "_encode", "_encoded")

    def __init__(self, batch: PromptBatch, encode: PromptEncoder) -> None:
        self._batch, self._encode = batch, encode
        self._encoded: dict[StepTexts, EncodedPrompt] = {}

    def at_steps(self, steps: int, steps_before: int | None = None) -> Sequence[EncodedPrompt]:
        return [self._of(self._batch.at(step, steps, steps_before)) for step in range(1, steps + 1)]

    def _of(self, texts: StepTexts) -> EncodedPrompt:
        if texts not in self._encoded:
            self._encoded[texts] = self._encode(texts)
        return self._encoded[texts]


class OffloadLevel(IntEnum):
    """How much of a model is kept in CPU memory while it is not running."""

    NONE = 0
    MODULES = 1  # text encoders, network and VAE are moved to the device one at a time
    LAYERS = 2  # every layer is moved to the device for its call


class OwnSampler(Protocol):
    """A model with its own sampler: a diffusers pipeline, a VAE or a GAN."""

    def run(
        self,
        prompt: EncodedPrompt,
        seeds: Sequence[int],
        width: int,
        height: int,
        steps: int,
        guidance: float,
        wrap: Callable[[Denoiser], Denoiser] | None = None,
        *,
        truncation: float = 1.0,
    ) -> Iterator[Step]:
        """Sample like `sampling.sample`: yields as many Steps as `Model.times` has intervals.

        The denoiser that `wrap` returns is called before each network call. `truncation` affects only models that truncate.
        """


class Model(Protocol):
    """A checkpoint in memory. States are float32 [B,C,h,w] on `device`; images are float32 [B,3,H,W] in [-1,1].

    A state is a latent of the VAE, or the image itself.
    """

    checkpoint: Checkpoint | None  # None for a network that is still being trained
    schedule: Schedule
    sha256: str = ""  # of the checkpoint's file; empty for a folder
    device: torch.device  # where it runs
    dtype: torch.dtype  # that the network runs in
    guidance: float  # the default CFG scale
    built_in_guidance: float | None = None  # the CFG scale that was distilled into the model
    unguided_scale: float = 1.0  # the CFG scale at which, and below which, the negative prompt has no effect
    network: nn.Module  # the U-Net or transformer
    vae: nn.Module | None = None
    preview_decoder: nn.Module | None = None  # a TAESD, for previews
    is_latent: bool = False  # whether its states are latents of `vae`
    vae_scale_factor: int = 1  # image px per state px, along a side
    text_encoders: Mapping[str, nn.Module] = {}  # by diffusers' names
    upper: UpperLevel | None = None  # of a cascade: its images are larger than the network's
    inpaints: bool = False  # its network takes a mask and the masked image as inputs
    starts_with_unit_noise: bool = False  # of variance 1 even where sigma is a little less, as diffusers' schedulers do
    guides_last_call: bool = True  # whether the sampler's last network call is guided too
    truncates: bool = False  # the standard deviation of its noise can be set: psi of a GAN, temperature of a VAE
    guides_second_pass: bool = True  # whether a hires fix keeps the CFG scale by default; else 0
    output: OutputFormat = PLAIN  # what its images are made of; `decode` shows them as RGB
    load_notes: tuple[str, ...] = ()  # sentences about its components that have not been shown yet
    vae_path: Path | None = None  # of the VAE that replaces its own
    offload_level: OffloadLevel = OffloadLevel.NONE
    textual_inversions: TextualInversions | None = None  # None if it does not support them
    controlnets: ControlNets | None = None  # loaded next to it; None if it does not support them

    @property
    def family(self) -> Family:
        """What is known about its family without loading it."""

    @property
    def own_sampler(self) -> OwnSampler | None:
        """Set for models that sample by themselves, from text alone."""
        return None

    @property
    def adapters(self) -> Adapters | None:
        """The LoRAs attached to it; None if it does not support them."""
        return None

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """All modules with weights: `network`, and the text encoders and `vae` by diffusers' names."""
        modules = {"network": self.network, **self.text_encoders}
        return modules if self.vae is None else modules | {"vae": self.vae}

    @property
    def offloadable(self) -> tuple[nn.Module, ...]:
        """The modules that can be offloaded, in the order in which they run; empty if it cannot be offloaded."""
        return ()

    @property
    def default_size(self) -> tuple[int, int]:
        """Its training size: width and height in px."""

    @property
    def network_size(self) -> tuple[int, int]:
        """Width and height in px that `denoiser` was trained at: smaller than its images if there is an upper level."""
        return self.default_size

    @property
    def multiple(self) -> int:
        """Both sides of an image must be a multiple of this, in px."""

    @property
    def samplers(self) -> tuple[str, ...]:
        """The samplers that it supports: names of `diffusion.samplers.SAMPLERS`."""

    def sampler(self, name: str) -> Sampler:
        """The sampler of that name, as it suits what the network predicts."""
        from diffstudio.diffusion.samplers import SAMPLERS

        return SAMPLERS[name]

    @property
    def blocks(self) -> Sequence[NetworkBlock]:
        """The blocks whose outputs can be read as features, in the order in which they run; empty if there are none."""
        return ()

    @property
    def attention_layers(self) -> Sequence[AttentionLayer]:
        """The layers from which maps of the prompt's words can be read, in that order; empty if there are none."""
        return ()

    @property
    def parameters(self) -> int:
        """The number of parameters of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def check_size(self, width: int, height: int) -> None:
        """Check that it can generate this size. BadRequest names the nearest possible one."""

    def state_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """[C,h,w] of the state for an image of this size."""

    @property
    def prompt_features(self) -> PromptFeature:
        """The parts of the prompt grammar that it supports; all else in a prompt is plain text."""

    def encode_prompt(
        self, prompt: str | Sequence[str], negative: str = "", count: int = 1, *, clip_skip: int | None = None
    ) -> EncodedPrompt:
        """Encode one prompt for `count` images, or a list with one prompt for each image.

        `clip_skip` as in `GenerateRequest`. BadRequest for an unknown class, and for a clip skip beyond the layers of
        the text encoders.
        """
        prompts = [prompt] * count if isinstance(prompt, str) else list(prompt)
        batch = PromptBatch(prompts, [negative] * len(prompts), self.prompt_features)
        encode = self.prompt_encoder(clip_skip)
        return ScheduledPrompt(batch, encode) if batch.changes else encode(batch.at(1, 1))

    def prompt_encoder(self, clip_skip: int | None) -> PromptEncoder:
        """A function that encodes the texts of one step, and remembers those that it has encoded before."""

    def prompt_words(self, text: str) -> Sequence[PromptWord]:
        """The words of one subprompt of a step, with the tokens that the network reads; none without a text encoder."""
        return ()

    def masked(self, prompt: EncodedPrompt, tokens: Sequence[Sequence[int]]) -> EncodedPrompt:
        """The encoded prompts of a step without these tokens of each subprompt: they are as in an empty prompt.

        Pooled embeddings of the whole prompt, which some families have beside, stay as they are.
        """
        return prompt

    def encode_image(self, image: Tensor) -> Tensor:
        """image [B,3,H,W] in [-1,1], or in the channels of `output` -> clean state [B,C,h,w]."""

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        """Decreasing timesteps [steps+1] for an image of this size, float64 on the CPU; fewer with `strength` below 1.

        BadRequest for a spacing that its schedule does not support.
        """

    def times_in_steps(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        """As `times`, with `strength` as a share of the steps, whatever the spacing: as requests recorded it before 0.2."""
        return self.times(steps, spacing, strength, width, height)

    def denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        """The guided Denoiser for states [B,C,h,w], B as in `prompt`.

        CFG is on only between the times of `interval`, fractions of the schedule's `t_max`; None: the model's default.
        Image inputs that the model does not support are ignored.
        """

    def sampling_denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        """What a sampler calls: `denoiser`, unless the model allows for the errors of its estimates.

        Measurements of single estimates, such as likelihoods, need `denoiser` itself.
        """
        return self.denoiser(prompt, guidance, images, interval)

    def annealed(self, prompt: EncodedPrompt, anneal: AnnealRows) -> EncodedPrompt:
        """The encoded prompts with noise added to each image's condition, but not to the negative prompts.

        `anneal` gets one tensor for each image. BadRequest for a model whose condition cannot be changed.
        """
        raise cannot_be_annealed(self.checkpoint)

    def decode(self, state: Tensor) -> Tensor:
        """clean state [B,C,h,w] -> image [B,3,H,W], about [-1,1]."""

    def latents_to_rgb(self, state: Tensor) -> Tensor:
        """A cheap approximation of the decoded image, for previews: [B,C,h,w] -> [B,3,h,w], about [-1,1]."""


def own_guidance(why: str = IN_A_PIPELINE) -> BadRequest:
    """The error for a guidance interval, autoguidance or CADS with a model that has its own sampler."""
    return BadRequest(
        "This checkpoint supports no guidance besides the CFG scale"
        if why == IN_A_PIPELINE
        else "This checkpoint does not support guidance",
        why,
        "Turn the guidance interval, autoguidance and CADS off, or choose another checkpoint",
    )


def own_times(why: str = IN_A_PIPELINE) -> BadRequest:
    """The error for times of the steps given to a model that samples by itself."""
    return BadRequest("The times of the steps cannot be set for this checkpoint", why, "Choose another scheduler")


def cannot_be_annealed(checkpoint: Checkpoint | None) -> BadRequest:
    return BadRequest(
        f"CADS does not work with {checkpoint.name if checkpoint is not None else 'this checkpoint'}",
        "it is unconditional, or its prompt embeddings cannot be changed here",
        "Turn CADS off, or choose another checkpoint",
    )


def unsupported_size(width: int, height: int, why: str, suggestion: str) -> BadRequest:
    return BadRequest(f"This checkpoint cannot generate images of {width} × {height} px", why, f"Try {suggestion}")


def multiples_of(multiple: int, largest: int = 0) -> str:
    """The clause for sides that are not multiples of `multiple`, or exceed `largest` px (0: no limit)."""
    limit = f", and at most {largest}" if largest else ""
    return f"width and height must be multiples of {multiple} px{limit}"


def not_step_by_step(why: str) -> BadRequest:
    """The error when step-by-step sampling is requested from a model with its own sampler."""
    return BadRequest("This checkpoint cannot be sampled step by step", why, "Choose another checkpoint")


def text_only(why: str = IN_A_PIPELINE) -> BadRequest:
    """The error for an image given to a model with its own sampler."""
    return BadRequest(CANNOT_START_FROM_AN_IMAGE, why, "Remove the given image, or choose another checkpoint")
