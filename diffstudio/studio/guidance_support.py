"""The kinds of guidance that a checkpoint supports, and suitable weaker checkpoints for autoguidance. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.fitted_steps.distilled import distilled
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.requests import GenerateRequest

# Families that are sampled step by step here; every other family has its own sampler.
_STEPPED = ("pixel", "ddpm", "sd1", "sd2", "sdxl", "sdxl_refiner", "sd3", "flux", "z_image", "qwen_image")
_USUAL_SHARE = 1 / 8  # of the training steps, for the suggested weaker checkpoint: 2406.02507 uses 1/16 to 1/3


@dataclass(frozen=True, slots=True)
class GuidanceSupport:
    """For each kind of guidance, a clause that says why a checkpoint does not support it; empty if it does."""

    interval: str = ""
    autoguidance: str = ""
    cads: str = ""


def guidance_support(checkpoint: Checkpoint) -> GuidanceSupport:
    family = family_of(checkpoint.family)
    title = family.title if family is not None else checkpoint.family
    if checkpoint.family not in _STEPPED:
        why = f"its images are not sampled step by step here (family: {title})"
        return GuidanceSupport(why, why, why)
    if distilled(checkpoint) is not None:
        why = "it was distilled to few steps, and its guidance is built in"
        return GuidanceSupport(why, why, why)
    if checkpoint.conditioning is Conditioning.NONE:
        return GuidanceSupport("it is unconditional, so CFG has no effect", "", "it is unconditional")
    if checkpoint.family == "flux":
        return GuidanceSupport(f"{title} uses distilled guidance, an input of its network")
    return GuidanceSupport()


def check_supported(request: GenerateRequest, checkpoint: Checkpoint) -> None:
    """BadRequest that names the guidance of a request that the checkpoint does not support."""
    support = guidance_support(checkpoint)
    interval = request.guidance_interval is not None and not request.autoguidance
    for asked, what, why in (
        (interval, "a guidance interval", support.interval),
        (bool(request.autoguidance), "autoguidance", support.autoguidance),
        (request.cads > 0, "CADS", support.cads),
    ):
        if asked and why:
            raise BadRequest(
                f"{checkpoint.name} does not support {what}",
                why,
                f"Turn {what.removeprefix('a ')} off, or choose another checkpoint",
            )


def find_weak_model(
    request: GenerateRequest, library: Library | None, checkpoint: Checkpoint | None
) -> Checkpoint | None:
    """The weaker checkpoint of a request, or None. CheckpointMissing; BadRequest if it does not fit."""
    if not request.autoguidance or library is None:
        return None
    found = library.find(request.autoguidance)
    if checkpoint is not None and (why := misfit(found, checkpoint)):
        raise BadRequest(
            f"{found.name} cannot be used to guide {checkpoint.name}",
            why,
            "Choose an earlier checkpoint of the same run, or a weaker one of the same family",
        )
    return found


def misfit(weak: Checkpoint, checkpoint: Checkpoint) -> str:
    """A clause that says why autoguidance cannot use `weak` with a checkpoint; empty if it can."""
    if weak.path == checkpoint.path:
        return "it is the same checkpoint"
    if not weak.can_generate:
        return "it does not generate images"
    if weak.family != checkpoint.family:
        return "it is of another family"
    if weak.conditioning is not checkpoint.conditioning:
        return f"its conditioning is {weak.conditioning}, not {checkpoint.conditioning}"
    if distilled(weak) is not None:
        return "it was distilled to few steps"
    if weak.inpainting != checkpoint.inpainting:
        return "only one of them is an inpainting checkpoint"
    if weak.classes != checkpoint.classes:
        return "its classes differ"
    sides = (weak.width, weak.height), (checkpoint.width, checkpoint.height)
    if weak.family == "pixel" and sides[0] != sides[1]:
        return f"it was trained at {sides[0][0]} × {sides[0][1]} px, not at {sides[1][0]} × {sides[1][1]} px"
    return ""


def fitting(checkpoint: Checkpoint, models: Iterable[Checkpoint]) -> list[Checkpoint]:
    """The models that autoguidance can use with a checkpoint."""
    if guidance_support(checkpoint).autoguidance:
        return []
    return [model for model in models if not misfit(model, checkpoint)]


@dataclass(frozen=True, slots=True)
class EarlierCheckpoint:
    """A checkpoint of the same run with fewer training steps than the guided one."""

    path: Path
    step: int


def earlier_checkpoints(checkpoint: Checkpoint) -> list[EarlierCheckpoint]:
    """The earlier checkpoints of a checkpoint's run, by step; empty if it is not part of a run."""
    path, last = checkpoint.path, _step_of(checkpoint)
    if last is None or path.parent.name != "checkpoints":
        return []
    try:
        others = [other for other in path.parent.glob("*.safetensors") if other.stem.isdecimal()]
    except OSError:
        return []
    found = [EarlierCheckpoint(other, int(other.stem)) for other in others if 0 < int(other.stem) < last]
    return sorted(found, key=lambda one: one.step)


def suggested(earlier: list[EarlierCheckpoint], checkpoint: Checkpoint) -> EarlierCheckpoint | None:
    """The checkpoint nearest to an eighth of the training steps; None if there are none."""
    last = _step_of(checkpoint) or 0
    return min(earlier, key=lambda one: abs(one.step - _USUAL_SHARE * last), default=None)


def _step_of(checkpoint: Checkpoint) -> int | None:
    """The training step of a checkpoint trained here."""
    if checkpoint.path.stem.isdecimal():
        return int(checkpoint.path.stem)
    try:
        steps = checkpoint.json("run")["steps"]
    except (CheckpointDamaged, KeyError, TypeError):
        return None
    return steps if isinstance(steps, int) else None
