"""What a ControlNet is shown: edges where a closed form has them, lines, opposites, in the frame that is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from diffstudio.errors import ImageProblem
from diffstudio.studio.generation.control_preprocess import control_image, edges, preprocess
from diffstudio.studio.requests import ControlNetUse
from diffstudio.studio.requests.choices import PreprocessorName, ResizeName

USE = ControlNetUse("net", Path("nowhere.png"))


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None].astype(np.uint8), 3, axis=2)


def test_a_step_is_a_line_one_px_wide() -> None:
    for turned in (False, True):
        values = np.zeros((20, 30), np.uint8)
        values[:, 12:] = 200
        found = edges(grey(values.T if turned else values), 100, 200)
        found = found.T if turned else found
        assert found[:, 11].all() and found.sum() == 20  # the first of the two px that are as steep


def test_a_disc_is_a_circle() -> None:
    radius, middle = 60.0, 80
    y, x = np.mgrid[:161, :161] - middle
    away = np.hypot(x, y)
    disc = 255 * np.clip(radius + 0.5 - away, 0, 1)  # its edge goes through half a px
    found = edges(grey(disc), 100, 200)
    assert np.abs(away[found] - radius).max() < 1.5
    assert set(np.round(np.degrees(np.arctan2(y[found], x[found])) / 4)) >= set(range(-44, 45))  # in all directions
    assert 4 * radius * np.sqrt(2) * 0.9 < found.sum() < 2 * np.pi * radius * 1.2


def test_a_weak_edge_counts_where_it_goes_on_from_a_strong_one() -> None:
    values = np.full((40, 40), 100, np.uint8)
    values[:20, 20:] = 200  # its slope is 400
    values[20:, 20:] = 130  # and there 120
    values[5:36, 4:9] = 130  # as weak, and joined to nothing
    found = edges(grey(values), 50, 300)
    assert found[:18, 19].all() and found[23:, 19].all() and not found[:, :14].any()
    assert edges(grey(values), 50, 100)[6:30, 3].all()
    assert not edges(grey(values), 150, 300)[24:, 19].any()


def test_the_steepest_channel_counts_and_nothing_else() -> None:
    for channel in range(3):
        picture = np.full((16, 16, 3), 90, np.uint8)
        picture[:, 8:, channel] = 250
        assert edges(picture, 100, 200)[:, 7].all()
    for plain in (np.zeros((8, 8, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)):
        assert not edges(plain, 0, 0).any()


def test_lines_and_opposites() -> None:
    drawn = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(drawn).line((8, 8, 56, 40), fill=(30, 30, 120), width=3)
    shown = preprocess(np.array(drawn), replace(USE, prepare=PreprocessorName.SCRIBBLE))
    dark = np.array(drawn).min(axis=2) < 127
    assert np.array_equal(shown, np.where(dark[..., None], 255, 0) * np.ones(3, int)) and 100 < dark.sum() < 400
    assert np.array_equal(
        preprocess(np.array(drawn), replace(USE, prepare=PreprocessorName.INVERT)), 255 - np.array(drawn)
    )
    assert np.array_equal(preprocess(np.array(drawn), USE), np.array(drawn))
    canny = preprocess(np.array(drawn), replace(USE, prepare=PreprocessorName.CANNY, low=50, high=100))
    assert set(np.unique(canny)) == {0, 255} and canny.any()


@pytest.fixture
def use(tmp_path: Path) -> ControlNetUse:
    """Left half black, right half white, twice as wide as high."""
    picture = Image.new("RGB", (80, 40))
    picture.paste((255, 255, 255), (40, 0, 80, 40))
    picture.save(tmp_path / "halves.png")
    return replace(USE, image=tmp_path / "halves.png")


def test_it_fits_the_frame_by_the_rule_of_the_request(use: ControlNetUse) -> None:
    cropped = control_image(use, (32, 32), ResizeName.CROP)
    stretched = control_image(use, (32, 32), ResizeName.STRETCH)
    for shown in (cropped, stretched):
        assert shown.shape == (32, 32, 3) and not shown[:, :12].any() and (shown[:, 20:] == 255).all()
    within = control_image(replace(use, prepare=PreprocessorName.INVERT), (32, 32), ResizeName.PAD)
    assert not within[:8].any() and not within[24:].any()  # what lies around it is nothing
    assert (within[8:24, :12] == 255).all() and not within[8:24, 20:].any()
    line = control_image(replace(use, prepare=PreprocessorName.CANNY), (32, 32), ResizeName.PAD)
    assert line[8:24].any(axis=(0, 2)).sum() == 1 and not line[:8].any()  # no edge around the picture


def test_of_a_part_it_is_the_same_part(use: ControlNetUse) -> None:
    shown = control_image(use, (64, 64), ResizeName.STRETCH, (160, 80), (60, 20, 100, 60))
    assert shown.shape == (64, 64, 3) and shown[:, :24].max() < 20 and shown[:, 40:].min() > 235


def test_the_border_of_a_part_is_black(use: ControlNetUse) -> None:
    """The image, 80 x 40 px, is centred in 80 x 80: its rows are 20 to 60, of which the box has 20 to 40."""
    inverted = replace(use, prepare=PreprocessorName.INVERT)
    shown = control_image(inverted, (80, 80), ResizeName.PAD, (80, 80), (0, 0, 40, 40))
    assert shown.shape == (80, 80, 3) and not shown[:40].any() and (shown[40:, :72] == 255).all()  # its black half
    line = control_image(
        replace(use, prepare=PreprocessorName.CANNY), (80, 80), ResizeName.PAD, (80, 80), (20, 0, 60, 40)
    )
    assert line[40:].any(axis=(0, 2)).sum() == 1 and not line[:40].any()
    assert not control_image(inverted, (80, 80), ResizeName.PAD, (80, 80), (0, 0, 20, 20)).any()  # the border alone


def test_what_is_no_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    for name in ("text.png", "gone.png"):
        with pytest.raises(ImageProblem):
            control_image(replace(USE, image=tmp_path / name), (32, 32), ResizeName.CROP)
