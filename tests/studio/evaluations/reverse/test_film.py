"""The animated file of a film: its size, its order and how long each frame stands."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from diffstudio.errors import ImageProblem
from diffstudio.studio.evaluations.reverse.film import animation


def test_frames_follow_each_other_and_the_last_stands_longest(tmp_path: Path) -> None:
    rows = []
    for name in ("red", "blue"):
        Image.new("RGB", (100, 50), name).save(tmp_path / f"{name}.png")
        rows.append(([tmp_path / f"{name}.png"] * 2, f"a {name} frame"))
    with Image.open(io.BytesIO(animation(rows))) as film:
        assert film.size == (2 * 200 + 3 * 8, 100 + 2 * 8 + 26) and film.n_frames == 2  # type: ignore[attr-defined]
        found = []
        for frame in range(2):
            film.seek(frame)
            found.append((film.convert("RGB").getpixel((20, 20)), film.info["duration"]))
    assert found == [((255, 0, 0), 250), ((0, 0, 255), 1500)]
    with pytest.raises(ImageProblem):
        animation([([tmp_path / "gone.png"], "")])
