"""Requests for images and training runs: frozen records shared by the window, the command line, the queue and PNG
metadata.

A request is changed with `dataclasses.replace`, never in place. Creating one checks everything that can be checked
without opening a checkpoint; what depends on the checkpoint (its sizes) is checked when the job starts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from diffstudio.errors import CHOOSE_IMAGE_FOLDER, NO_FOLDER, BadRequest
from diffstudio.imaging.limits import LARGEST_PIXELS
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.studio.control_types import ControlTypeName
from diffstudio.studio.curves.saved import NamedCurve
from diffstudio.studio.request_checks import (
    LARGEST_SIDE,
    check_fractions,
    check_prompts,
    check_range,
    check_strength,
    check_text,
    check_types,
    four_sides,
    has_type,
    interval_of,
    named,
    shown,
    times_of,
)
from diffstudio.studio.request_choices import CARRIED, FillName, PreprocessorName, ResizeName, SamplerName, SpacingName
from diffstudio.training.distributed.cluster import PORT, Cluster

FORMAT = 1  # of the `diffstudio` JSON in images and in the queue
LARGEST_SEED = 2**63 - 1  # the largest that fits both a database column and torch's generator
LARGEST_COUNT = 1024  # images in one request
LARGEST_ENLARGED = 16_384  # px a side of an enlarged image
MOST_ENLARGED = 8  # the largest upscale factor, of each side
MOST_STEPS = 1000
MOST_CLIP_SKIP = 12  # CLIP-L has as many layers
MOST_AUTOGUIDANCE = 10.0
MOST_CADS = 1.0
MOST_CONTROLS = 8  # ControlNets at once
MOST_TRUNCATION = 2  # standard deviation of the noise of a VAE or GAN
HIGHEST_THRESHOLD = 1000  # of Canny: the gradient from black to white is 1020
LANCZOS, LATENT = "lanczos", "latent"  # upscalers without a file; LATENT enlarges the latents before they are decoded

_STEPS, _UNREADABLE = "The number of steps", "The settings cannot be read"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ControlNetUse:
    """A ControlNet and the control image it is given."""

    network: str  # a name from the library, or a path
    image: Path
    prepare: PreprocessorName = PreprocessorName.AS_GIVEN  # the preprocessor
    scale: float = 1.0  # conditioning scale
    begins: float = 0.0  # the fraction of the steps at which it starts to act
    ends: float = 1.0  # and at which it stops
    low: int = 100  # Canny thresholds: a gradient below `low` is not an edge;
    high: int = 200  # above `high` it is one; in between it is where it continues another
    control_type: ControlTypeName = ControlTypeName.AUTO  # of the image, for a union ControlNet

    def __post_init__(self) -> None:
        object.__setattr__(self, "prepare", named(PreprocessorName, "preprocessor", self.prepare))
        object.__setattr__(self, "control_type", named(ControlTypeName, "control type", self.control_type))
        check_types(self)
        check_text("The ControlNet", self.network)
        check_range("The conditioning scale of a ControlNet", self.scale, 0.0, 4.0)
        check_range("The start of a ControlNet", self.begins, 0.0, 1.0)
        check_range("The end of a ControlNet", self.ends, 0.0, 1.0)
        check_range("The lower Canny threshold", self.low, 0, HIGHEST_THRESHOLD)
        check_range("The upper Canny threshold", self.high, 0, HIGHEST_THRESHOLD)
        if self.begins >= self.ends:
            raise BadRequest(
                f"A ControlNet starts at {self.begins:g} of the steps and ends at {self.ends:g}",
                remedy="It must end after it starts",
            )
        if self.low > self.high:
            raise BadRequest(
                f"The lower Canny threshold, {self.low}, is above the upper one, {self.high}", remedy="Swap them"
            )

    @classmethod
    def from_json(cls, values: object) -> ControlNetUse:
        known = _known(cls, {"format": FORMAT} | values) if isinstance(values, dict) else {}
        return _made(cls, {"image": Path()} | _with_paths(known, "image"))


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
        object.__setattr__(self, "sampler", named(SamplerName, "sampler", self.sampler))
        object.__setattr__(self, "spacing", named(SpacingName, "spacing", self.spacing))
        object.__setattr__(self, "times", times_of(self.times, self.steps if self.spacing in CARRIED else 0))
        object.__setattr__(self, "curve", _curve_of(self.spacing, self.curve))
        object.__setattr__(self, "resize", named(ResizeName, "resize mode", self.resize))
        object.__setattr__(self, "fill", named(FillName, "fill", self.fill))
        object.__setattr__(self, "outpaint", four_sides(self.outpaint))
        object.__setattr__(self, "guidance_interval", interval_of(self.guidance_interval))
        controls: object = self.controls
        if isinstance(controls, list):
            object.__setattr__(self, "controls", tuple(controls))
        if not has_type(self.controls, tuple[ControlNetUse, ...]):
            raise BadRequest("The settings of the ControlNets cannot be read", remedy="Choose them again")
        check_types(self)
        if len(self.controls) > MOST_CONTROLS:
            raise BadRequest(
                f"{len(self.controls)} ControlNets were given", f"the limit is {MOST_CONTROLS}", "Remove some"
            )
        check_range("The scale of the hires fix", self.enlarge, 1, MOST_ENLARGED)
        check_range("The number of hires fix steps", self.enlarge_steps, 0, MOST_STEPS)
        check_strength("The denoising strength of the hires fix", self.enlarge_strength)
        check_range("The CFG scale of the hires fix", self.enlarge_guidance or 0.0, 0.0, 100.0)
        check_text("The upscaler", self.upscaler)
        check_text("The VAE", self.vae or "none")
        if self.enlarge > 1 and (self.mask is not None or any(self.outpaint)):
            raise BadRequest(
                "Inpainting and outpainting cannot be combined with the hires fix",
                "it would change the whole image",
                "Inpaint first, then upscale the result",
            )
        check_range("The feather", self.feather, 0, 1024)
        check_range("The padding", self.padding, 0, LARGEST_SIDE)
        check_range("The number of images", self.count, 1, LARGEST_COUNT)
        check_range("The seed", self.seed, 0, LARGEST_SEED - self.count + 1)
        check_range(_STEPS, self.steps, 1, MOST_STEPS)
        check_range("The clip skip", 1 if self.clip_skip is None else self.clip_skip, 1, MOST_CLIP_SKIP)
        check_range("The CFG scale", self.guidance, 0.0, 100.0)
        check_range("The autoguidance scale", self.autoguidance_scale, 1.0, MOST_AUTOGUIDANCE)
        check_range("The CADS scale", self.cads, 0.0, MOST_CADS)
        check_range("The CADS mixing factor", self.cads_mixing, 0.0, 1.0)
        check_fractions("CADS", self.cads_tau1, self.cads_tau2)
        for name, side in (("The width", self.width), ("The height", self.height)):
            if side is not None:
                check_range(name, side, 8, LARGEST_SIDE)
        check_strength("The denoising strength", self.strength)
        check_range("The truncation", self.truncation, 0.0, MOST_TRUNCATION)
        if self.mask is not None and self.init is None:
            raise BadRequest("A mask was given without an image", remedy="Give the image to inpaint")
        if any(self.outpaint) and self.init is None:
            raise BadRequest("There is no image to outpaint", remedy="Give the image to outpaint")
        if self.masked_only and self.mask is None and not any(self.outpaint):
            raise BadRequest(
                "Generating only the masked area needs a mask", remedy="Give a mask, or generate the whole image"
            )
        check_prompts(self.prompt, self.negative)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, `format` among them; paths as text."""
        values = asdict(self) | {"format": FORMAT, "kind": "generate"}
        values["controls"] = [use | {"image": str(use["image"])} for use in values["controls"]]
        values["curve"] = self.curve.to_json() if self.curve is not None else None
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GenerateRequest:
        known = _known(cls, values)
        known = _with_curve(_with_paths(known, "init", "mask"))
        if isinstance(known.get("controls"), (list, tuple)):
            known["controls"] = tuple(ControlNetUse.from_json(use) for use in known["controls"])
        return _made(cls, known)


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
        object.__setattr__(self, "sampler", named(SamplerName, "sampler", self.sampler))
        object.__setattr__(self, "spacing", named(SpacingName, "spacing", self.spacing))
        object.__setattr__(self, "times", times_of(self.times, self.steps if self.spacing in CARRIED else 0))
        object.__setattr__(self, "curve", _curve_of(self.spacing, self.curve))
        check_types(self)
        check_range("The scale", self.scale, 1, MOST_ENLARGED)
        check_range("The seed", self.seed, 0, LARGEST_SEED)
        check_range(_STEPS, self.steps, 1, MOST_STEPS)
        check_range("The clip skip", 1 if self.clip_skip is None else self.clip_skip, 1, MOST_CLIP_SKIP)
        check_range("The CFG scale", self.guidance, 0.0, 100.0)
        check_range("The CFG scale of the img2img pass", self.enlarge_guidance or 0.0, 0.0, 100.0)
        check_strength("The denoising strength", self.strength)
        check_text("The upscaler", self.upscaler)
        check_text("The VAE", self.vae or "none")
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
        return _made(cls, {"source": Path()} | _with_curve(_with_paths(_known(cls, values), "source")))


PictureRequest: TypeAlias = GenerateRequest | UpscaleRequest  # the requests that make images


def too_large(width: int, height: int) -> str:
    return f"The image would be {width:,} × {height:,} px"


def enlarged_size(width: int, height: int, scale: float, multiple: int = 1) -> tuple[int, int]:
    """Width and height in px of an image enlarged `scale` times, rounded to `multiple`.

    BadRequest when that is too large.
    """
    size = tuple(max(multiple, round(scale * side / multiple) * multiple) for side in (width, height))
    if max(size) > LARGEST_ENLARGED or size[0] * size[1] > LARGEST_PIXELS:
        most = min(LARGEST_ENLARGED / max(width, height), (LARGEST_PIXELS / (width * height)) ** 0.5)
        raise BadRequest(
            too_large(*size),
            f"the limits are {LARGEST_ENLARGED:,} px a side and {LARGEST_PIXELS // 1_000_000} megapixels",
            f"Use a scale of at most {int(10 * most) / 10:g}" if most >= 1.1 else "It cannot be enlarged further",
        )
    return size[0], size[1]


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """Train on a folder of images, in a separate process that writes into the folder `run`."""

    folder: Path | None  # None only when a run is resumed
    recipe: str = "auto"  # a recipe's name, the path of a .toml, or `auto`: chosen from what the folder holds
    run: Path | None = None  # None for a new folder below paths.runs()
    steps: int | None = None  # None for the recipe's
    minutes: float | None = None  # a time budget, in place of steps
    resume: bool = False  # with steps or minutes: train for so much longer; with a folder: its images are there now
    start_from: str | None = None  # a checkpoint's path, `starter` or `none`; None for what the recipe says
    processes: int = 1  # on this machine; 0: one for each GPU
    machines: int = 1  # together with those that join
    port: int = PORT  # where they join

    def __post_init__(self) -> None:
        check_types(self)
        if self.steps is not None and self.minutes is not None:
            raise BadRequest("Both steps and minutes were given", remedy="Give one of them")
        if self.steps is not None:
            check_range(_STEPS, self.steps, 1, 100_000_000)
        if self.minutes is not None and not 0 < self.minutes < 1e6:
            raise BadRequest(
                f"The time to train is {shown(self.minutes)} minutes", "it must be more than 0 and less than a million"
            )
        if self.folder is None and not self.resume:
            raise BadRequest(NO_FOLDER, remedy=CHOOSE_IMAGE_FOLDER)
        Cluster(self.processes, self.machines, self.port)  # checks its limits

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.processes, self.machines, self.port)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"format": FORMAT, "kind": "train"}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainRequest:
        return _made(cls, _with_paths(_known(cls, values), "folder", "run"))


Request = GenerateRequest | UpscaleRequest | TrainRequest


def request_from_json(values: dict[str, Any]) -> Request:
    """The request in a JSON object; BadRequest for an unknown kind, or one written by a newer diffstudio."""
    match values.get("kind") if isinstance(values, dict) else None:
        case "generate":
            return GenerateRequest.from_json(values)
        case "upscale":
            return UpscaleRequest.from_json(values)
        case "train":
            return TrainRequest.from_json(values)
        case other:
            raise BadRequest(f"The request has the unknown kind {str(other)[:80]!r}")


def _known(cls: type, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise BadRequest(_UNREADABLE, "they are not a JSON object")
    stored = values.get("format", 0)
    if not isinstance(stored, int) or stored > FORMAT:
        raise BadRequest(
            f"The settings are of format {shown(stored)}", f"this program reads up to {FORMAT}", "Update diffstudio"
        )
    names = {field.name for field in fields(cls)}
    if "guide_last_call" in names:  # requests from before this setting guided every call
        values = {"guide_last_call": True} | values
    return {name: value for name, value in values.items() if name in names}


def _with_paths(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """The values with these texts as paths; anything else stays as it is, for `check_types` to refuse."""
    return values | {name: Path(values[name]) for name in names if isinstance(values.get(name), str)}


def _with_curve(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with the noise schedule read from its JSON object. BadRequest if it is not valid."""
    curve = values.get("curve")
    return values if curve is None else values | {"curve": NamedCurve.from_json(curve)}


def _curve_of(spacing: SpacingName, curve: NamedCurve | None) -> NamedCurve | None:
    """The noise schedule of a request: None with another spacing than CUSTOM. BadRequest where that has none."""
    if not (curve is None or isinstance(curve, NamedCurve)):
        raise BadRequest(f"The noise schedule is {shown(curve)}", "it must be a curve with a name")
    if spacing is not SpacingName.CUSTOM:
        return None
    if curve is None:
        raise BadRequest("The scheduler is custom, and there is no noise schedule", remedy="Choose another scheduler")
    return curve


def _made(cls: type[_T], values: dict[str, Any]) -> _T:
    try:
        return cls(**values)
    except TypeError as error:
        raise BadRequest(_UNREADABLE, str(error)) from error
