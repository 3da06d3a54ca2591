"""What the Generate room calls things: labels and explanations of samplers, spacings, checkpoints, steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diffstudio.models.checkpoint import Checkpoint, Origin, Role
from diffstudio.models.detection.families_table import Family, family_of, recommended_settings
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import Stepped
from diffstudio.studio.jobs.memory_forecast import MemoryForecast
from diffstudio.studio.prompts.lora_tags import TAG
from diffstudio.studio.prompts.token_count import Counted
from diffstudio.studio.requests import (
    LANCZOS,
    LATENT,
    GenerateRequest,
    PictureRequest,
    SamplerName,
    SpacingName,
    UpscaleRequest,
)
from diffstudio.ui.widgets.formatting import human_bytes, human_count, human_duration

SAMPLERS: dict[SamplerName, tuple[str, str]] = {
    SamplerName.HEUN: ("Heun", "Two calls a step, exact to second order: fine pictures from 15 to 30 steps"),
    SamplerName.DPMPP_2M: ("DPM++ 2M", "One call a step, remembers the one before: the quick all-rounder"),
    SamplerName.UNIPC: ("UniPC", "Predicts and corrects with one call a step: good with very few steps"),
    SamplerName.EULER: ("Euler", "The plainest: one call a step, straight on"),
    SamplerName.DDIM: ("DDIM", "Euler's older name, with its own way of counting"),
    SamplerName.EULER_ANCESTRAL: ("Euler ancestral", "Adds fresh noise at every step: livelier, and never settles"),
    SamplerName.DPMPP_2M_SDE: ("DPM++ 2M SDE", "DPM++ 2M with fresh noise: more detail, wants more steps"),
    SamplerName.DDPM: ("DDPM", "The original random walk: wants many steps"),
    SamplerName.LCM: ("LCM", "For distilled models that need two to eight steps"),
}
SPACINGS: dict[SpacingName, tuple[str, str]] = {
    SpacingName.UNIFORM: ("Uniform", "Steps of equal length: the usual choice"),
    SpacingName.TRAILING: ("Trailing", "Equal steps that begin at pure noise"),
    SpacingName.LEADING: ("Leading", "Equal steps that end close to the picture"),
    SpacingName.KARRAS: ("Karras", "Small steps near the picture, long ones in the noise"),
    SpacingName.EXPONENTIAL: ("Exponential", "Every step divides the noise by the same number"),
    SpacingName.LOG_SNR: ("Log-SNR", "Equal steps in the logarithm of signal to noise"),
    SpacingName.ALIGN_YOUR_STEPS: ("Align your steps", "Times that were found best for one family of models"),
}
_ORIGINS = {Origin.STARTER: "comes with diffstudio", Origin.TRAINED: "trained here", Origin.IMPORTED: "imported"}
_CONDITIONINGS = {Conditioning.TEXT: "text", Conditioning.CLASS: "classes", Conditioning.NONE: "unconditional"}


def spacings_for(checkpoint: Checkpoint | None) -> list[tuple[SpacingName, str]]:
    family = family_of(checkpoint.family) if checkpoint is not None else None
    aligned = family is not None and family.aligned
    return [(name, text) for name, (text, _) in SPACINGS.items() if aligned or name is not SpacingName.ALIGN_YOUR_STEPS]


def usual_for(checkpoint: Checkpoint) -> Family | None:
    """The settings to begin with: those that the makers of its family recommend."""
    return recommended_settings(checkpoint.family, checkpoint.edition, f"{checkpoint.path.stem} {checkpoint.title}")


def kind_of(checkpoint: Checkpoint) -> str:
    """`pixel transformer · 8.5 M · 64 px`"""
    family = family_of(checkpoint.family)
    parts = [
        family.title if family is not None else checkpoint.family,
        checkpoint.edition,
        "paints" if checkpoint.inpainting else "",
        human_count(checkpoint.parameters) if checkpoint.parameters else "",
    ]
    if checkpoint.width and checkpoint.height:
        square = checkpoint.width == checkpoint.height
        parts.append(f"{checkpoint.width} px" if square else f"{checkpoint.width} × {checkpoint.height} px")
    return " · ".join(part for part in parts if part)


def about(checkpoint: Checkpoint) -> str:
    """Everything in one tooltip."""
    return (
        f"{checkpoint.title}\n{kind_of(checkpoint)} · {_CONDITIONINGS[checkpoint.conditioning]} · "
        f"{_ORIGINS[checkpoint.origin]}\n{checkpoint.path}"
    )


def noise_level(level: float) -> str:
    """`σ 0.61`; what is infinite at pure noise is said so."""
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
    if event.count > max(1, len(event.previews)):
        last = event.first + max(1, len(event.previews))
        which = f"{event.first + 1}–{last}" if last > event.first + 1 else f"{last}"
        parts.insert(0, f"Image {which} of {event.count}")
    return "  ·  ".join(parts)


def step_brief(event: Stepped) -> str:
    """`Step 15 of 24 · 2 s left`, where there is little room"""
    return f"Step {event.index} of {event.steps}  ·  {human_duration(math.ceil(event.seconds_left))} left"


def token_count(counted: Counted) -> tuple[str, str, str]:
    """`23 / 75`; the tone of it; and what it means."""
    tokens = counted.tokens
    if counted.problem:
        return "cannot be filled in", "warn", counted.problem
    if tokens is None:
        return "", "faint", ""
    said = f"{'about ' if counted.drawn else ''}{tokens.used} / {tokens.room}"
    if tokens.used > tokens.room:
        return (
            said,
            "warn",
            (
                f"This checkpoint reads {tokens.room} tokens (words, or pieces of them) and no more: what is "
                "underlined at the end is not read. Say the most important things first"
            ),
        )
    if tokens.chunks > 1:
        return (
            said,
            "faint",
            (
                f"{tokens.used} tokens (words, or pieces of them), read in {tokens.chunks} parts of up to "
                f"{tokens.room // tokens.chunks}"
            ),
        )
    return said, "faint", f"{tokens.used} tokens (words, or pieces of them) of the {tokens.room} that are read at once"


def memory(needs: MemoryForecast) -> str:
    """`Takes about 3.4 GB of the 24 GB that are free`; empty where that is next to nothing."""
    if needs.negligible:
        return ""
    return f"Takes about {human_bytes(needs.needed)} of the {human_bytes(needs.free)} that are free"


def memory_plan(needs: MemoryForecast) -> str:
    """What is done about it."""
    return (
        needs.plan
        or "Memory for the checkpoint and the pictures; models that are kept loaded make room when it is needed"
    )


def pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def title_of(request: PictureRequest) -> str:
    """What was asked for, without the tags of LoRAs, where there is more."""
    text = _without_tags(request.prompt) or " ".join(request.prompt.split())
    return text or ("no prompt" if isinstance(request, GenerateRequest) else request.source.stem)


def _without_tags(prompt: str) -> str:
    pieces = (" ".join(piece.split()) for piece in TAG.sub(" ", prompt).split(","))
    return ", ".join(piece for piece in pieces if piece) if TAG.search(prompt) else ""


def settings_line(request: PictureRequest) -> str:
    """`24 steps · Heun · guidance 3 · seed 7`, or what it is enlarged by"""
    if isinstance(request, UpscaleRequest):
        return enlarged_line(request)
    line = (
        f"{request.steps} steps · {SAMPLERS[request.sampler][0]} · guidance {request.guidance:g} · seed {request.seed}"
    )
    return f"{line} · enlarged {request.enlarge:g}×" if request.enlarge > 1 else line


def enlarged_line(request: UpscaleRequest) -> str:
    """`enlarged 4× by Lanczos, finer with starter at 0.3`"""
    line = f"enlarged {request.scale:g}× by {upscaler(request.upscaler)}"
    return f"{line}, finer with {Path(request.checkpoint).stem} at {request.strength:g}" if request.checkpoint else line


def one_of(request: PictureRequest, index: int) -> PictureRequest:
    """The request for one of its pictures alone."""
    return replace(request, seed=request.seed + index, count=1) if isinstance(request, GenerateRequest) else request


SCALES = ((1.5, "1.5×"), (2.0, "2×"), (3.0, "3×"), (4.0, "4×"))
SCALE_TIPS = tuple(f"{text} as wide and as high" for _, text in SCALES)


def nearest_scale(wanted: float) -> float:
    return min((scale for scale, _ in SCALES), key=lambda scale: abs(scale - wanted))


def upscaler(name: str) -> str:
    return {LANCZOS: "Lanczos", LATENT: "latent"}.get(name, name)


def upscalers_of(models: Sequence[Checkpoint], *, latent: bool) -> list[tuple[str, str]]:
    """(name, text) of what may enlarge a picture: with `latent` also the checkpoint's own way to hold it."""
    files = [(model.name, model.title) for model in models if model.role is Role.UPSCALER]
    return [
        (LANCZOS, "Lanczos: smooth, quick"),
        *([(LATENT, "Latent: wants a strength above 0.5")] if latent else []),
        *files,
    ]
