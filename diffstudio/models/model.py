"""Model: what every family of checkpoints can do, once its weights are in memory. No torch is imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from diffstudio.errors import BadRequest
from diffstudio.models.conditioning.image_inputs import NO_IMAGES, ImageInputs

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from diffstudio.diffusion.denoiser import Denoiser
    from diffstudio.diffusion.samplers import Step
    from diffstudio.diffusion.schedule import Schedule
    from diffstudio.models.adapters.adapters import Adapters
    from diffstudio.models.checkpoint import Checkpoint
    from diffstudio.models.conditioning.controlnet import ControlNets
    from diffstudio.models.conditioning.textual_inversion import TextualInversions
    from diffstudio.models.detection.families_table import Family


class EncodedPrompt:
    """A batch of prompts and negative prompts as one family's text encoders give them; only that family looks inside."""

    __slots__ = ()


class OffloadLevel(IntEnum):
    """How much of a model waits in CPU memory while it is not running."""

    NONE = 0
    MODULES = 1  # the text encoders, the network and the VAE come to the device one after the other
    LAYERS = 2  # every layer comes to the device by itself


class OwnSampler(Protocol):
    """A model that brings its sampler along: a diffusers pipeline."""

    def run(
        self,
        prompt: EncodedPrompt,
        seeds: Sequence[int],
        width: int,
        height: int,
        steps: int,
        guidance: float,
        wrap: Callable[[Denoiser], Denoiser] | None = None,
    ) -> Iterator[Step]:
        """As `sampling.sample`: a Step for each of `steps`; what `wrap` returns is called before each call of the
        network.
        """


class Model(Protocol):
    """A checkpoint in memory. States are float32 [B,C,h,w] on `device`; images are float32 [B,3,H,W] in [-1,1].

    A state is a latent of the VAE, or the image itself.
    """

    checkpoint: Checkpoint | None  # None for a network that is still being trained
    schedule: Schedule
    sha256: str = ""  # of the checkpoint's file; empty for a folder
    device: torch.device  # where it runs
    dtype: torch.dtype  # what the network runs in
    guidance: float  # the CFG scale to begin with when the user has not chosen one
    network: nn.Module  # the U-Net or transformer
    vae: nn.Module | None = None
    is_latent: bool = False  # whether its states are latents of `vae`, decoded here
    vae_scale_factor: int = 1  # image px per state px, along a side
    text_encoders: Mapping[str, nn.Module] = {}  # by diffusers' names
    inpaints: bool = False  # its network takes a mask and the masked image as inputs
    guides_last_call: bool = True  # whether guidance acts in the last network call of a sampler too
    guides_second_pass: bool = True  # whether the second pass of a hires fix is guided unless the request says how
    load_notes: tuple[str, ...] = ()  # sentences about what was loaded from elsewhere, not shown yet
    vae_path: Path | None = None  # of the VAE that was chosen in place of its own
    offload_level: OffloadLevel = OffloadLevel.NONE
    textual_inversions: TextualInversions | None = None  # None if its text encoders take none
    controlnets: ControlNets | None = None  # those loaded next to it; None if it takes none

    @property
    def family(self) -> Family:
        """What is known of its family without loading it."""

    @property
    def own_sampler(self) -> OwnSampler | None:
        """For a model that samples by itself, from text alone."""
        return None

    @property
    def adapters(self) -> Adapters | None:
        """The LoRAs attached to it; None if it takes none."""
        return None

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Everything that the checkpoint has weights for: `network`, and the text encoders and `vae` by diffusers'
        names.
        """
        modules = {"network": self.network, **self.text_encoders}
        return modules if self.vae is None else modules | {"vae": self.vae}

    @property
    def offloadable(self) -> tuple[nn.Module, ...]:
        """The modules that can be offloaded, in the order in which they run; empty if it has to stay whole."""
        return ()

    @property
    def default_size(self) -> tuple[int, int]:
        """Width and height in px that it was trained at."""

    @property
    def multiple(self) -> int:
        """What both sides of an image are divisible by, in px."""

    @property
    def samplers(self) -> tuple[str, ...]:
        """Names of `diffusion.samplers.SAMPLERS` that it may be sampled with."""

    @property
    def parameters(self) -> int:
        """Of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def check_size(self, width: int, height: int) -> None:
        """BadRequest, naming the nearest possible size, when it cannot make images of this size."""

    def state_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """[C,h,w] of the state for an image of this size."""

    def encode_prompt(self, prompt: str | Sequence[str], negative: str = "", count: int = 1) -> EncodedPrompt:
        """`count` times one prompt, or one image for each of a list.

        BadRequest for a class that the checkpoint does not know.
        """

    def encode_image(self, image: Tensor) -> Tensor:
        """image [B,3,H,W] in [-1,1] -> clean state [B,C,h,w]."""

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        """The falling timesteps [steps+1] of an image of this size, float64 on the CPU: fewer with `strength` below 1.

        BadRequest for a spacing that its schedule does not have.
        """

    def denoiser(self, prompt: EncodedPrompt, guidance: float, images: ImageInputs = NO_IMAGES) -> Denoiser:
        """The guided Denoiser for states [B,C,h,w], B as in `prompt`.

        Images that it was not trained to take are ignored.
        """

    def decode(self, state: Tensor) -> Tensor:
        """clean state [B,C,h,w] -> image [B,3,H,W], about [-1,1]."""

    def latents_to_rgb(self, state: Tensor) -> Tensor:
        """A cheap small image of a state, for previews: [B,C,h,w] -> [B,3,h,w], about [-1,1]."""


def text_only() -> BadRequest:
    """The error for an image given to a model with its own sampler."""
    return BadRequest(
        "This checkpoint makes images from text alone",
        "it runs in a diffusers pipeline",
        "Remove the given image, or choose another checkpoint",
    )
