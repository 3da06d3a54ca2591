"""RestoreView: the result of `diffstudio restore` as the Lab shows it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.restore.blending import blended_png
from diffstudio.studio.evaluations.restore.result import HOW_TO_READ, RestoredImage, RestoreResult
from diffstudio.studio.evaluations.results.stored import damage_named, file_inside
from diffstudio.studio.evaluations.results.text import settings_text


@dataclass(frozen=True, slots=True)
class RestoredFiles:
    """The files of one image, and what is known about it in words."""

    name: str
    before: Path
    mean: Path
    sample: Path | None  # None where it was left out
    text: str

    def png(self, share: float) -> bytes:
        """The image at this share of the sample, as deep as its files. ImageProblem. Reads files."""
        return blended_png(self.mean, self.sample, share)


@dataclass(frozen=True, slots=True)
class RestoreView:
    summary: str
    images: tuple[RestoredFiles, ...]
    share: float  # that the job's restored images have
    notes: tuple[str, ...]
    how_to_read: str


def read_restore(job: JobFolder, values: Mapping[str, Any]) -> RestoreView:
    """The result in a job's folder. RunProblem when it is damaged."""
    with damage_named(f"The result of {job.path.name}"):
        found = RestoreResult.from_json(values)
        settings = settings_text(found.settings)
        count = f"{len(found.images):,} image{'' if len(found.images) == 1 else 's'}"
        return RestoreView(
            f"{found.task.capitalize()} with {found.checkpoint}: {count}, {settings}.",
            tuple(_files(job, image) for image in found.images),
            found.share,
            tuple(found.notes),
            HOW_TO_READ,
        )


def _files(job: JobFolder, image: RestoredImage) -> RestoredFiles:
    noise = f"noise {image.noise:.1f} of 255{', estimated' if image.estimated else ''}"
    return RestoredFiles(
        image.name,
        Path(image.source),
        file_inside(job.path, image.mean),
        file_inside(job.path, image.sample) if image.sample else None,
        f"{image.width:,} × {image.height:,} px, {noise}",
    )
