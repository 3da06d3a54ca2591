"""Texts of the Generate room: names and descriptions of samplers and schedulers, and one-line summaries."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.fitted_steps.ladders import NONE
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.networks.conditioning import Conditioning
from diffstudio.plurals import count_of
from diffstudio.studio.curves.saved import NamedCurve, saved_curves
from diffstudio.studio.events import Stepped
from diffstudio.studio.generation.init_image import fit_of
from diffstudio.studio.jobs.memory_forecast import MemoryForecast
from diffstudio.studio.metadata.sampler_names import SPACING_LABELS
from diffstudio.studio.prompts.lora_tags import TAG
from diffstudio.studio.prompts.token_count import PromptTokenCount
from diffstudio.studio.requests import (
    ControlNetUse,
    GenerateRequest,
    PictureRequest,
    SamplerName,
    SpacingName,
    UpscaleRequest,
)
from diffstudio.studio.requests.choices import LANCZOS, LATENT, ResizeName
from diffstudio.studio.requests.control_types import ControlTypeName
from diffstudio.ui.widgets import terms
from diffstudio.ui.widgets.formatting import human_bytes, human_count, human_duration

SAMPLERS: dict[SamplerName, tuple[str, str]] = {
    SamplerName.HEUN: ("Heun", "Second order, two network calls per step"),
    SamplerName.DPMPP_2M: ("DPM++ 2M", "Second-order multistep, one network call per step: the usual default"),
    SamplerName.UNIPC: ("UniPC", "Predictor-corrector, one network call per step: good with very few steps"),
    SamplerName.EULER: ("Euler", "First order, one network call per step: simple and predictable"),
    SamplerName.DDIM: ("DDIM", "Deterministic DDIM; the same update as Euler"),
    SamplerName.EULER_ANCESTRAL: (
        "Euler ancestral",
        "Adds noise at every step (Euler a): more varied, and does not converge",
    ),
    SamplerName.DPMPP_2M_SDE: ("DPM++ 2M SDE", "DPM++ 2M with noise at every step: more detail, needs more steps"),
    SamplerName.DDPM: ("DDPM", "The original ancestral sampler: needs many steps"),
    SamplerName.LCM: ("LCM", "For LCM-distilled models: two to eight steps"),
}
_SPACING_TIPS = {
    SpacingName.UNIFORM: "Equally spaced timesteps (normal): the usual choice",
    SpacingName.TRAILING: "Equally spaced timesteps that start at pure noise",
    SpacingName.LEADING: "Equally spaced timesteps that start below pure noise",
    SpacingName.KARRAS: "Smaller steps at low noise levels (Karras et al. 2022)",
    SpacingName.EXPONENTIAL: "Noise levels evenly spaced on a logarithmic scale",
    SpacingName.LOG_SNR: "Timesteps evenly spaced in log signal-to-noise ratio",
    SpacingName.ALIGN_YOUR_STEPS: "Published schedules optimised for each model family",
}
SCHEDULERS: dict[SpacingName, tuple[str, str]] = {
    **{name: (SPACING_LABELS[name], tip) for name, tip in _SPACING_TIPS.items()},
    SpacingName.FITTED: ("Fitted to this checkpoint", "Times found for this checkpoint, sampler and number of steps"),
    SpacingName.CUSTOM: ("Noise schedule", "Drawn in the Lab, under Noise schedule"),
}
SHORT_SCHEDULERS = {SCHEDULERS[SpacingName.FITTED][0]: SPACING_LABELS[SpacingName.FITTED]}  # in a narrow panel
CONTROL_TYPES = {
    ControlTypeName.OPENPOSE: "Pose (OpenPose)",
    ControlTypeName.DEPTH: "Depth",
    ControlTypeName.SOFT_EDGE: "Soft edge (HED, PiDiNet, TED, scribble)",
    ControlTypeName.LINES: "Lines (Canny, lineart, MLSD)",
    ControlTypeName.NORMAL: "Normal map",
    ControlTypeName.SEGMENT: "Segmentation",
    ControlTypeName.TILE: "Tile",
    ControlTypeName.REPAINT: "Repaint (inpainting)",
}
ORIGINS = {
    Origin.STARTER: "Included",
    Origin.INCLUDED: "Included",
    Origin.TRAINED: "Trained here",
    Origin.IMPORTED: "Imported",
}
_CONDITIONINGS = {Conditioning.TEXT: "text", Conditioning.CLASS: "classes", Conditioning.NONE: "unconditional"}

PAUSE_TIP = "Pause after the current network call (Ctrl+P)"
TILED = "Tiled (MultiDiffusion)"
TILED_TIP = "Process overlapping tiles to save memory. Images too large for the checkpoint are always tiled"
NOT_TILED_TIP = "A checkpoint that generates images in two levels cannot sample in tiles"
NO_CHECKPOINT = "There is no checkpoint to generate with"


def schedulers_for(
    checkpoint: Checkpoint | None, *, carried: bool = False, drawn: Sequence[NamedCurve] = ()
) -> list[tuple[SpacingName | NamedCurve, str]]:
    """The schedulers of a checkpoint: fitted steps where it has some, or where a loaded request carries them.

    Noise schedules that were saved come last, with those of `drawn` that were not.
    """
    family = family_of(checkpoint.family) if checkpoint is not None else None
    offered = set(SpacingName) - {SpacingName.CUSTOM}
    if family is None or not family.aligned:
        offered.remove(SpacingName.ALIGN_YOUR_STEPS)
    if not carried and (checkpoint is None or fitted_steps(checkpoint) == NONE):
        offered.remove(SpacingName.FITTED)
    saved = saved_curves().curves
    curves = {curve: curve.name for curve in saved} | {
        curve: f"{curve.name} (not saved)" for curve in drawn if curve not in saved
    }
    return [*((name, text) for name, (text, _) in SCHEDULERS.items() if name in offered), *curves.items()]


def scheduler_text(request: PictureRequest) -> str:
    """The name of a request's scheduler, or of its noise schedule."""
    return SCHEDULERS[request.spacing][0] if request.curve is None else request.curve.name


def summary_of(checkpoint: Checkpoint) -> str:
    """`pixel transformer · 8.5 M · 64 px`"""
    parts = [
        checkpoint.family_title or checkpoint.family,
        checkpoint.edition,
        "inpainting" if checkpoint.inpainting else "",
        human_count(checkpoint.parameters) if checkpoint.parameters else "",
    ]
    if checkpoint.width and checkpoint.height:
        square = checkpoint.width == checkpoint.height
        parts.append(f"{checkpoint.width} px" if square else f"{checkpoint.width} × {checkpoint.height} px")
    return " · ".join(part for part in parts if part)


def tooltip_of(checkpoint: Checkpoint) -> str:
    """Title, summary, origin and path, for a tooltip."""
    return (
        f"{checkpoint.title}\n{summary_of(checkpoint)} · {_CONDITIONINGS[checkpoint.conditioning]} · "
        f"{ORIGINS[checkpoint.origin].lower()}\n{checkpoint.path}"
    )


def noise_level(level: float) -> str:
    """`σ 0.61`; `σ ∞` at pure noise."""
    if math.isinf(level) or math.isnan(level):
        return "σ ∞"
    return f"σ {level:.3g}" if level >= 0.01 or level == 0 else f"σ {level:.0e}"


def step_line(event: Stepped) -> str:
    """`Step 15 of 24 · σ 0.61 · 0.04 s/step · 2 s left`"""
    parts = [
        f"Step {event.index} of {event.steps}",
        noise_level(event.noise_level),
        f"{event.seconds_per_step:.2g} s/step",
        f"{human_duration(math.ceil(event.seconds_left))} left",
    ]
    if event.count > event.batch:
        last = event.first + event.batch
        which = f"{event.first + 1}–{last}" if last > event.first + 1 else f"{last}"
        parts.insert(0, f"Image {which} of {event.count}")
    return "  ·  ".join(parts)


def step_brief(event: Stepped) -> str:
    """`Step 15 of 24 · 2 s left`, for narrow places"""
    return f"Step {event.index} of {event.steps}  ·  {human_duration(math.ceil(event.seconds_left))} left"


def token_count_texts(counted: PromptTokenCount) -> tuple[str, str, str]:
    """`23 / 75`, its tone, and a tooltip."""
    tokens = counted.tokens
    if counted.problem:
        return "template error", "warn", counted.problem
    if tokens is None:
        return "", "dim", ""
    text = f"{'about ' if counted.drawn else ''}{tokens.used} / {tokens.room}"
    if tokens.used > tokens.room:
        return (
            text,
            "warn",
            (
                f"The text encoder reads at most {tokens.room} tokens. The underlined end of the prompt is ignored, "
                "so put the most important words first"
            ),
        )
    if tokens.chunks > 1:
        return (
            text,
            "dim",
            (f"{tokens.used} tokens, encoded in {tokens.chunks} chunks of up to {tokens.room // tokens.chunks}"),
        )
    return text, "dim", f"{tokens.used} of the {tokens.room} tokens that fit in one chunk"


def memory_forecast(forecast: MemoryForecast) -> str:
    """`Needs about 3.4 GB of 24 GB free memory`; empty when it is negligible."""
    if forecast.negligible:
        return ""
    return f"Needs about {human_bytes(forecast.needed)} of {human_bytes(forecast.free)} free memory"


def memory_plan(forecast: MemoryForecast) -> str:
    """How the job is fitted into memory."""
    return (
        forecast.plan
        or "Memory for the checkpoint and the images. Cached models are unloaded when the memory is needed"
    )


def image_count(count: int) -> str:
    return count_of(count, "image")


def title_of(request: PictureRequest) -> str:
    """The prompt on one line, without LoRA tags unless there is nothing else."""
    text = _without_tags(request.prompt) or " ".join(request.prompt.split())
    return text or ("no prompt" if isinstance(request, GenerateRequest) else request.source.stem)


def _without_tags(prompt: str) -> str:
    pieces = (" ".join(piece.split()) for piece in TAG.sub(" ", prompt).split(","))
    return ", ".join(piece for piece in pieces if piece) if TAG.search(prompt) else ""


def settings_line(request: PictureRequest, *, with_seed: bool = True, not_held: Collection[str] = ()) -> str:
    """`24 steps · Heun · CFG 3 · seed 7`, or how it was upscaled; without the fields that an image does not hold."""
    if isinstance(request, UpscaleRequest):
        return upscale_line(request)
    parts = {
        "steps": f"{request.steps} step{'' if request.steps == 1 else 's'}",
        "sampler": SAMPLERS[request.sampler][0],
        "guidance": f"CFG {request.guidance:g}",
        "seed": f"seed {request.seed}" if with_seed else "",
        "enlarge": f"hires fix {request.enlarge:g}×" if request.enlarge > 1 else "",
    }
    return " · ".join(part for field, part in parts.items() if part and field not in not_held)


def upscale_line(request: UpscaleRequest) -> str:
    """`upscaled 4× with Lanczos, refined with starter at 0.3`."""
    line = f"upscaled {request.scale:g}× with {upscaler(request.upscaler)}"
    return (
        f"{line}, refined with {Path(request.checkpoint).stem} at {request.strength:g}" if request.checkpoint else line
    )


# The settings of an image, as a table


def request_facts(request: PictureRequest, checkpoint: str, not_held: Collection[str] = ()) -> list[tuple[str, str]]:
    """The settings of a request as (name, value), in the order of the Generate panel; `checkpoint` is how to call it.

    `not_held` are fields that an image does not hold, which are left out.
    """
    values = {
        "checkpoint": (terms.CHECKPOINT, checkpoint),
        "steps": (terms.STEPS, str(request.steps)),
        "guidance": (terms.CFG_SCALE, f"{request.guidance:g}"),
        "sampler": (terms.SAMPLER, SAMPLERS[request.sampler][0]),
        "spacing": (terms.SCHEDULER, scheduler_text(request)),
        "seed": (terms.SEED, str(request.seed)),
    }
    sampling = [fact for field, fact in values.items() if field not in not_held]
    if isinstance(request, UpscaleRequest):
        upscaled = [
            ("Upscaled", f"{request.scale:g}× with {upscaler(request.upscaler)}"),
            ("Source", request.source.name),
        ]
        strength = [(terms.DENOISING_STRENGTH, f"{request.strength:g}")]
        return [*upscaled, *sampling, *strength] if request.checkpoint else upscaled
    facts = list(sampling)
    if request.init is not None:
        facts += [(terms.INIT_IMAGE, request.init.name), (terms.DENOISING_STRENGTH, f"{request.strength:g}")]
    if request.mask is not None:
        facts.append((terms.MASK, request.mask.name))
    if any(request.outpaint):
        facts.append((terms.OUTPAINT, outpaint_text(request.outpaint)))
    facts += [(terms.CONTROLNET, controlnet_text(use)) for use in request.controls]
    if request.vae:
        facts.append((terms.VAE, Path(request.vae).stem))
    facts += guidance_facts(request)
    if request.enlarge > 1:
        larger = f"{request.enlarge:g}× with {upscaler(request.upscaler)}"
        facts.append((terms.HIRES_FIX, f"{larger}, denoising strength {request.enlarge_strength:g}"))
    return facts


def guidance_facts(request: GenerateRequest) -> list[tuple[str, str]]:
    """Guidance interval, autoguidance and CADS as (name, value) if they are on."""
    facts = []
    if request.guidance_interval is not None:
        facts.append((terms.GUIDANCE_INTERVAL, f"{value_text(request.guidance_interval)} of the noise"))
    if request.autoguidance:
        weak = Path(request.autoguidance).name.removesuffix(".safetensors")
        facts.append((terms.AUTOGUIDANCE, f"away from {weak}, scale {request.autoguidance_scale:g}"))
    if request.cads > 0:
        taus = value_text((request.cads_tau1, request.cads_tau2))
        mixing = f", mixing {request.cads_mixing:g}" if request.cads_mixing < 1 else ""
        facts.append((terms.CADS, f"{request.cads:g}, tau {taus}{mixing}"))
    return facts


def controlnet_text(use: ControlNetUse) -> str:
    """`pose.png as Pose (OpenPose), union at 0.8`; without the control type where none was chosen."""
    image = use.image.name
    if use.control_type is not ControlTypeName.AUTO:
        image = f"{image} as {CONTROL_TYPES[use.control_type]}"
    return f"{image}, {Path(use.network).stem} at {use.scale:g}"


def outpaint_text(outpaint: tuple[int, int, int, int]) -> str:
    """`32 px right, 16 px below`"""
    names = ("left", "above", "right", "below")
    return ", ".join(f"{pixels:,} px {name}" for pixels, name in zip(outpaint, names, strict=True) if pixels)


RESIZE_MODES = [
    (ResizeName.CROP, "Crop and resize"),
    (ResizeName.PAD, "Resize and pad"),
    (ResizeName.STRETCH, "Just resize (stretch)"),
]


def fit_text(source: tuple[int, int], size: tuple[int, int], mode: ResizeName) -> str:
    """What a resize mode does to an image of `source` px for a result of `size` px; empty if the aspect ratio is kept.

    `Crops 12% left and right (64 px each)`
    """
    if source[0] * size[1] == source[1] * size[0]:
        return ""
    fit = fit_of(source, size, mode)
    match mode:
        case ResizeName.CROP:
            return f"Crops {_border_text(fit.kept[:2], source, '')}"
        case ResizeName.PAD:
            return f"Pads {_border_text(fit.placed[:2], size, ' with white')}"
        case ResizeName.STRETCH:
            ratio = size[0] * source[1] / (size[1] * source[0])
            return f"Stretches the {'width' if ratio > 1 else 'height'} by {_percent(max(ratio, 1 / ratio) - 1)}"


def _border_text(border: tuple[float, ...], size: tuple[int, int], how: str) -> str:
    axis = 0 if border[0] > border[1] else 1
    pixels = f"{border[axis]:,.0f} px each" if border[axis] >= 1 else "less than 1 px each"
    where = ("left and right", "top and bottom")[axis]
    return f"{_percent(border[axis] / size[axis])} {where}{how} ({pixels})"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{max(share, 0.001):.1%}"


def one_of(request: PictureRequest, index: int) -> PictureRequest:
    """The request for image `index` alone."""
    return replace(request, seed=request.seed + index, count=1) if isinstance(request, GenerateRequest) else request


SCALES = ((1.5, "1.5×"), (2.0, "2×"), (3.0, "3×"), (4.0, "4×"))
SCALE_TIPS = tuple(f"{text} the width and height" for _, text in SCALES)


def nearest_scale(scale: float) -> float:
    return min((choice for choice, _ in SCALES), key=lambda choice: abs(choice - scale))


def upscaler(name: str) -> str:
    return {LANCZOS: "Lanczos", LATENT: "latent"}.get(name, name)


def missing_upscaler(name: str) -> str:
    return f"The upscaler “{name}” is missing; Lanczos is used instead."


def upscalers_of(models: Sequence[Checkpoint], *, latent: bool) -> list[tuple[str, str]]:
    """(name, label) of the upscalers; with `latent`, also resizing in latent space."""
    files = [(model.name, model.title) for model in models if model.enlarges]
    return [
        (LANCZOS, "Lanczos: fast, smooth"),
        *([(LATENT, "Latent: needs a denoising strength above 0.5")] if latent else []),
        *files,
    ]


def value_text(value: object) -> str:
    """The value of a setting in a sentence."""
    match value:
        case None:
            return "default"
        case bool():
            return "on" if value else "off"
        case int() | float():
            return f"{value:g}"
        case (int() | float() as low, int() | float() as high):
            return f"{low:g} to {high:g}"
    return str(value)
