"""resolve(): find all files that a request names, once, before anything is loaded. No torch is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diffstudio.errors import NOT_FOUND_AGAIN, DiffstudioError, ImageProblem, missing_sources
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_vae
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.generation.controlnets import find_controlnets
from diffstudio.studio.generation.loras import find_lora
from diffstudio.studio.generation.textual_inversions import textual_inversion_files
from diffstudio.studio.generation.upscaler_lookup import find_upscaler
from diffstudio.studio.guidance_support import check_supported, find_weak_model
from diffstudio.studio.metadata.named_files import needed_files
from diffstudio.studio.prompts.lora_tags import lora_tags
from diffstudio.studio.prompts.wildcards import PromptVariants
from diffstudio.studio.requests import GenerateRequest, PictureRequest


@dataclass(frozen=True, slots=True)
class Resolved:
    """The files of one request."""

    checkpoint: Checkpoint | None = None  # None where an image is only upscaled
    vae: Checkpoint | None = None  # None for the checkpoint's own
    upscaler: Checkpoint | None = None  # None for the built-in ones
    loras: Mapping[str, Checkpoint] = field(default_factory=dict)  # by their names in the prompts
    weak: Checkpoint | None = None  # the weaker checkpoint for autoguidance
    controlnets: tuple[Checkpoint, ...] = ()  # one for each of the request's `controls`, in their order
    textual_inversions: Mapping[str, Checkpoint | DiffstudioError] = field(default_factory=dict)
    """All of the library by name; the error for an unreadable one. Which are used is found when prompts are encoded."""


def resolve(request: PictureRequest, library: Library, done: int = 0) -> Resolved:
    """Find the files of a request of which `done` images are saved already.

    CheckpointMissing suggests similar names. CheckpointDamaged, CheckpointUnknown for files of the wrong kind,
    BadRequest for a ControlNet of another family and for a prompt whose wildcards cannot be expanded, ImageProblem for
    a missing image.
    """
    needs_checkpoint = isinstance(request, GenerateRequest) or bool(request.checkpoint)
    return resolve_for(request, library.find(request.checkpoint) if needs_checkpoint else None, library, done)


def resolve_for(
    request: PictureRequest, checkpoint: Checkpoint | None, library: Library | None, done: int = 0
) -> Resolved:
    """As `resolve`, for a checkpoint that was found already."""
    if needed := needed_files(request):
        raise ImageProblem(
            missing_sources(needed), NOT_FOUND_AGAIN, f"Choose {'it' if len(needed) == 1 else 'them'} again"
        )
    needs_upscaler = not isinstance(request, GenerateRequest) or request.enlarge > 1
    upscaler = find_upscaler(request.upscaler, library) if needs_upscaler else None
    if checkpoint is None and not isinstance(request, GenerateRequest):
        return Resolved(upscaler=upscaler)
    if isinstance(request, GenerateRequest) and checkpoint is not None:
        check_supported(request, checkpoint)
    return Resolved(
        checkpoint,
        find_vae(library, request.vae) if request.vae else None,
        upscaler,
        {name: find_lora(library, name) for name in _lora_names(request, checkpoint, done)},
        find_weak_model(request, library, checkpoint) if isinstance(request, GenerateRequest) else None,
        find_controlnets(request, library, checkpoint) if isinstance(request, GenerateRequest) else (),
        textual_inversion_files(library) if library is not None else {},
    )


def _lora_names(request: PictureRequest, checkpoint: Checkpoint | None, done: int) -> list[str]:
    """The LoRAs in the prompts of all images that are still to be made."""
    if checkpoint is not None and checkpoint.conditioning is Conditioning.CLASS:
        return []  # the prompt is the name of a class
    prompts = [request.prompt]
    if isinstance(request, GenerateRequest):
        prompts = PromptVariants(request, checkpoint).prompts(done)
    return list(dict.fromkeys(use.name for prompt in prompts for use in lora_tags(prompt)[1]))
