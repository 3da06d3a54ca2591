"""Model: what every family of checkpoints can do, once its weights are in memory. No torch is imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffstudio.diffusion.denoiser import Denoiser
    from diffstudio.diffusion.samplers import Step
    from diffstudio.diffusion.schedule import Schedule
    from diffstudio.models.checkpoint import Checkpoint

Prompted: TypeAlias = Any  # what a family makes of a prompt; only that family looks inside


@dataclass(frozen=True, slots=True)
class ControlNetInput:
    """A picture that steers, and the ControlNet that reads it."""

    network: Any  # diffusers' ControlNetModel, where the model is
    image: Tensor  # [1,3,H,W] in [0,1]
    scale: float = 1.0  # how much of what it says is heard
    begins: float = 0.0  # the part of the steps that it steers
    ends: float = 1.0


@dataclass(frozen=True, slots=True)
class ImageInputs:
    """The pictures a network is shown besides its prompt, where it was trained to look at some."""

    image: Tensor | None = None  # [1 or B,3,H,W] in [-1,1]: what is painted on
    mask: Tensor | None = None  # [1 or B,1,H,W] in [0,1]: 1 is painted anew
    controls: tuple[ControlNetInput, ...] = ()
    times: Tensor | None = None  # [steps+1]: the ladder, of which controls steer a part


NO_IMAGES = ImageInputs()


class Model(Protocol):
    """A checkpoint in memory. States are float32 [B,C,h,w] on `device`; images are float32 [B,3,H,W] in [-1,1]."""

    checkpoint: Checkpoint | None  # None for a network that is still being trained
    schedule: Schedule
    sha256: str  # of the checkpoint's file; empty without one
    device: torch.device
    dtype: torch.dtype  # what the network runs in
    paints: bool  # its network is shown a mask and what is around it
    guides_last_call: bool  # whether guidance acts in the last network call of a ladder too

    @property
    def default_size(self) -> tuple[int, int]:
        """Width and height in px that it was trained at."""

    @property
    def multiple(self) -> int:
        """What both sides of a picture are divisible by, in px."""

    @property
    def samplers(self) -> tuple[str, ...]:
        """Names of `diffusion.samplers.SAMPLERS` that it may be sampled with."""

    @property
    def parameters(self) -> int: ...

    @property
    def guidance(self) -> float:
        """The guidance to begin with when a person has not chosen one."""

    def check_size(self, width: int, height: int) -> None:
        """BadRequest, naming the nearest sizes it can do, when it cannot make pictures of this size."""

    def state_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """[C,h,w] of the state for an image of this size."""

    def encode_prompt(self, prompt: str | Sequence[str], negative: str = "", count: int = 1) -> Prompted:
        """What to show, and what to move away from: `count` times one prompt, or one image for each of a list.

        BadRequest when the model cannot be told this.
        """

    def encode_image(self, image: Tensor) -> Tensor:
        """image [B,3,H,W] in [-1,1] -> clean state [B,C,h,w]."""

    def times(self, steps: int, spacing: str, strength: float, width: int, height: int) -> Tensor:
        """The falling times [steps+1] of a picture of this size, float64 on the CPU: fewer with `strength` below 1.

        BadRequest for a spacing that its schedule does not have.
        """

    def denoiser(self, prompted: Prompted, guidance: float, hints: ImageInputs = NO_IMAGES) -> Denoiser:
        """The guided Denoiser for states [B,C,h,w], B as prompted. Hints that it was not trained to see are ignored."""

    def decode(self, state: Tensor) -> Tensor:
        """clean state [B,C,h,w] -> image [B,3,H,W], about [-1,1]."""

    def latents_to_rgb(self, state: Tensor) -> Tensor:
        """A cheap small picture of a state, for previews: [B,C,h,w] -> [B,3,h,w], about [-1,1]."""


@runtime_checkable
class PipelineModel(Protocol):
    """A Model whose sampler is its own: it is told everything at once and says how it goes."""

    def run(
        self,
        prompted: Prompted,
        seeds: Sequence[int],
        width: int,
        height: int,
        steps: int,
        guidance: float,
        wrap: Callable[[Denoiser], Denoiser] | None = None,
    ) -> Iterator[Step]:
        """As `sampling.sample`: a Step for each of `steps`; what `wrap` returns is called before each call of the network."""
