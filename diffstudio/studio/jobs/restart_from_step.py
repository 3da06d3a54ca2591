"""Restart a job from one of its steps: what may change, and what is refused."""

from __future__ import annotations

from typing import Any

from diffstudio.errors import BadRequest
from diffstudio.studio.jobs.job_records import RestartPoint
from diffstudio.studio.jobs.recording import STEPS_TOO_LARGE, Recording, Replay, not_restartable
from diffstudio.studio.jobs.step_store import StepStore
from diffstudio.studio.metadata.image_key import ImageKey
from diffstudio.studio.requests import PictureRequest

_MAY_DIFFER = ("prompt", "negative", "guidance", "checkpoint")
NOT_THE_NEWEST = "only the steps of the newest job are kept"


def replay_of(recording: Recording, made: PictureRequest, from_step: int, request: PictureRequest) -> Replay:
    """The replay that restarts what `made` made from a step, with `request` for the remaining steps.

    BadRequest when its steps were not kept, `request` changes more than prompts, guidance and checkpoint, or there is
    no such step.
    """
    if not recording.complete:
        raise BadRequest("This job cannot be restarted", STEPS_TOO_LARGE, "Generate it again with fewer images")
    first_batch = recording.batches[0]
    steps = min(len(first_batch.calls_after) + 1, first_batch.steps)
    if not 1 <= from_step <= steps:
        raise BadRequest(f"The job cannot be restarted from step {from_step}", f"its steps are 1 to {steps}")
    if settings_before_restart(request) != settings_before_restart(made):
        raise BadRequest(
            "The job cannot be restarted with other settings",
            "only the prompts, the CFG scale and the checkpoint may differ",
            "Use the settings of the image first, or generate it again",
        )
    return Replay(recording, from_step)


def stored_replay(restart: RestartPoint, request: PictureRequest, store: StepStore | None) -> Replay:
    """The replay of a job that waited when the program ended, from the saved steps of the image. Reads a file.

    BadRequest when they are not kept (any more), StorageProblem when they cannot be read.
    """
    if store is None or not restart.token:
        raise not_restartable(NOT_THE_NEWEST)
    kept, recording = store.recording(ImageKey(restart.token, restart.index))
    return replay_of(recording, kept.request, restart.step, request)


def settings_before_restart(request: PictureRequest) -> dict[str, Any]:
    """The fields of a request that must not differ between a recorded job and its restart from a step."""
    return {name: value for name, value in request.to_json().items() if name not in _MAY_DIFFER}
