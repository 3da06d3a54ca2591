"""UpscaleRequest: a larger version of a finished image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffstudio.errors import BadRequest
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.requests.checks import check_prompts, check_range, check_types
from diffstudio.studio.requests.choices import LANCZOS, LATENT, SamplerName, SpacingName
from diffstudio.studio.requests.json_values import FORMAT, created, known_values, with_curve, with_paths
from diffstudio.studio.requests.limits import LARGEST_SEED, MOST_ENLARGED
from diffstudio.studio.requests.sampling_fields import check_sampling_fields, convert_sampling_fields


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """Upscale a finished image: by an upscaler alone or, if a checkpoint is named, also sampled again (img2img).

    `prompt` and `negative` are stored with the result even if nothing is sampled.
    """

    source: Path  # the image
    scale: float = 2.0  # upscale factor, of each side
    upscaler: str = LANCZOS  # or an upscaler of the library, or LATENT with a checkpoint
    checkpoint: str = ""  # a name from the library, or a path; empty for no sampling
    vae: str = ""  # likewise; replaces the checkpoint's own
    prompt: str = ""
    negative: str = ""
    strength: float = 0.3  # denoising strength, 0 (excluded) to 1
    steps: int = PIXEL.steps  # before `strength` shortens them
    sampler: SamplerName = SamplerName(PIXEL.sampler)
    spacing: SpacingName = SpacingName(PIXEL.spacing)
    guidance: float = 3.0  # CFG scale the image was made with
    # Whether the last network call is guided too; None: the family's default. True are the rules of version 0.1 for
    # models trained here, in which strength is a share of the steps with every spacing.
    guide_last_call: bool | None = None
    # CFG scale for sampling it again; None for `guidance`, or 0 with models that guidance harms there.
    enlarge_guidance: float | None = None
    seed: int = 0
    tiled: bool = False  # sample in tiles even where the checkpoint could do without
    clip_skip: int | None = None  # as in GenerateRequest
    times: tuple[float, ...] = ()  # likewise
    curve: NamedCurve | None = None  # likewise

    def __post_init__(self) -> None:
        convert_sampling_fields(self)
        check_types(self)
        check_range("The scale", self.scale, 1, MOST_ENLARGED)
        check_range("The seed", self.seed, 0, LARGEST_SEED)
        check_range("The CFG scale of the img2img pass", self.enlarge_guidance or 0.0, 0.0, 100.0)
        check_sampling_fields(self)
        check_prompts(self.prompt, self.negative)
        if self.upscaler == LATENT and not self.checkpoint:
            raise BadRequest(
                "Latent upscaling needs a checkpoint",
                "it enlarges the latents that the checkpoint's VAE encodes",
                "Choose another upscaler, or name a checkpoint",
            )

    @property
    def count(self) -> int:
        """The number of images it makes."""
        return 1

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"format": FORMAT, "kind": "upscale"}
        values["curve"] = self.curve.to_json() if self.curve is not None else None
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> UpscaleRequest:
        return created(cls, {"source": Path()} | with_curve(with_paths(known_values(cls, values), "source")))
