"""What a person decided is kept beside the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffstudio.errors import RunProblem
from diffstudio.studio.evaluations.anomalies.decisions import DECISIONS, Decision, read_decisions, write_decision


def test_decisions_are_stored_changed_and_taken_back(tmp_path: Path) -> None:
    assert read_decisions(tmp_path) == {}
    write_decision(tmp_path, "a/1.png", Decision.REJECTED)
    write_decision(tmp_path, "2.png", Decision.ACCEPTED)
    assert write_decision(tmp_path, "a/1.png", Decision.ACCEPTED) == read_decisions(tmp_path)
    assert read_decisions(tmp_path) == {"2.png": Decision.ACCEPTED, "a/1.png": Decision.ACCEPTED}
    assert write_decision(tmp_path, "2.png", None) == {"a/1.png": Decision.ACCEPTED}
    assert json.loads((tmp_path / DECISIONS).read_text())["format"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": 9, "decisions": {}}',
        '{"format": 1, "decisions": 3}',
        '{"format": 1, "decisions": {"2.png": "perhaps"}}',
        '{"format": 1, "decisions": {"2.png": ["accepted"]}}',
    ],
)
def test_files_that_cannot_be_read_are_not_overwritten(text: str, tmp_path: Path) -> None:
    (tmp_path / DECISIONS).write_text(text)
    with pytest.raises(RunProblem, match="The decisions in"):
        write_decision(tmp_path, "1.png", Decision.ACCEPTED)
    assert (tmp_path / DECISIONS).read_text() == text
