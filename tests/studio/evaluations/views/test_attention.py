"""The maps of words as the window shows them, and results that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import RunProblem
from diffstudio.evaluation.attention.deletion import DeletionTest
from diffstudio.studio.evaluations.attention.result import AttentionResult, FollowedWord
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.views.attention import AttentionView, read_attention


def write_result(folder: Path) -> dict[str, Any]:
    """A result of two words, two layers and three steps; red acts at the left, apple at the right, and not at first."""
    (folder / "images").mkdir(parents=True)
    for name, colour in (("picture", "white"), ("masked-01", "red")):
        Image.new("RGB", (16, 16), colour).save(folder / "images" / f"{name}.png")
    maps = np.zeros((2, 2, 3, 2, 2), np.float32)
    maps[0, :, :, :, 0], maps[1, :, :, :, 1] = 1.0, 2.0
    maps[0, 1, :, 0, 0] = 5.0  # more at the top in the second layer
    maps[1, :, 0] = np.nan  # apple comes in the second step
    picture = np.full((16, 16, 3), 255, np.uint8)
    np.savez(folder / "attention.npz", maps=maps, picture=picture)
    test = DeletionTest(4.0, 2.0, 1.1, 0.9, 0.5)
    words = [FollowedWord("red", 1, 1.2, masked="images/masked-01.png", test=test), FollowedWord("apple", 2)]
    result = AttentionResult(
        "starter",
        "[red:red apple:1]",
        "weights",
        {"seed": 1},
        words,
        ["block 0", "block 1"],
        [1.0, 0.6, 0.3],
        "images/picture.png",
        "attention.npz",
        1.5,
        ["A note."],
    )
    return dict(json.loads(json.dumps(result.to_json())))


def example(folder: Path) -> AttentionView:
    return read_attention(JobFolder(folder), write_result(folder))


def test_maps_are_scaled_and_averaged(tmp_path: Path) -> None:
    view = example(tmp_path)
    heats = view.heats()
    assert heats.shape == (2, 2, 2) and heats[0, 0, 0] == 1 and heats[0, :, 1].tolist() == [0, 0]
    assert heats[0, 1, 0] == pytest.approx(1 / 3)
    assert heats[1].tolist() == [[0, 1], [0, 1]]  # the steps without the word do not count
    assert view.heats(0)[0, :, 0].tolist() == [1, 1] and view.heats(1)[0, 1, 0] == pytest.approx(0.2)
    assert not view.heats(None, 0)[1].any() and view.heats(None, 1)[1].any()


def test_words_at_a_place(tmp_path: Path) -> None:
    view = example(tmp_path)
    assert view.here(0.1, 0.1) == [(0, 1.0), (1, 0.0)] and view.here(0.9, 0.5)[0] == (1, 1.0)
    assert view.here(1.0, 1.0)[0][0] == 1 and view.here(-1, 5)[0][0] == 0  # at and beyond the border
    assert view.here(0.9, 0.5, None, 0) == [(0, 0.0), (1, 0.0)]


def test_files_tables_and_sentences(tmp_path: Path) -> None:
    view = example(tmp_path)
    assert view.overlay(0).shape == (16, 16, 3) and (view.overlay(0)[8, 2] != view.overlay(0)[8, 14]).any()
    assert view.masked_file(0) == tmp_path / "images" / "masked-01.png" and view.masked_file(1) is None
    red, apple = view.table.rows
    assert [cell.value if cell else None for cell in red.cells] == [2.0, 1.1, 0.9, 0.5] and apple.cells == (None,) * 4
    assert view.result.verdict == "The deletion test holds for 1 of 1 masked words, clearly for 0."
    assert "seed 1" in view.summary and "DAAM" in view.how_to_read


@pytest.mark.parametrize(
    "change",
    [
        {"words": [{"text": "red"}]},
        {"layers": ["one"]},
        {"maps": "gradients"},
        {"arrays": "gone.npz"},
        {"arrays": "images/picture.png"},
        {"format": 99},
        {"times": None},
    ],
)
def test_damage_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    values = write_result(tmp_path / "job") | change
    with pytest.raises(RunProblem):
        read_attention(JobFolder(tmp_path / "job"), values)


def test_arrays_of_other_shapes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = write_result(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("diffstudio.studio.evaluations.views.attention._MOST_BYTES", 10)
        with pytest.raises(RunProblem, match="larger"):
            read_attention(JobFolder(tmp_path), values)
    np.savez(tmp_path / "attention.npz", maps=np.zeros((2, 2)), picture=np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(RunProblem, match="dimensions"):
        read_attention(JobFolder(tmp_path), values)
    for single in (np.nan, np.inf):
        maps = np.zeros((2, 2, 3, 2, 2))
        maps[1, 0, 0, 1, 1] = single
        np.savez(tmp_path / "attention.npz", maps=maps, picture=np.zeros((2, 2, 3), np.uint8))
        with pytest.raises(RunProblem, match="infinite or single NaN"):
            read_attention(JobFolder(tmp_path), values)
    (tmp_path / "attention.npz").write_bytes(b"PK")
    with pytest.raises(RunProblem, match="cannot be read"):
        read_attention(JobFolder(tmp_path), values)
