"""ReverseView: the result of `diffstudio reverse` as the Lab shows it. No torch."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio.storage_errors import storage_errors
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.plots.figure import Figure, Series
from diffstudio.studio.evaluations.results.stored import damage_named, file_inside
from diffstudio.studio.evaluations.results.text import settings_text
from diffstudio.studio.evaluations.reverse.result import HOW_TO_READ, PARTS, FilmedStep, ReverseResult

TITLES = {"state": "x_t", "estimate": "Estimate of x_0", "noise": "Noise", "score": "Score"}


@dataclass(frozen=True, slots=True)
class FilmFrame:
    """What is shown of one step: a file for each of PARTS."""

    files: Mapping[str, Path]
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class ReverseView:
    summary: str
    frames: tuple[FilmFrame, ...]
    image: Path
    film: Path
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    how_to_read: str

    def film_bytes(self) -> bytes:
        """The animated GIF. StorageProblem when it cannot be read."""
        with storage_errors(f"{self.film.name} cannot be read", self.film):
            return self.film.read_bytes()

    def zipped(self) -> bytes:
        """All frames and the finished image as a ZIP archive. StorageProblem when one cannot be read."""
        file = io.BytesIO()
        with storage_errors("The frames cannot be read", self.image), zipfile.ZipFile(file, "w") as archive:
            for path in (self.image, *(path for frame in self.frames for path in frame.files.values())):
                archive.writestr(path.name, path.read_bytes())
        return file.getvalue()


def read_reverse(job: JobFolder, values: Mapping[str, Any]) -> ReverseView:
    """The result in a job's folder. RunProblem when it is damaged."""
    with damage_named(f"The result of {job.path.name}"):
        found = ReverseResult.from_json(values)
        settings = settings_text(found.settings)
        of = f"{found.prompt}, " if found.prompt else ""
        return ReverseView(
            f"{of}{found.checkpoint}: {settings}.",
            tuple(_frame(job, step, number, len(found.steps)) for number, step in enumerate(found.steps, 1)),
            file_inside(job.path, found.image),
            file_inside(job.path, found.film),
            _figures(found.steps),
            tuple(found.notes),
            HOW_TO_READ,
        )


def _frame(job: JobFolder, step: FilmedStep, number: int, count: int) -> FilmFrame:
    files = {part: file_inside(job.path, step.files[part]) for part in PARTS}
    return FilmFrame(files, f"Step {number:,} of {count:,}", step.text())


def _figures(steps: Sequence[FilmedStep]) -> tuple[Figure, ...]:
    numbers = tuple(float(number) for number in range(1, len(steps) + 1))

    def series(name: str, values: list[float], colour: int) -> Series:
        return Series(name, numbers, tuple(values), colour=colour)

    noise = series("noise", [step.noise_rms for step in steps], 0)
    scores = series("score", [step.score_rms for step in steps], 1)
    changes = [step.change if number else math.nan for number, step in enumerate(steps)]
    return (
        Figure(
            "reverse-levels",
            "Noise level",
            "step",
            "",
            (series("alpha", [step.alpha for step in steps], 0), series("sigma", [step.sigma for step in steps], 1)),
        ),
        Figure("reverse-log-snr", "Log-SNR", "step", "log(alpha² / sigma²)",
               (series("log-SNR", [step.log_snr for step in steps], 0),)),
        Figure("reverse-noise", "Root mean square of noise and score", "step", "", (noise, scores), logarithmic=True),
        Figure("reverse-change", "Change of the estimate since the previous step", "step", "root mean square",
               (series("change", changes, 2),)),
    )  # fmt: skip
