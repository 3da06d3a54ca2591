"""A finished job of each page of the Lab, with the files of its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from diffstudio.studio.evaluations.job_folder import JobFinished, JobFolder, JobRequest, JobStarted
from tests.studio.evaluations.views import (
    test_anomalies,
    test_attention,
    test_comparison,
    test_features,
    test_image_map,
    test_likelihood,
    test_restore,
    test_reverse,
    test_synthesis,
)

LONG_NAME = "a-model-with-a-name-of-many-words-that-nobody-would-want-to-type-twice-v12-pruned-fp16"


def _anomalies(job: Path) -> dict[str, Any]:
    for name in test_anomalies.SCORES:
        for file in (job / "today" / name, job / "heat maps" / f"{name}.png"):
            _image(file)
    return test_anomalies.example(folder=str(job / "today"))


def _comparison(job: Path) -> dict[str, Any]:
    for name in ("held-out", "gan", "pair-generated", "pair-training"):
        _image(job / "images" / f"{name}.png")
    (job / "compare.html").touch()
    return test_comparison.example().to_json()


def _map(job: Path) -> dict[str, Any]:
    for place in range(1, 4):
        _image(job / "images" / f"{place}.png")
    return test_image_map.example(job / "photos", job / "tiny.safetensors")


def _attention(job: Path) -> dict[str, Any]:
    return test_attention.write_result(job)


def _image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20), "teal").save(file)


RESULTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "compare": _comparison,
    "anomalies": _anomalies,
    "synthesise": lambda job: test_synthesis.example() | {"checkpoint": LONG_NAME, "by_label": {LONG_NAME: 5}},
    "likelihood": lambda job: test_likelihood.example() | {"checkpoint": LONG_NAME},
    "restore": test_restore.example,
    "reverse": test_reverse.example,
    "attention": _attention,
    "map": _map,
    "features": lambda job: test_features.example(),
}


def write_jobs(folder: Path) -> dict[str, JobFolder]:
    """The job of each verb whose result is in RESULTS; those of `evaluate` are in `tests/ui/lab/conftest.py`."""
    jobs = {}
    for verb, make in RESULTS.items():
        job = jobs[verb] = JobFolder(folder / verb)
        job.path.mkdir(parents=True)
        (job.path / "result.json").write_text(json.dumps(make(job.path)))
        job.write_request(JobRequest(verb, (LONG_NAME,), f"{verb} {LONG_NAME}"[:60], 1.0))
        for event in (JobStarted(1), JobFinished("result.json")):
            job.append(event)
    return jobs
