"""GenerateRequest: images from a prompt, with every setting that they depend on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffstudio.errors import BadRequest
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.requests.checks import (
    check_fractions,
    check_prompts,
    check_range,
    check_strength,
    check_types,
    four_sides,
    has_type,
    interval_of,
    named,
)
from diffstudio.studio.requests.choices import LANCZOS, FillName, ResizeName, SamplerName, SpacingName
from diffstudio.studio.requests.controlnet_use import ControlNetUse
from diffstudio.studio.requests.json_values import FORMAT, created, known_values, with_curve, with_paths
from diffstudio.studio.requests.limits import (
    LARGEST_COUNT,
    LARGEST_SEED,
    LARGEST_SIDE,
    MOST_AUTOGUIDANCE,
    MOST_CADS,
    MOST_CONTROLS,
    MOST_ENLARGED,
    MOST_STEPS,
    MOST_TRUNCATION,
)
from diffstudio.studio.requests.sampling_fields import check_sampling_fields, convert_sampling_fields


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Make `count` images from one prompt. Image i starts from seed + i."""

    prompt: str = ""
    negative: str = ""
    checkpoint: str = "starter"  # a name from the library, or a path
    seed: int = 0
    steps: int = PIXEL.steps  # these three are the defaults of models trained here
    sampler: SamplerName = SamplerName(PIXEL.sampler)
    spacing: SpacingName = SpacingName(PIXEL.spacing)
    guidance: float = PIXEL.guidance  # CFG scale: 1 is no guidance; with pixel models 0 ignores the prompt
    # Whether the last network call is guided too; None: the family's default. True are the rules of version 0.1 for
    # models trained here, in which strength is a share of the steps with every spacing.
    guide_last_call: bool | None = None
    # Noise levels, from 0 (clean) to 1, between which CFG and autoguidance act; None: the checkpoint's own.
    guidance_interval: tuple[float, float] | None = None
    autoguidance: str = ""  # the weaker checkpoint to guide away from: a name from the library, or a path; "": none
    autoguidance_scale: float = 2.0  # 1: off
    cads: float = 0.0  # CADS: scale of the noise added to the condition; 0: off
    cads_tau1: float = 0.6  # noise level below which the condition is unchanged
    cads_tau2: float = 0.9  # noise level above which it is replaced by noise
    cads_mixing: float = 1.0  # how far the condition's mean and standard deviation are restored
    truncation: float = 1.0  # psi of a GAN, temperature of a VAE: below 1, images are more typical and less varied
    width: int | None = None  # px; None is the checkpoint's default size
    height: int | None = None
    count: int = 1
    init: Path | None = None  # the initial image, for img2img, inpainting and outpainting
    strength: float = 1.0  # denoising strength, 0 (excluded) to 1
    mask: Path | None = None  # white is inpainted, black is kept
    resize: ResizeName = ResizeName.CROP
    fill: FillName = FillName.ORIGINAL
    feather: int = 0  # px inwards from the mask's edge over which the inpainted area fades in
    masked_only: bool = False  # generate only the area around the mask, at full size, and paste it back
    padding: int = 32  # px around the mask that `masked_only` includes
    outpaint: tuple[int, int, int, int] = (0, 0, 0, 0)  # px to add to the image: left, top, right, bottom
    enlarge: float = 1.0  # hires fix: the upscale factor of a second pass; 1 for none
    upscaler: str = LANCZOS  # what enlarges the image before that pass: LANCZOS, LATENT, or an upscaler of the library
    enlarge_strength: float = 0.3  # denoising strength of that pass, 0 (excluded) to 1
    enlarge_steps: int = 0  # of that pass, before its strength shortens them; 0 for as many as `steps`
    # CFG scale of that pass; None for `guidance`, or 0 with models that guidance harms there.
    enlarge_guidance: float | None = None
    tiled: bool = False  # sample that pass in tiles even where the checkpoint could do without
    controls: tuple[ControlNetUse, ...] = ()  # ControlNets
    vae: str = ""  # replaces the checkpoint's own: a name from the library, or a path
    clip_skip: int | None = None  # the layer of CLIP that reads the prompt, 1 the last, as in A1111; None: the family's
    # With a spacing in CARRIED the times that the steps start from, falling from noise, without the final 0: fractions
    # of the schedule's t_max. As many as `steps`; (): not known yet, and taken from the checkpoint by the job.
    times: tuple[float, ...] = ()
    curve: NamedCurve | None = None  # with the spacing CUSTOM, and only then: the noise schedule with its points

    def __post_init__(self) -> None:
        self._convert_fields()
        check_types(self)
        self._check_values()
        self._check_combinations()
        check_prompts(self.prompt, self.negative)

    def _convert_fields(self) -> None:
        """Give names and sequences from JSON or the command line their types."""
        convert_sampling_fields(self)
        set_field = object.__setattr__  # the request is frozen
        set_field(self, "resize", named(ResizeName, "resize mode", self.resize))
        set_field(self, "fill", named(FillName, "fill", self.fill))
        set_field(self, "outpaint", four_sides(self.outpaint))
        set_field(self, "guidance_interval", interval_of(self.guidance_interval))
        controls: object = self.controls
        if isinstance(controls, list):
            set_field(self, "controls", tuple(controls))
        if not has_type(self.controls, tuple[ControlNetUse, ...]):
            raise BadRequest("The settings of the ControlNets cannot be read", remedy="Choose them again")

    def _check_values(self) -> None:
        """BadRequest for a value that is out of its range, whatever the others are."""
        check_sampling_fields(self)
        if len(self.controls) > MOST_CONTROLS:
            raise BadRequest(
                f"{len(self.controls)} ControlNets were given", f"the limit is {MOST_CONTROLS}", "Remove some"
            )
        check_range("The number of images", self.count, 1, LARGEST_COUNT)
        check_range("The seed", self.seed, 0, LARGEST_SEED - self.count + 1)
        for name, side in (("The width", self.width), ("The height", self.height)):
            if side is not None:
                check_range(name, side, 8, LARGEST_SIDE)
        check_range("The feather", self.feather, 0, 1024)
        check_range("The padding", self.padding, 0, LARGEST_SIDE)
        check_range("The scale of the hires fix", self.enlarge, 1, MOST_ENLARGED)
        check_range("The number of hires fix steps", self.enlarge_steps, 0, MOST_STEPS)
        check_strength("The denoising strength of the hires fix", self.enlarge_strength)
        check_range("The CFG scale of the hires fix", self.enlarge_guidance or 0.0, 0.0, 100.0)
        check_range("The autoguidance scale", self.autoguidance_scale, 1.0, MOST_AUTOGUIDANCE)
        check_range("The CADS scale", self.cads, 0.0, MOST_CADS)
        check_range("The CADS mixing factor", self.cads_mixing, 0.0, 1.0)
        check_fractions("CADS", self.cads_tau1, self.cads_tau2)
        check_range("The truncation", self.truncation, 0.0, MOST_TRUNCATION)

    def _check_combinations(self) -> None:
        """BadRequest for settings that exclude or need each other."""
        if self.enlarge > 1 and (self.mask is not None or any(self.outpaint)):
            raise BadRequest(
                "Inpainting and outpainting cannot be combined with the hires fix",
                "it would change the whole image",
                "Inpaint first, then upscale the result",
            )
        if self.mask is not None and self.init is None:
            raise BadRequest("A mask was given without an image", remedy="Give the image to inpaint")
        if any(self.outpaint) and self.init is None:
            raise BadRequest("There is no image to outpaint", remedy="Give the image to outpaint")
        if self.masked_only and self.mask is None and not any(self.outpaint):
            raise BadRequest(
                "Generating only the masked area needs a mask", remedy="Give a mask, or generate the whole image"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, `format` among them; paths as text."""
        values = asdict(self) | {"format": FORMAT, "kind": "generate"}
        values["controls"] = [use | {"image": str(use["image"])} for use in values["controls"]]
        values["curve"] = self.curve.to_json() if self.curve is not None else None
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GenerateRequest:
        known = known_values(cls, values)
        known = with_curve(with_paths(known, "init", "mask"))
        if isinstance(known.get("controls"), (list, tuple)):
            known["controls"] = tuple(ControlNetUse.from_json(use) for use in known["controls"])
        return created(cls, known)
