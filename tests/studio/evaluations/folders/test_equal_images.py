"""Images that look like real ones are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import Interrupted
from diffstudio.studio.evaluations.folders.checks import check_no_real_images, check_varied
from diffstudio.studio.evaluations.folders.equal_images import alike_images, digests_and_flatness, shared_images
from diffstudio.studio.evaluations.folders.notes import repeated_notes
from diffstudio.studio.evaluations.folders.reading import read_generated, read_real
from tests.studio.evaluations.folders.small_folders import go_on, no_progress, notes_of, read, smooth_images
from tests.studio.evaluations.small_models import write_images


def test_the_same_images_in_another_format_are_said(tmp_path: Path) -> None:
    """Their pixels differ, so that they are not refused, but they measure themselves."""
    folder = smooth_images(tmp_path / "real", 40, seed=0)
    real = read_real(folder, None, no_progress, go_on)
    (tmp_path / "saved").mkdir()
    for number in range(0, 40, 4):
        Image.open(folder / f"{number}.png").save(tmp_path / "saved" / f"again {number}.jpg", quality=80)
    saved = read_generated(tmp_path / "saved", real, no_progress, go_on)
    check_no_real_images(saved, real, no_progress, go_on)
    assert {
        (path.name, other.name) for path, other in alike_images("saved", saved.dataset, real, no_progress, go_on)
    } == {(f"again {number}.jpg", f"{number}.png") for number in range(0, 40, 4)}
    (note,) = notes_of(tmp_path / "saved", real)
    assert note.startswith(
        "10 of 10 images of saved look like images of real, such as again 0.jpg (0.png). If they are"
    )
    assert notes_of(smooth_images(tmp_path / "other", 20, seed=1), real) == []


def test_images_that_resemble_each_other_anyway_are_not_taken_for_the_same(tmp_path: Path) -> None:
    """As photographs of parts in one position do."""
    real = read(write_images(tmp_path / "real", 120, seed=0))
    other = read_generated(write_images(tmp_path / "other", 40, seed=1), real, no_progress, go_on).dataset
    assert alike_images("other", other, real, no_progress, go_on) == []


def test_images_without_a_fingerprint_are_not_compared_by_one(tmp_path: Path) -> None:
    for name, seed in (("real", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        for number in range(30):
            values = np.random.default_rng(100 * seed + number).normal(size=(16, 16, 5)).astype(np.float32)
            np.save(tmp_path / name / f"{number}.npy", values)
    real = read_real(tmp_path / "real", None, no_progress, go_on)
    assert (
        alike_images(
            "other", read_generated(tmp_path / "other", real, no_progress, go_on).dataset, real, no_progress, go_on
        )
        == []
    )


def test_looking_at_all_images_shows_its_progress_and_can_be_cancelled(tmp_path: Path) -> None:
    real = read(write_images(tmp_path / "real", 40, seed=0))
    seen: list[tuple[str, int, int]] = []

    def stop() -> None:
        if seen and seen[-1][1] == 3:
            raise Interrupted

    def report(*work: Any) -> None:
        seen.append(work)

    for look in (
        lambda: shared_images("real", real.dataset, real, report, stop),
        lambda: alike_images("real", real.dataset, real, report, stop),
        lambda: list(digests_and_flatness("real", real.dataset, report, stop)),
        lambda: check_varied(real, report, stop),
        lambda: repeated_notes(real, report, stop),
    ):
        seen.clear()
        with pytest.raises(Interrupted):
            look()
        assert [done for _, done, _ in seen] == [0, 1, 2, 3] and all(what.endswith(" in real") for what, *_ in seen)
