"""VAEs and GANs trained with diffstudio, which generate an image in one network call, without steps or guidance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.samplers import SAMPLERS, Step
from diffstudio.diffusion.schedule import NoiseSchedule, RectifiedFlow, Schedule
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.detection.families_table import FAMILIES, GAN, VAE, Family
from diffstudio.models.families import pixel_file
from diffstudio.models.families.pixel import condition_of
from diffstudio.models.model import (
    IN_ONE_CALL,
    ONE_SIZE_ONLY,
    EncodedPrompt,
    Model,
    OwnSampler,
    PromptEncoder,
    not_step_by_step,
    text_only,
    unsupported_size,
)
from diffstudio.models.output_format import OutputFormat
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.gan import Generator
from diffstudio.networks.transformer import Condition


@dataclass(frozen=True, slots=True)
class OneCallPrompt(EncodedPrompt):
    condition: Condition


class OneCallModel(Model):
    """An Autoencoder or a Generator as a Model with its own sampler. The state is the image [B,C,H,W] itself.

    Also built from a network that is still being trained, for its sample sheets; then `checkpoint` is None.
    """

    guides_last_call = False
    truncates = True

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        network: Autoencoder | Generator,
        tokenizer: CaptionTokenizer | None,
        classes: Sequence[str] = (),
        *,
        output: OutputFormat | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.checkpoint, self.one_call_network = checkpoint, network
        self.network: nn.Module = network
        self.tokenizer, self.classes = tokenizer, tuple(classes)
        self.schedule: Schedule = RectifiedFlow()
        self.config = network.config
        self.output = output or OutputFormat(network.config.in_channels)
        self.device = device if device is not None else next(network.parameters()).device
        self.dtype = torch.float32
        self.guidance = self.family.guidance

    @property
    def own_sampler(self) -> OwnSampler:
        return self

    @property
    def family(self) -> Family:
        return FAMILIES[VAE if isinstance(self.one_call_network, Autoencoder) else GAN]

    @property
    def default_size(self) -> tuple[int, int]:
        return self.config.image_size, self.config.image_size

    @property
    def multiple(self) -> int:
        return 1

    @property
    def samplers(self) -> tuple[str, ...]:
        """Any name is accepted: there is nothing to choose."""
        return tuple(SAMPLERS)

    def check_size(self, width: int, height: int) -> None:
        if (width, height) != self.default_size:
            raise unsupported_size(width, height, ONE_SIZE_ONLY, " × ".join(map(str, self.default_size)))

    def state_shape(self, width: int, height: int) -> tuple[int, int, int]:
        return self.config.in_channels, height, width

    @property
    def prompt_features(self) -> PromptFeature:
        text = self.config.conditioning is Conditioning.TEXT
        return PromptFeature.TEXT if text else PromptFeature.NONE

    def prompt_encoder(self, clip_skip: int | None) -> PromptEncoder:
        return lambda texts: OneCallPrompt(self.condition(texts.positive[0]))

    def condition(self, prompts: Sequence[str]) -> Condition:
        """The network's condition for these prompts. BadRequest for an unknown class name."""
        return condition_of(prompts, self.config, self.tokenizer, self.classes, self.device)

    def encode_rgb(self, image: Tensor) -> Tensor:
        """RGB images [B,3,H,W] in [-1,1], converted to the model's channels. BadRequest for a model of arrays."""
        return self.output.from_image(image)

    def encode_image(self, image: Tensor) -> Tensor:
        raise text_only(IN_ONE_CALL)

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        """The times of a single step from noise to image; `steps` is ignored."""
        return torch.tensor([1.0, 0.0], dtype=torch.float64)

    def denoiser(
        self,
        prompt: EncodedPrompt,
        guidance: float,
        images: ImageInputs = NO_IMAGES,
        interval: tuple[float, float] | None = None,
    ) -> Denoiser:
        raise not_step_by_step(IN_ONE_CALL)

    def decode(self, state: Tensor) -> Tensor:
        return state if self.output.is_plain else self.output.to_rgb(state)

    def latents_to_rgb(self, state: Tensor) -> Tensor:
        return self.decode(state)

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
        """Yields one Step; its network call goes through the denoiser that `wrap` returns.

        `truncation` is the standard deviation of the noise: psi of a GAN, the temperature of a VAE's prior.
        """
        assert isinstance(prompt, OneCallPrompt)
        noise = truncation * SeededNoise(seeds).start(self.one_call_network.noise_shape)
        call = _Call(self.one_call_network, noise.to(self.device), prompt.condition)
        denoiser = wrap(call) if wrap is not None else call
        blank = torch.zeros(len(seeds), *self.state_shape(width, height), device=self.device)
        x = denoiser(blank, torch.ones(len(seeds), dtype=torch.float64))
        yield Step(1, 0.0, x, x)


@dataclass(frozen=True, slots=True)
class _Call:
    """The network call as a Denoiser, so that it is checked, recorded and replayed like the steps of other models."""

    network: Autoencoder | Generator
    noise: Tensor
    condition: Condition

    @property
    def schedule(self) -> NoiseSchedule:
        return RectifiedFlow()

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.network.generate(self.noise, self.condition).float()


def load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> OneCallModel:
    """Load a VAE or GAN trained with diffstudio; it runs in float32. CheckpointDamaged."""
    loaded = pixel_file.load(checkpoint)
    network = loaded.network.to(device).eval().requires_grad_(False)
    if not isinstance(network, (Autoencoder, Generator)):
        raise pixel_file.other_network(checkpoint)
    return OneCallModel(checkpoint, network, loaded.tokenizer, loaded.classes, output=loaded.output, device=device)
