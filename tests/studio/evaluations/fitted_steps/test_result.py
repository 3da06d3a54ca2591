"""The table of fitted steps, and the same as JSON."""

from __future__ import annotations

import json

from diffstudio.studio.evaluations.fitted_steps.result import FitStepsResult, FittedLadder

KEPT = FittedLadder("euler", 2, 2, (1.0, 0.4), 1e-4, "karras", 4e-4, True)
WORSE = FittedLadder("heun", 1, 1, (1.0,), 2e-4, "uniform", 1e-4, False)


def test_the_table_has_both_differences_and_what_became_of_them() -> None:
    result = FitStepsResult("tiny", 3.0, 24, 16, (KEPT, WORSE), "/models/tiny.safetensors", ("A note.",))
    lines = result.text().splitlines()
    assert lines[1].split() == ["euler", "2", "2", "1.0e-04", "4.0e-04", "karras", "75%", "yes"]
    assert lines[2].split()[-2:] == ["-100%", "no"]
    assert "16 images" in lines[4] and "CFG scale 3" in lines[4]
    assert lines[5:] == ["Kept in /models/tiny.safetensors.", "A note."]


def test_where_none_is_kept_it_says_so() -> None:
    assert "None is kept" in FitStepsResult("tiny", 3.0, 24, 16, (WORSE,), "").text()
    assert FittedLadder("euler", 1, 1, (1.0,), 0.0, "uniform", 0.0, False).less == 0.0


def test_as_json() -> None:
    values = json.loads(json.dumps(FitStepsResult("tiny", 3.0, 24, 16, (KEPT,), "x").to_json()))
    assert (
        values["format"] == 1 and values["ladders"][0]["times"] == [1.0, 0.4] and values["ladders"][0]["less"] == 0.75
    )


def test_it_does_not_claim_other_prompts_where_there_are_none() -> None:
    others = FitStepsResult("tiny", 3.0, 24, 16, (KEPT,), "x")
    same = FitStepsResult("tiny", 3.0, 24, 16, (KEPT,), "x", judged_by_others=False)
    assert "with prompts and seeds that the steps were not fitted with" in others.text()
    assert "of 1 image with" in FitStepsResult("tiny", 3.0, 24, 1, (KEPT,), "x").text()
    assert "16 images with seeds that the steps were not fitted with" in same.text()
    assert others.to_json()["judged_by_others"] is True and same.to_json()["judged_by_others"] is False
