"""What a restart from a step may change, and how one image of a job is restarted, also after the program was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.studio.events import Failed, Finished, ImageSaved
from diffstudio.studio.jobs.restart_from_step import settings_before_restart
from diffstudio.studio.metadata.image_key import ImageKey, image_key
from diffstudio.studio.requests import UpscaleRequest
from diffstudio.studio.requests.choices import LATENT
from tests.studio.a_studio import REQUEST, Gate, Studio

SAMPLED = dataclasses.replace(REQUEST, sampler="dpmpp_2m_sde", steps=6, seed=11)


def test_a_restart_leaves_all_but_prompt_guidance_and_checkpoint_as_it_was() -> None:
    """Also of a latent upscale, which is no request without its checkpoint."""
    request = UpscaleRequest(Path("a.png"), upscaler=LATENT, checkpoint="one", seed=3)
    changed = dataclasses.replace(request, prompt="x", guidance=1.0, checkpoint="two")
    assert settings_before_restart(changed) == settings_before_restart(request)
    assert settings_before_restart(dataclasses.replace(request, seed=4)) != settings_before_restart(request)


def restarted(studio: Studio, key: ImageKey, step: int, prompt: str) -> np.ndarray:
    request = dataclasses.replace(SAMPLED, seed=SAMPLED.seed + key.index, prompt=prompt)
    job = studio.worker.restart_image(key, step, request)
    assert isinstance(studio.ending(job), Finished)
    (pixels,) = studio.pixels(job)
    return pixels


def keys(studio: Studio, job: int) -> list[ImageKey]:
    found = [image_key(event.path) for event in studio.of(job) if isinstance(event, ImageSaved)]
    return [key for key in found if key is not None]


def test_a_restart_after_the_program_was_restarted_makes_the_same_pixels(
    opened: Callable[[], Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image of a batch, also when other jobs came after it; the first steps call no network."""
    studio = opened()
    studio.worker.start()
    single, batch = studio.done(SAMPLED), studio.done(dataclasses.replace(SAMPLED, count=2))
    studio.done(REQUEST)
    all_keys = keys(studio, single) + keys(studio, batch)
    assert [key.index for key in all_keys] == [0, 0, 1]
    before = [restarted(studio, key, 4, "green rocket") for key in all_keys]
    whole_job = studio.pixels(single)[0]
    studio.close()

    studio = opened()
    studio.worker.start()
    gate = Gate(monkeypatch, open_for=100_000)
    after = [restarted(studio, key, 4, "green rocket") for key in all_keys]
    assert gate.calls == 3 * 3  # steps 4, 5 and 6 of each
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert not np.array_equal(after[0], whole_job) and not np.array_equal(after[1], after[2])
    assert np.array_equal(restarted(studio, all_keys[0], 4, SAMPLED.prompt), whole_job)


def test_the_restart_of_one_image_is_the_restart_of_its_job(studio: Studio) -> None:
    job = studio.done(SAMPLED)
    again = studio.worker.restart(job, 3, dataclasses.replace(SAMPLED, guidance=6.0))
    assert isinstance(studio.ending(again), Finished)
    alone = studio.worker.restart_image(keys(studio, job)[0], 3, dataclasses.replace(SAMPLED, guidance=6.0))
    assert isinstance(studio.ending(alone), Finished)
    assert np.array_equal(studio.pixels(again)[0], studio.pixels(alone)[0])
    third = studio.worker.restart_image(keys(studio, alone)[0], 3)  # of what was restarted, as it was made
    assert isinstance(studio.ending(third), Finished)
    assert np.array_equal(studio.pixels(third)[0], studio.pixels(alone)[0])


def test_what_is_no_longer_kept_is_not_restarted(studio: Studio) -> None:
    key = keys(studio, studio.done(SAMPLED))[0]
    with pytest.raises(BadRequest, match="only the prompts"):
        studio.worker.restart_image(key, 2, dataclasses.replace(SAMPLED, seed=12))
    with pytest.raises(BadRequest, match="its steps are 1 to 6"):
        studio.worker.restart_image(key, 7)
    studio.step_store.clear()
    with pytest.raises(BadRequest, match="its steps are no longer kept"):
        studio.worker.restart_image(key, 2)
    studio.worker._step_store = None
    with pytest.raises(BadRequest, match="no steps are kept"):
        studio.worker.restart_image(key, 2)
    studio.step_store.close()
    assert list(paths.steps().iterdir()) == []  # nor what was being written while it was cleared


# Jobs that waited when the program ended


def waiting_restart(
    opened: Callable[[], Studio], count: int = 1, *, of_image: bool = False
) -> tuple[int, list[np.ndarray]]:
    """A restart from step 5 that waits when the program ends: its number, and the images that it restarts."""
    studio = opened()
    studio.worker.start()
    job = studio.done(dataclasses.replace(SAMPLED, count=count))
    studio.step_store.settled_usage()
    studio.worker.waiting.set_queue_paused(True)
    again = studio.worker.restart_image(keys(studio, job)[-1], 5) if of_image else studio.worker.restart(job, 5)
    pixels = studio.pixels(job)
    studio.close()
    return again, pixels


@pytest.mark.parametrize(("count", "of_image"), [(1, False), (2, True)])
def test_a_restart_that_waited_when_the_program_ended_is_one(
    opened: Callable[[], Studio], monkeypatch: pytest.MonkeyPatch, count: int, of_image: bool
) -> None:
    job, pixels = waiting_restart(opened, count, of_image=of_image)
    studio = opened()
    gate = Gate(monkeypatch, open_for=100)
    studio.worker.start()
    studio.worker.waiting.set_queue_paused(False)
    assert isinstance(studio.ending(job), Finished)
    assert gate.calls == 2 and np.array_equal(studio.pixels(job)[0], pixels[-1])


@pytest.mark.parametrize(
    ("count", "why"), [(1, "its steps are no longer kept"), (2, "only the steps of the newest job are kept")]
)
def test_one_whose_steps_are_gone_fails_and_says_so(opened: Callable[[], Studio], count: int, why: str) -> None:
    """It would be another image, and nobody would know."""
    job, _ = waiting_restart(opened, count)
    studio = opened()
    studio.step_store.clear()
    studio.worker.start()
    studio.worker.waiting.set_queue_paused(False)
    ending = studio.ending(job)
    assert (
        isinstance(ending, Failed) and str(ending.error) == f"This image cannot be restarted: {why}. Generate it again."
    )
