"""What a person can ask for: one frozen record for each thing, shared by the window, the command line and the files.

A request is changed with `dataclasses.replace`, never in place. Creating one checks what can be checked without
opening a checkpoint; what only the checkpoint knows (its sizes) is checked when the job starts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from diffstudio.errors import BadRequest
from diffstudio.imaging.limits import LARGEST_PIXELS

FORMAT = 1  # of the `diffstudio` JSON in pictures and in the queue
LARGEST_SEED = 2**63 - 1  # what a database column and torch's generator both hold
LONGEST_PROMPT = 10_000  # characters
LARGEST_COUNT = 1024  # images in one request
LARGEST_SIDE = 8192  # px
LARGEST_ENLARGED = 16_384  # px a side
MOST_ENLARGED = 8  # times, each side
MOST_STEPS = 1000
MOST_CONTROLS = 8  # ControlNets at once
HIGHEST_THRESHOLD = 1000  # of an edge: the slope from black to white is 1020
LANCZOS, LATENT = "lanczos", "latent"  # ways to enlarge that need no file; LATENT is of the state, before it is decoded

_T = TypeVar("_T")
_Name = TypeVar("_Name", bound=StrEnum)


class SamplerName(StrEnum):
    """The samplers by the names in `diffusion.samplers.SAMPLERS` (a test holds the two equal)."""

    EULER = "euler"
    HEUN = "heun"
    DDIM = "ddim"
    DDPM = "ddpm"
    EULER_ANCESTRAL = "euler_ancestral"
    DPMPP_2M = "dpmpp_2m"
    DPMPP_2M_SDE = "dpmpp_2m_sde"
    UNIPC = "unipc"
    LCM = "lcm"


class SpacingName(StrEnum):
    """How the times of the steps are laid between noise and image: names of `diffusion.schedule.SPACINGS`."""

    UNIFORM = "uniform"
    TRAILING = "trailing"
    LEADING = "leading"
    KARRAS = "karras"
    EXPONENTIAL = "exponential"
    LOG_SNR = "log_snr"
    ALIGN_YOUR_STEPS = "align_your_steps"


class ResizeName(StrEnum):
    """How a given picture comes to the size to be made."""

    CROP = "crop"  # scaled until it covers it, and cut
    PAD = "pad"  # scaled until it fits into it, on white
    STRETCH = "stretch"


class FillName(StrEnum):
    """What lies under the mask before it is noised."""

    ORIGINAL = "original"  # what was there
    SURROUNDINGS = "surroundings"  # the colours around it
    NOISE = "noise"
    NOTHING = "nothing"  # grey


class PreprocessorName(StrEnum):
    """What is made of a picture before a ControlNet sees it."""

    AS_GIVEN = "as_given"  # nothing: it is a depth map, or edges or a scribble drawn white on black
    CANNY = "canny"  # its edges
    SCRIBBLE = "scribble"  # its dark lines on white, as white lines on black
    INVERT = "invert"  # dark becomes light


@dataclass(frozen=True, slots=True)
class ControlNetUse:
    """A picture that steers, and the ControlNet that reads it."""

    network: str  # a name from the library, or a path
    image: Path
    prepare: PreprocessorName = PreprocessorName.AS_GIVEN
    scale: float = 1.0  # how much of what it says is heard
    begins: float = 0.0  # the part of the steps that it steers
    ends: float = 1.0
    low: int = 100  # of `canny`: a slope below is no edge,
    high: int = 200  # and one above is an edge by itself; between, where it goes on from one

    def __post_init__(self) -> None:
        object.__setattr__(self, "prepare", _named(PreprocessorName, "way to prepare a picture", self.prepare))
        _a_name("The ControlNet", self.network)
        _in_range("The strength of a ControlNet", self.scale, 0.0, 4.0)
        _in_range("The beginning of a ControlNet", self.begins, 0.0, 1.0)
        _in_range("The end of a ControlNet", self.ends, 0.0, 1.0)
        _in_range("The lower threshold of an edge", self.low, 0, HIGHEST_THRESHOLD)
        _in_range("The upper threshold of an edge", self.high, 0, HIGHEST_THRESHOLD)
        if self.begins >= self.ends:
            raise BadRequest(
                f"A ControlNet begins at {self.begins:g} of the steps and ends at {self.ends:g}",
                remedy="Let it end after it begins",
            )
        if self.low > self.high:
            raise BadRequest(
                f"The lower threshold of an edge, {self.low}, is above the upper, {self.high}", remedy="Swap them"
            )

    @classmethod
    def from_json(cls, values: object) -> ControlNetUse:
        known = _known(cls, {"format": FORMAT} | values) if isinstance(values, dict) else {}
        return _made(cls, known | {"image": Path(str(known.get("image") or "."))})


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Make `count` images from one prompt. Image i starts from seed + i."""

    prompt: str = ""
    negative: str = ""
    checkpoint: str = "starter"  # a name from the library, or a path
    seed: int = 0
    steps: int = 20
    sampler: SamplerName = SamplerName.HEUN
    spacing: SpacingName = SpacingName.UNIFORM
    guidance: float = 3.0  # 1 follows the prompt as it is; 0 ignores it
    guide_last_call: bool | None = (
        None  # whether guidance acts in the last call too; None leaves that to the checkpoint's family
    )
    width: int | None = None  # px; None is the checkpoint's own size
    height: int | None = None
    count: int = 1
    init: Path | None = None  # a picture to start from
    strength: float = 1.0  # how much of the ladder is walked from there, 0 (excluded) to 1
    mask: Path | None = None  # white is painted anew, black is kept
    resize: ResizeName = ResizeName.CROP
    fill: FillName = FillName.ORIGINAL
    feather: int = 0  # px over which what is painted fades in, inwards from the mask's edge
    masked_only: bool = False  # make the part around the mask at full size, and put it back; the rest keeps its size
    padding: int = 32  # px of surroundings that are seen then
    outpaint: tuple[int, int, int, int] = (0, 0, 0, 0)  # px to paint around the picture: left, top, right, bottom
    enlarge: float = 1.0  # how many times larger it becomes in a second pass; 1 is no second pass
    upscaler: str = LANCZOS  # by what it is enlarged before that pass: also LATENT, or an upscaler of the library
    enlarge_strength: float = 0.3  # how much of the ladder is walked again then, 0 (excluded) to 1
    enlarge_steps: int = 0  # of that ladder; 0 is as many as `steps`
    enlarge_guidance: float | None = None  # of that pass; None is `guidance`, or none of it where that spoils it
    tiled: bool = False  # that pass goes in windows, also where the checkpoint could do it whole
    controls: tuple[ControlNetUse, ...] = ()  # pictures that steer it
    vae: str = ""  # an autoencoder to use in place of the checkpoint's own: a name from the library, or a path

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampler", _named(SamplerName, "sampler", self.sampler))
        object.__setattr__(self, "spacing", _named(SpacingName, "spacing", self.spacing))
        object.__setattr__(self, "resize", _named(ResizeName, "way to resize", self.resize))
        object.__setattr__(self, "fill", _named(FillName, "fill", self.fill))
        object.__setattr__(self, "outpaint", _four(self.outpaint))
        object.__setattr__(self, "controls", tuple(self.controls))
        if not all(isinstance(use, ControlNetUse) for use in self.controls):
            raise BadRequest("The pictures that are to steer cannot be read", remedy="Choose them again")
        if len(self.controls) > MOST_CONTROLS:
            raise BadRequest(
                f"{len(self.controls)} pictures are to steer", f"at most {MOST_CONTROLS} do", "Take some away"
            )
        _in_range("The enlargement", self.enlarge, 1, MOST_ENLARGED)
        _in_range("The number of steps of the second pass", self.enlarge_steps, 0, MOST_STEPS)
        _strength("The strength of the second pass", self.enlarge_strength)
        _in_range("The guidance of the second pass", self.enlarge_guidance or 0.0, 0.0, 100.0)
        _a_name("The upscaler", self.upscaler)
        _a_name("The autoencoder", self.vae or "none")
        if self.enlarge > 1 and (self.mask is not None or any(self.outpaint)):
            raise BadRequest(
                "What is painted is not enlarged in the same go",
                "all of the picture would change",
                "Paint first, then enlarge what came of it",
            )
        _in_range("The feather", self.feather, 0, 1024)
        _in_range("The padding", self.padding, 0, LARGEST_SIDE)
        _in_range("The number of images", self.count, 1, LARGEST_COUNT)
        _in_range("The seed", self.seed, 0, LARGEST_SEED - self.count + 1)
        _in_range("The number of steps", self.steps, 1, MOST_STEPS)
        _in_range("The guidance", self.guidance, 0.0, 100.0)
        _yes_or_no("Whether the last call is guided", self.guide_last_call)
        for name, side in (("The width", self.width), ("The height", self.height)):
            if side is not None:
                _in_range(name, side, 8, LARGEST_SIDE)
        _strength("The strength", self.strength)
        if self.mask is not None and self.init is None:
            raise BadRequest("A mask was given without a picture", remedy="Give the picture to paint on with --init")
        if any(self.outpaint) and self.init is None:
            raise BadRequest("There is no picture to paint around", remedy="Give the picture with --init")
        if self.masked_only and self.mask is None and not any(self.outpaint):
            raise BadRequest(
                "Only the masked part is to be made, and there is no mask", remedy="Give a mask, or make the whole"
            )
        _prompts(self.prompt, self.negative)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, `format` among them; paths as text."""
        values = asdict(self) | {"format": FORMAT, "kind": "generate"}
        values["controls"] = [use | {"image": str(use["image"])} for use in values["controls"]]
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GenerateRequest:
        known = _known(cls, values)
        for name in ("init", "mask"):
            if known.get(name) is not None:
                known[name] = _as_path(known[name])
        if isinstance(known.get("controls"), (list, tuple)):
            known["controls"] = tuple(ControlNetUse.from_json(use) for use in known["controls"])
        return _made(cls, known)


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """Make a finished picture larger: by an upscaler alone, or, where a checkpoint is named, sampled again from there.

    `prompt` and `negative` say what the picture shows also where nothing is sampled.
    """

    source: Path  # the picture
    scale: float = 2.0  # times larger, each side
    upscaler: str = LANCZOS  # or LATENT with a checkpoint, or an upscaler of the library
    checkpoint: str = ""  # a name from the library, or a path; empty: nothing is sampled
    vae: str = ""  # likewise: an autoencoder to use in place of the checkpoint's own
    prompt: str = ""
    negative: str = ""
    strength: float = 0.3  # how much of the ladder is walked, 0 (excluded) to 1
    steps: int = 20  # of the whole ladder
    sampler: SamplerName = SamplerName.HEUN
    spacing: SpacingName = SpacingName.UNIFORM
    guidance: float = 3.0  # of the picture
    guide_last_call: bool | None = (
        None  # whether guidance acts in the last call too; None leaves that to the checkpoint's family
    )
    enlarge_guidance: float | None = (
        None  # of sampling it again; None is `guidance`, or none of it where that spoils it
    )
    seed: int = 0
    tiled: bool = False  # in windows, also where the checkpoint could do it whole

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampler", _named(SamplerName, "sampler", self.sampler))
        object.__setattr__(self, "spacing", _named(SpacingName, "spacing", self.spacing))
        _in_range("The scale", self.scale, 1, MOST_ENLARGED)
        _in_range("The seed", self.seed, 0, LARGEST_SEED)
        _in_range("The number of steps", self.steps, 1, MOST_STEPS)
        _in_range("The guidance", self.guidance, 0.0, 100.0)
        _yes_or_no("Whether the last call is guided", self.guide_last_call)
        _in_range("The guidance of sampling it again", self.enlarge_guidance or 0.0, 0.0, 100.0)
        _strength("The strength", self.strength)
        _a_name("The upscaler", self.upscaler)
        _a_name("The autoencoder", self.vae or "none")
        _prompts(self.prompt, self.negative)
        if self.upscaler == LATENT and not self.checkpoint:
            raise BadRequest(
                "Without a checkpoint there is no latent to enlarge",
                "it is how a checkpoint holds a picture",
                "Choose another upscaler, or a checkpoint",
            )

    @property
    def count(self) -> int:
        """How many pictures come of it."""
        return 1

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"format": FORMAT, "kind": "upscale"}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> UpscaleRequest:
        known = _known(cls, values)
        known["source"] = Path(str(known.get("source") or "."))
        return _made(cls, known)


PictureRequest: TypeAlias = GenerateRequest | UpscaleRequest  # what makes pictures


def enlarged_size(width: int, height: int, scale: float, multiple: int = 1) -> tuple[int, int]:
    """Width and height in px of a picture made `scale` times larger, to the nearest `multiple`.

    BadRequest when that is too large.
    """
    size = tuple(max(multiple, round(scale * side / multiple) * multiple) for side in (width, height))
    if max(size) > LARGEST_ENLARGED or size[0] * size[1] > LARGEST_PIXELS:
        most = min(LARGEST_ENLARGED / max(width, height), (LARGEST_PIXELS / (width * height)) ** 0.5)
        raise BadRequest(
            f"The picture would be {size[0]:,} × {size[1]:,} px",
            f"at most {LARGEST_ENLARGED:,} px a side and {LARGEST_PIXELS // 1_000_000} megapixels are made",
            f"Enlarge it at most {int(10 * most) / 10:g} times" if most >= 1.1 else "It is as large as can be already",
        )
    return size[0], size[1]


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """Train on a folder of pictures, in a process of its own that writes into `run`."""

    folder: Path | None  # None only when a run is resumed
    recipe: str = "auto"  # a recipe's name, the path of a .toml, or `auto`: chosen from what the folder holds
    run: Path | None = None  # None is a new folder below paths.runs()
    steps: int | None = None  # None is the recipe's own
    minutes: float | None = None  # a time to train for, in place of steps
    resume: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise BadRequest("Both steps and minutes were given", remedy="Give one of them")
        if self.steps is not None:
            _in_range("The number of steps", self.steps, 1, 100_000_000)
        if self.minutes is not None and not 0 < self.minutes < 1e6:
            raise BadRequest(f"The time to train is {self.minutes} minutes", remedy="Give more than 0")
        if self.folder is None and not self.resume:
            raise BadRequest("No folder was given", remedy="Name a folder of pictures to train on")

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"format": FORMAT, "kind": "train"}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainRequest:
        known = _known(cls, values)
        for name in ("folder", "run"):
            if known.get(name) is not None:
                known[name] = _as_path(known[name])
        return _made(cls, known)


Request = GenerateRequest | UpscaleRequest | TrainRequest


def request_from_json(values: dict[str, Any]) -> Request:
    """The request a JSON object stands for; BadRequest when it is none of ours or from a newer program."""
    match values.get("kind") if isinstance(values, dict) else None:
        case "generate":
            return GenerateRequest.from_json(values)
        case "upscale":
            return UpscaleRequest.from_json(values)
        case "train":
            return TrainRequest.from_json(values)
        case other:
            raise BadRequest(f"A request of kind {other!r} is not known here")


def _known(cls: type, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise BadRequest("The settings cannot be read", "they are no table")
    stored = values.get("format", 0)
    if not isinstance(stored, int) or stored > FORMAT:
        raise BadRequest(
            f"The settings are of format {stored!r}", f"this program reads up to {FORMAT}", "Update diffstudio"
        )
    names = {field.name for field in fields(cls)}
    if "guide_last_call" in names:  # what was written before there was a choice was drawn with every call guided
        values = {"guide_last_call": True} | values
    return {name: value for name, value in values.items() if name in names}


def _as_path(value: Any) -> Path:
    try:
        return Path(value)
    except TypeError as error:
        raise BadRequest("The settings cannot be read", f"{str(value)[:80]!r} is no path") from error


def _made(cls: type[_T], values: dict[str, Any]) -> _T:
    try:
        return cls(**values)
    except (TypeError, AttributeError) as error:
        raise BadRequest("The settings cannot be read", str(error)) from error


def _named(names: type[_Name], what: str, value: str) -> _Name:
    """Plain strings are welcome: from the command line, from JSON."""
    try:
        return names(value)
    except ValueError:
        raise BadRequest(
            f"There is no {what} called {str(value)[:80]!r}", remedy=f"Choose one of {', '.join(names)}"
        ) from None


def _four(sides: Any) -> tuple[int, int, int, int]:
    """Left, top, right, bottom; from JSON they come as a list."""
    try:
        left, top, right, bottom = sides
    except (TypeError, ValueError):
        raise BadRequest(
            f"What is to be painted around the picture is {str(sides)[:80]}",
            remedy="Give four numbers of px: left, top, right, bottom",
        ) from None
    for name, side in (("left", left), ("top", top), ("right", right), ("bottom", bottom)):
        _in_range(f"What is painted at the {name}", side, 0, LARGEST_SIDE)
    return left, top, right, bottom


def _in_range(what: str, value: float, lowest: float, highest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"{what} is {value!r}", "a number is needed")
    if not lowest <= value <= highest:
        raise BadRequest(f"{what} is {value}", f"it goes from {lowest} to {highest}")


def _strength(what: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise BadRequest(f"{what} is {value}", "it goes from just above 0 to 1")


def _yes_or_no(what: str, value: bool | None) -> None:
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"{what} is {str(value)[:80]!r}", "true, false or null is needed")


def _a_name(what: str, value: str) -> None:
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{what} is {value!r}", "a name is needed")


def _prompts(prompt: str, negative: str) -> None:
    for name, text in (("The prompt", prompt), ("The negative prompt", negative)):
        if len(text) > LONGEST_PROMPT:
            raise BadRequest(
                f"{name} has {len(text):,} characters", f"at most {LONGEST_PROMPT:,} are read", "Shorten it"
            )
