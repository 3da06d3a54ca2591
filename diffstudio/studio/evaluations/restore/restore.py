"""restore(): images denoised, deblurred, inpainted or enlarged with a pixel model. Read this first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffstudio.atomic import make_folder, write_text
from diffstudio.errors import BadRequest, CheckpointDamaged, DiffstudioError, ImageProblem, listed
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.models.detection.families_table import DDPM, FAMILIES, PIXEL
from diffstudio.models.fitted_steps.distilled import check_denoises
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.models.model import Model
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.place import check_place
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.restore.image_files import (
    RestorableImage,
    encoded,
    enlarged_alpha,
    image_files,
    names_of,
    read_restorable,
    subfolders_with_images,
    unknown_pixels,
    write_image,
)
from diffstudio.studio.evaluations.restore.request import RestoreRequest, RestoreTask
from diffstudio.studio.evaluations.restore.restorer import Restored, Restorer
from diffstudio.studio.evaluations.restore.result import MEAN, RESTORED, SAMPLE, RestoredImage, RestoreResult
from diffstudio.studio.evaluations.subjects import find_checkpoint
from diffstudio.studio.generation.init_image import trained_ranges
from diffstudio.studio.prompts.prompt_notes import unused_prompt
from diffstudio.training.data.captions.mask_names import masks_of, name_stem, plain_stem

RESULT = "restore.json"  # in the request's `out`
_NAMED = 3  # images that a note names
NO_NOISE = "no noise was found, so the image is unchanged. Set a noise level to denoise it anyway"
# The row of the manual's table (resources/manual/restore.md) that a test holds this against.
STARTER_FILLS = (
    "Filled areas are invented. On held-out emoji with a ninth in the middle missing, the mean had a PSNR of 27.3 dB and a "
    "sample 26.2 dB; a smooth filling from the edges had 26.7 dB."
)
LESS_THAN_ROUNDING = "noise of {:g} of 255 is less than the rounding of 8 bits, so the image is unchanged"


def restore(
    request: RestoreRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RestoreResult:
    """Restore images into the folder `out`: the mean, a sample, and what the share between them makes of both.

    Images of any size are processed in overlapping tiles of the model's training size. Holds the accelerator, and releases
    it while images are generated. An image that cannot be restored is left out and named in the notes. DiffstudioError
    where that is every image, and for a model that cannot restore; Interrupted when `cancelled` returns True or the control
    file in `out` says stop.
    """
    checkpoint = restoring_checkpoint(request.checkpoint, library)
    if request.images.is_dir():
        check_place(request.out, (request.images,))
    make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    files = image_files(request.images)
    masks = _masks_of(files, request.mask)
    found: list[RestoredImage] = []
    notes: list[str] = []
    about: dict[str, list[str]] = {}  # what is said about images, and their names
    problems: list[DiffstudioError] = []
    with job_control.taken("restoring images"):
        on_progress(f"Loading {checkpoint.name}", 0, 0)
        model = loading.load(checkpoint, choose_device(request.device))
        check_restores(model, checkpoint.name)
        ranges, range_note = trained_ranges(checkpoint)
        limits = None if model.output.is_grey_or_rgb_of_8_bits else next(iter(model.output.limits), None)
        for number, (file, mask, name) in enumerate(zip(files, masks, names_of(files), strict=True), 1):
            job_control.check()
            try:
                picture = read_restorable(file, name, ranges, limits)
                unknown = unknown_pixels(picture, mask) if request.task is RestoreTask.INPAINT else None
            except (ImageProblem, BadRequest) as problem:
                problems.append(problem)
                notes.append(f"{file.name} was left out: {problem}")
                continue
            for note in picture.notes:
                about.setdefault(note, []).append(file.name)
            what = f"Restoring {file.name}, image {number:,} of {len(files):,}"
            restored = _with_progress(model, request, picture, unknown, job_control.check, on_progress, what)
            if restored is None:
                given = request.noise
                about.setdefault(NO_NOISE if given is None else LESS_THAN_ROUNDING.format(given), []).append(file.name)
                sample = None if request.mean_only else picture.values
                restored = Restored(picture.values, sample, given or 0.0, given is None)
            _check_finite(restored, checkpoint.name)
            found.append(_written(request, picture, unknown, restored))
    if problems and not found:
        raise problems[0]
    if skipped := subfolders_with_images(request.images):
        notes.append(f"Subfolders of {request.images.name} were not restored: {listed(skipped, _NAMED)}.")
    notes += [f"{listed(names, _NAMED)}: {what}." for what, names in about.items()]
    notes += [range_note] if range_note else []
    notes += [*unused_prompt(checkpoint, request.prompt), *_notes(checkpoint, request.task, found)]
    result = RestoreResult(checkpoint.name, request.task, found, request.share, _settings(request), notes)
    write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    return result


def restoring_checkpoint(name: str, library: Library) -> Checkpoint:
    """The checkpoint of this name, file or run. CheckpointMissing; BadRequest for one that does not denoise pixels."""
    checkpoint = find_checkpoint(name, library)
    if checkpoint.family in (PIXEL.name, DDPM) and checkpoint.can_generate:
        check_denoises(checkpoint, "restoring images")
        return checkpoint
    family = FAMILIES.get(checkpoint.family)
    if family is not None and family.one_call:
        why = "it generates each image in one network call and has no denoiser"
    elif checkpoint.family == "diffusers":
        why = "it runs in a diffusers pipeline, which is not called step by step"
    elif family is not None and family.latent and checkpoint.can_generate:
        why = "it denoises the latents of a VAE, where noise or blur of an image is no longer simple"
    else:
        why = "it is not a diffusion model of pixels"
    raise cannot_restore(checkpoint.name, why)


def check_restores(model: Model, name: str) -> None:
    """BadRequest for a model of arrays or of images with an alpha channel."""
    if not model.output.is_image or model.output.alpha:
        kind = (
            "images with transparency"
            if model.output.is_image
            else f"arrays of {count_of(model.output.channels, 'channel')}"
        )
        raise cannot_restore(name, f"it generates {kind}")


def cannot_restore(name: str, why: str) -> BadRequest:
    return BadRequest(
        f"{name} cannot restore images",
        why,
        "Choose a diffusion model of grey or RGB pixels, such as one that was trained here",
    )


def _check_finite(restored: Restored, name: str) -> None:
    """CheckpointDamaged for a model whose estimates are NaN or infinite: as pixels they would look like an image."""
    parts = [part for part in (restored.mean, restored.sample) if part is not None]
    if not all(bool(np.isfinite(part).all()) for part in parts):
        raise CheckpointDamaged(
            f"{name} cannot restore images", "it gives NaN or infinite values", "Choose another checkpoint"
        )


def _with_progress(
    model: Model,
    request: RestoreRequest,
    picture: RestorableImage,
    unknown: NDArray[np.bool_] | None,
    check: Callable[[], None],
    on_progress: OnProgress,
    what: str,
) -> Restored | None:
    done = 0

    def on_call() -> None:
        nonlocal done
        check()
        on_progress(what, min(done, calls), calls)
        done += 1

    restorer = Restorer(model, request, on_call)
    calls = restorer.calls(picture)
    return restorer.restore(picture, unknown)


def _written(
    request: RestoreRequest, picture: RestorableImage, unknown: NDArray[np.bool_] | None, restored: Restored
) -> RestoredImage:
    alpha = picture.alpha
    if unknown is not None and request.mask is None:
        alpha = None  # the transparent pixels were filled
    if request.task is RestoreTask.SUPER_RESOLUTION:
        alpha = enlarged_alpha(alpha, request.scale)
    shown = restored.mean
    if restored.sample is not None:
        shown = restored.mean + np.float32(request.share) * (restored.sample - restored.mean)

    def write(part: str, values: NDArray[np.float32]) -> str:
        return write_image(request.out, part, picture.name, encoded(values, picture.bits, alpha, picture.levels))

    height, width = shown.shape[:2]
    return RestoredImage(
        str(picture.path.absolute()),
        picture.name,
        width,
        height,
        restored.noise,
        restored.estimated,
        write(RESTORED, shown),
        write(MEAN, restored.mean),
        write(SAMPLE, restored.sample) if restored.sample is not None else "",
    )


def _masks_of(files: Sequence[Path], mask: Path | None) -> list[Path | None]:
    """The mask of each image: the file itself, or by its name in a folder of masks. ImageProblem, FolderProblem.

    BadRequest for an image without a mask, and where it is not clear which one is meant.
    """
    if mask is None or mask.is_file():
        return [mask] * len(files)
    masks = image_files(mask)
    found = masks_of([file.name for file in files], [other.name for other in masks])
    for number, file in enumerate(files):
        if number in found:
            continue
        rest = [other.name for index, other in enumerate(masks) if index not in found.values()]
        named = [name for name in rest if name_stem(file.name) in (name_stem(name), plain_stem(name))]
        if not named:
            raise BadRequest(
                f"There is no mask for {file.name}", f"no other image in {mask} is called {file.stem}", "Add one"
            )
        alike = [
            other.name
            for index, other in enumerate(files)
            if index not in found and name_stem(other.name) == name_stem(file.name)
        ]
        raise BadRequest(
            f"It is not clear which mask belongs to {file.name}",
            f"{listed(named, _NAMED)} in {mask} may belong to {listed(alike, _NAMED)}",
            "Give each mask the whole name of its image",
        )
    return [masks[found[number]] for number in range(len(files))]


def _settings(request: RestoreRequest) -> dict[str, object]:
    settings: dict[str, object] = {"steps": request.steps, "seed": request.seed}
    match request.task:
        case RestoreTask.DEBLUR:
            settings |= {"blur in px": request.blur, "draws": request.draws}
        case RestoreTask.SUPER_RESOLUTION:
            settings |= {"scale": request.scale, "draws": request.draws}
        case RestoreTask.INPAINT:
            settings |= {"draws": request.draws}
    return settings | ({"prompt": request.prompt} if request.prompt else {})


def _notes(checkpoint: Checkpoint, task: RestoreTask, found: Sequence[RestoredImage]) -> list[str]:
    notes = []
    side = max(checkpoint.width, checkpoint.height) // max(1, checkpoint.upper_factor)
    if any(max(image.width, image.height) > side for image in found):
        trained = f"the first network of {checkpoint.name}" if checkpoint.upper_factor else checkpoint.name
        tiles = f"overlapping tiles of {side} px, the size that {trained} was trained at"
        notes.append(f"Larger images were processed in {tiles}.")
    if task is RestoreTask.INPAINT and checkpoint.origin is Origin.STARTER:
        notes.append(STARTER_FILLS)
    return notes
