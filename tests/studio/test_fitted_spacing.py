"""The spacing *fitted to this checkpoint* of a request: where its times come from, and what is said where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.fitted_steps.stored import BESIDE, store
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.fitted_spacing import fallback, fitted_text, missing_text, with_fitted_times
from diffstudio.studio.requests import GenerateRequest, SamplerName, SpacingName, UpscaleRequest
from tests.models.fitted_steps.some_ladders import ladder
from tests.models.tiny import write_tiny_checkpoint

FITTED = GenerateRequest(steps=4, sampler=SamplerName.EULER, spacing=SpacingName.FITTED)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    found = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    store(found, [ladder("euler", 4), ladder("euler", 2)])
    return read_checkpoint(found.path)


def test_the_times_come_from_the_checkpoint_once(checkpoint: Checkpoint) -> None:
    request, note = with_fitted_times(FITTED, checkpoint)
    assert request.times == ladder("euler", 4).times and note == ""
    assert with_fitted_times(request, checkpoint) == (request, "")
    store(checkpoint, [ladder("euler", 4, times=(1.0, 0.9, 0.8, 0.7))])  # fitted again: the request keeps its own
    assert with_fitted_times(request, read_checkpoint(checkpoint.path)) == (request, "")
    upscaled = UpscaleRequest(Path("a.png"), checkpoint="tiny", steps=2, sampler=SamplerName.DDIM, spacing="fitted")  # type: ignore[arg-type]
    assert with_fitted_times(upscaled, checkpoint)[0].times == ladder("euler", 2).times


def test_other_spacings_and_no_checkpoint_change_nothing(checkpoint: Checkpoint) -> None:
    assert with_fitted_times(GenerateRequest(), checkpoint) == (GenerateRequest(), "")
    assert with_fitted_times(FITTED, None) == (FITTED, "")


def test_where_none_are_fitted_it_says_what_is_used_instead(checkpoint: Checkpoint) -> None:
    for asked, said in (
        (GenerateRequest(steps=3, sampler=SamplerName.EULER, spacing=SpacingName.FITTED), "No 3 steps are fitted"),
        (GenerateRequest(steps=4, sampler=SamplerName.HEUN, spacing=SpacingName.FITTED), "with Heun"),
    ):
        request, note = with_fitted_times(asked, checkpoint)
        assert request.spacing is fallback(checkpoint) and request.times == ()
        assert said in note and "the scheduler Log-SNR is used instead" in note
        assert note == missing_text(asked, checkpoint) == fitted_text(asked, checkpoint)
    assert missing_text(FITTED, checkpoint) == ""


def test_a_damaged_file_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "other.safetensors")
    (tmp_path / f"other{BESIDE}").write_text("{")
    assert "cannot be read (they are damaged" in with_fitted_times(FITTED, read_checkpoint(path))[1]


def test_the_text_says_how_good_they_are_and_where_they_do_not_belong(checkpoint: Checkpoint) -> None:
    request, _ = with_fitted_times(FITTED, checkpoint)
    assert fitted_text(GenerateRequest(), checkpoint) == ""
    assert fitted_text(FITTED, checkpoint) == fitted_text(request, checkpoint)
    assert "10.0 times closer to converged images than Karras" in fitted_text(request, checkpoint)
    assert "CFG scale 3" not in fitted_text(request, checkpoint)
    other = GenerateRequest(steps=4, sampler="euler", spacing="fitted", guidance=7.0, width=32)  # type: ignore[arg-type]
    assert "CFG scale 3" in fitted_text(other, checkpoint) and "16 × 16 px" in fitted_text(other, checkpoint)
    loaded = GenerateRequest(steps=2, sampler="euler", spacing="fitted", times=(1.0, 0.1))  # type: ignore[arg-type]
    assert "those of the loaded image" in fitted_text(loaded, checkpoint)


def test_an_upper_level_enlarges_images_of_the_size_that_steps_were_fitted_at(checkpoint: Checkpoint) -> None:
    upper = {"diffstudio.upper": '{"network": {"size": 32}}'}
    two_levels = replace(checkpoint, metadata={**checkpoint.metadata, **upper})
    for side, known in ((16, True), (32, True), (64, False)):
        asked = replace(FITTED, width=side, height=side)
        assert ("16 × 16 px" not in fitted_text(asked, two_levels)) == known, side
    assert "16 × 16 px" in fitted_text(replace(FITTED, width=32, height=32), checkpoint)
