"""What a header says about being distilled to few steps, read without trust."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models.fitted_steps.distilled import KEY, Distilled, check_denoises, distilled
from tests.ui.samples import checkpoint


def with_header(values: Any) -> Any:
    return checkpoint("few", metadata={KEY: values if isinstance(values, str) else json.dumps(values)})


def test_what_is_written_is_read_and_others_were_not_tuned() -> None:
    written = Distilled("cats", "ab" * 32, 3.0)
    assert distilled(with_header(written.to_json())) == written
    assert distilled(checkpoint()) is None
    check_denoises(checkpoint(), "likelihoods")
    with pytest.raises(BadRequest, match="few cannot be used for likelihoods: it was distilled to few steps.*cats"):
        check_denoises(with_header(written.to_json()), "likelihoods")


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        [],
        {},
        {"teacher": "cats", "sha256": "ab"},
        {"teacher": 1, "sha256": "ab", "guidance": 3.0},
        {"teacher": "cats", "sha256": "ab", "guidance": True},
        {"teacher": "cats", "sha256": "ab", "guidance": -1},
        {"teacher": "cats", "sha256": "ab", "guidance": float("inf")},
    ],
)
def test_a_damaged_header_is_said(damaged: Any) -> None:
    with pytest.raises(CheckpointDamaged, match="distilled|tuned"):
        distilled(with_header(damaged))


def test_long_names_are_cut_and_impossible_guidance_is_refused() -> None:
    found = distilled(with_header({"teacher": "x" * 1000, "sha256": "", "guidance": 1}))
    assert found is not None and len(found.teacher) == 300 and found.guidance == 1.0
    with pytest.raises(ValueError, match="guidance"):
        Distilled("cats", "", -1.0)
