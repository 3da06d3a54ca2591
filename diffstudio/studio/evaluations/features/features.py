"""features(): the features of images in a denoiser, by layer and noise level, probed and exported. Read this first."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffstudio.atomic import atomic_write, make_folder, write_text
from diffstudio.diffusion.denoiser import alpha_sigma
from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.evaluation.even_spacing import spread
from diffstudio.evaluation.probes.parts import FEWEST_OF_A_CLASS, Parts, split_parts
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import FAMILIES, is_trained_here
from diffstudio.models.inspection.features import block_features
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.memory.lease import Lease
from diffstudio.models.memory.oom_fallback import images_at_once
from diffstudio.models.model import IN_A_PIPELINE, IN_ONE_CALL, Model
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.features.probing import Probing, small_pixels
from diffstudio.studio.evaluations.features.request import AUTO, FeaturesRequest
from diffstudio.studio.evaluations.features.result import FeaturesResult
from diffstudio.studio.evaluations.folders.reading import read_real
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run
from diffstudio.studio.evaluations.job_control import EvaluationJobControl
from diffstudio.studio.evaluations.place import check_place
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.samples import CheckedDenoiser
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_checkpoint, find_subjects, folder_of, run_of
from diffstudio.training.recipe import DataRecipe
from diffstudio.training.run.setup import left_out

RESULT, FEATURES, IDS = "features.json", "features.npy", ("ids.csv", "ids.json")  # in the request's `out`
_AT_ONCE = 32  # images in one call of the network, at most
_USUAL_LEVEL = 0.1  # that is exported where there is no probe


def features(
    request: FeaturesRequest,
    library: Library,
    *,
    on_progress: OnProgress = lambda what, done, total: None,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> FeaturesResult:
    """Compute and probe the features of a folder's images in a checkpoint; writes into `out`, if given.

    Features are those of an empty prompt. Holds the accelerator, and releases it while images are generated.
    DiffstudioError for a checkpoint without blocks that can be read, and for a folder without images; Interrupted when
    `cancelled` returns True or the control file in `out` says stop.
    """
    check_place(request.out, (request.folder,))
    if request.out is not None:
        make_folder(request.out)
    job_control = EvaluationJobControl(Lease(), cancelled, request.out, on_wait)
    checkpoint = find_checkpoint(request.checkpoint, library)
    if checkpoint.can_generate and FAMILIES[checkpoint.family].one_call:
        raise _no_blocks(checkpoint, IN_ONE_CALL)
    device = choose_device(request.device)
    real, held_out, notes = _folder(request, checkpoint, library, on_progress, job_control.check)
    with job_control.taken(f"computing features of {request.folder.name}"):
        on_progress(f"Loading {checkpoint.name}", 0, 0)
        model = loading.load(checkpoint, device, torch.float32, cancelled=cancelled, library=library)
        _check_layers(request, checkpoint, model)
        notes += [*left_out(real.report, real.dataset.skipped, real.dataset.unfit), *model.load_notes]
        computing = _Computing(request, checkpoint, model, real, held_out, job_control.check, on_progress)
        result, exported = computing.result(notes)
    if request.out is not None:
        with atomic_write(request.out / FEATURES, f"{FEATURES} cannot be written") as file:
            np.save(file, exported, allow_pickle=False)
        for name, text in zip(IDS, computing.ids(), strict=True):
            write_text(request.out / name, text)
        write_text(request.out / RESULT, json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    return result


def _folder(
    request: FeaturesRequest,
    checkpoint: Checkpoint,
    library: Library,
    on_progress: OnProgress,
    check: Callable[[], None],
) -> tuple[RealFolder, bool, list[str]]:
    """The folder as the checkpoint reads images, whether its held-out part is that of a run, and notes."""
    if not is_trained_here(checkpoint.family):
        side = min(checkpoint.width or 512, checkpoint.height or 512)
        data = DataRecipe(size=side, fit="crop", held_out=0.0, flips=0.0, channels=3, bits=8)
        return read_real(request.folder, data, on_progress, check), False, []
    (subject,) = find_subjects((str(checkpoint.path),), library)
    assert isinstance(subject, CheckpointSubject)
    real = read_real(request.folder, subject.recipe.data, on_progress, check)
    run = run_of(subject)
    if run is None or folder_of(run) != real.report.folder.resolve():
        return real, False, ["The images may have been trained on: the folder is not known to be that of the run."]
    real, note = with_split_of_run(real, [subject], on_progress, check)
    return real, bool(len(real.held_out)), [note] if note else []


def _check_layers(request: FeaturesRequest, checkpoint: Checkpoint, model: Model) -> None:
    names = [block.name for block in model.blocks]
    if not names:
        raise _no_blocks(checkpoint, IN_A_PIPELINE)
    if request.layer not in (AUTO, *names):
        raise BadRequest(
            f"{checkpoint.name} has no layer {request.layer!r}", remedy=f"Choose one of {', '.join(names)}"
        )


def _no_blocks(checkpoint: Checkpoint, why: str) -> BadRequest:
    return BadRequest(
        f"The features of {checkpoint.name} cannot be read", why, "Choose a diffusion model of another family"
    )


@dataclass(frozen=True)
class _Computing:
    """Features of one folder in progress."""

    request: FeaturesRequest
    checkpoint: Checkpoint
    model: Model
    real: RealFolder
    uses_held_out: bool  # as the test part
    check: Callable[[], None]
    on_progress: OnProgress

    @property
    def indices(self) -> NDArray[np.int64]:
        """The images, evenly spaced where there are more than are asked for."""
        count = len(self.real.dataset)
        return spread(count, min(count, self.request.count))

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.real.dataset.labels[self.indices]

    @property
    def probed(self) -> NDArray[np.bool_]:
        """[N]: the images of classes that have enough images for each part."""
        labels = self.labels
        counts = np.bincount(labels, minlength=len(self.real.dataset.classes))
        named = np.array([bool(name) for name in self.real.dataset.classes])
        return np.asarray(((counts >= FEWEST_OF_A_CLASS) & named)[labels], np.bool_)

    def parts(self) -> Parts:
        """Of the images that are probed, by their places among them."""
        chosen = self.indices[self.probed]
        held_out = np.flatnonzero(self.real.dataset.held_out[chosen]) if self.uses_held_out else None
        if held_out is not None and len(np.unique(self.real.dataset.labels[chosen[held_out]])) < 2:
            held_out = None
        return split_parts(self.real.dataset.labels[chosen], self.request.seed, held_out)

    def result(self, notes: list[str]) -> tuple[FeaturesResult, NDArray[np.float32]]:
        """The result, and the exported features [N,D]."""
        blocks, levels = [block.name for block in self.model.blocks], self.request.levels
        probed = self.probed
        known = sorted(set(self.labels[probed].tolist()))
        parts, probing = None, None
        if len(known) >= 2:
            parts = self.parts()
            labels = np.searchsorted(known, self.labels[probed])
            probing = Probing(labels, len(known), parts, (len(blocks), len(levels)), self.check)
        exported, at = np.zeros((0, 0), np.float32), self._exported(blocks)
        dimensions = [0] * len(blocks)
        for number, level in enumerate(levels):
            for layer, found in enumerate(self._at_level(level)):
                dimensions[layer] = found.shape[1]
                best = False
                if probing is not None:
                    self.on_progress(f"Probing at noise level {level:g}", layer, len(blocks))
                    best = probing.add(layer, number, found[probed])
                if (layer, number) == at or at is None and best:
                    exported, chosen = found, (layer, number)
        accuracy = {}
        if probing is not None:
            pixels = self._pixels(self.indices[probed])
            accuracy = probing.result(blocks, levels, pixels)
        notes += self._notes(int((~probed).sum()), parts is not None)
        if parts is not None and (shared := self._in_two_parts(parts)):
            notes.append(
                f"The accuracies may be too high: of {count_of(shared, 'pair')} of duplicates "
                f"or near-duplicates, the images are in different "
                "parts of the probe."
            )
        sizes = {"training": parts.training, "validation": parts.validation, "test": parts.test} if parts else {}
        result = FeaturesResult(
            self.checkpoint.name,
            str(self.real.report.folder),
            len(self.indices),
            blocks,
            list(levels),
            dimensions,
            [self.real.dataset.classes[label] for label in known] if parts is not None else [],
            {name: len(part) for name, part in sizes.items()},
            accuracy,
            blocks[chosen[0]],
            levels[chosen[1]],
            [FEATURES, *IDS] if self.request.out is not None else [],
            notes,
        )
        return result, exported

    def ids(self) -> tuple[str, str]:
        """The images in the order of the exported rows, as CSV and as JSON."""
        probed, part_of = self.probed, {}
        if len(set(self.labels[probed].tolist())) >= 2:
            parts = self.parts()
            part_of = {int(row): parts.name_of(place) for place, row in enumerate(np.flatnonzero(probed))}
        rows = [
            (
                number,
                self.real.dataset.paths[index].as_posix(),
                self.real.dataset.classes[label],
                part_of.get(number, ""),
            )
            for number, (index, label) in enumerate(zip(self.indices, self.labels, strict=True))
        ]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("row", "path", "class", "part"))
        writer.writerows(rows)
        listed = [{"row": row, "path": path, "class": name, "part": part} for row, path, name, part in rows]
        return file.getvalue(), json.dumps({"format": 1, "images": listed}, ensure_ascii=False, indent=1)

    def _exported(self, blocks: Sequence[str]) -> tuple[int, int] | None:
        """The layer and the level that are exported; None for the best of a probe."""
        request = self.request
        has_probe = len(set(self.labels[self.probed].tolist())) >= 2
        if request.layer == AUTO and request.level is None and has_probe:
            return None
        layer = len(blocks) // 2 if request.layer == AUTO else blocks.index(request.layer)
        level = request.level or min(request.levels, key=lambda one: abs(math.log(one / _USUAL_LEVEL)))
        return layer, request.levels.index(level)

    def _at_level(self, level: float) -> list[NDArray[np.float32]]:
        """The features [N,D] of each block at one noise level."""
        model, indices = self.model, self.indices
        at_once = max(1, min(_AT_ONCE, images_at_once(model, *self.real.dataset.size)))
        found: list[list[NDArray[np.float32]]] = [[] for _ in model.blocks]
        time = level * float(model.schedule.t_max)
        guidance = model.guidance if math.isinf(model.unguided_scale) else model.unguided_scale
        what = f"Features at noise level {level:g}"
        for first in range(0, len(indices), at_once):
            self.on_progress(what, first, len(indices))
            chosen = indices[first : first + at_once]
            states = self._states(chosen)
            t = torch.full((len(chosen),), time, dtype=torch.float64)
            alpha, sigma = alpha_sigma(model.schedule, t, states)
            noisy = alpha * states + sigma * self._noise(chosen, states)
            denoiser = CheckedDenoiser(model.denoiser(model.encode_prompt("", count=len(chosen)), guidance), self.check)
            for block, values in enumerate(block_features(denoiser, model.blocks, noisy, t, self.request.pool)):
                if not bool(torch.isfinite(values).all()):
                    raise CheckpointDamaged(
                        f"The features of {self.checkpoint.name} have NaN or infinite values",
                        remedy="Choose another checkpoint",
                    )
                found[block].append(values.cpu().numpy())
        self.on_progress(what, len(indices), len(indices))
        return [np.concatenate(rows) for rows in found]

    def _states(self, indices: NDArray[np.int64]) -> Tensor:
        images = self.real.dataset.batch(indices, usual_size=True).to(self.model.device)
        return self.model.encode_image(images) if self.model.is_latent else images

    def _noise(self, indices: NDArray[np.int64], like: Tensor) -> Tensor:
        """Noise of each image, the same at all levels and in any batch."""
        seeds = [(self.request.seed * 1_000_003 + int(index)) % 2**63 for index in indices]
        rows = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows).to(like)

    def _pixels(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        batches = [indices[first : first + _AT_ONCE] for first in range(0, len(indices), _AT_ONCE)]
        return np.concatenate(
            [small_pixels(self.real.dataset.batch(batch, usual_size=True).numpy()) for batch in batches]
        )

    def _in_two_parts(self, parts: Parts) -> int:
        """The number of pairs of duplicates or near-duplicates whose images are in different parts."""
        chosen, report = self.indices[self.probed], self.real.report
        part_of = {
            self.real.dataset.paths[index]: number
            for number, part in enumerate((parts.training, parts.validation, parts.test))
            for index in chosen[part]
        }
        pairs = [(part_of.get(one), part_of.get(other)) for one, other in (*report.duplicates, *report.near_duplicates)]
        return sum(None not in pair and pair[0] != pair[1] for pair in pairs)

    def _notes(self, left: int, has_probe: bool) -> list[str]:
        notes = []
        everything = len(self.real.dataset)
        if len(self.indices) < everything:
            notes.append(f"{len(self.indices):,} of {everything:,} images were used, evenly spaced.")
        if has_probe and left:
            notes.append(
                f"Not used in the probe, only exported: {left:,} of {len(self.indices):,} images, with no class, or one of fewer "
                f"than {FEWEST_OF_A_CLASS} images."
            )
        if not has_probe and any(self.real.dataset.classes):
            notes.append(f"A probe needs two classes with {FEWEST_OF_A_CLASS} images each.")
        if has_probe and self.uses_held_out:
            notes.append("The test part is the images that the run held out.")
        return notes
