"""Painting on a picture: what is kept is kept to the bit, what is made comes where it belongs, at any size and around
the edges.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from diffstudio.errors import BadRequest
from diffstudio.imaging.masks import feather_mask, masked_region
from diffstudio.models.checkpoint import Checkpoint, Origin
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.generation.init_image import (
    InitImage,
    canvas_size,
    fit_of,
    fitted,
    load_init_image,
    trained_ranges,
)
from diffstudio.studio.metadata.metadata import parameters_text
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.choices import FillName, ResizeName

RED = (200, 30, 40)


def picture(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, width: int, height: int, box: tuple[int, int, int, int]) -> Path:
    painted = Image.new("L", (width, height), 0)
    painted.paste(255, box)
    painted.save(path)
    return path


@pytest.fixture
def request_(tmp_path: Path) -> GenerateRequest:
    """A picture of 200 × 100 with a square painted in its right half."""
    return GenerateRequest(
        init=picture(tmp_path / "init.png", 200, 100), mask=mask(tmp_path / "mask.png", 200, 100, (140, 40, 160, 60))
    )


def read(request: GenerateRequest, width: int = 64, height: int = 64, **changes: Any) -> InitImage:
    found = load_init_image(dataclasses.replace(request, **changes), width, height)
    assert found is not None
    return found


def red(width: int = 64, height: int = 64) -> Any:
    return np.full((height, width, 3), RED, dtype=np.uint8)


def test_only_the_masked_part_is_made_and_all_else_keeps_its_size_and_bits(request_: GenerateRequest) -> None:
    found = read(request_, masked_only=True, padding=10)
    assert found.init.shape == (64, 64, 3) and found.box == (130, 30, 170, 70)
    assert found.mask is not None and found.mask[32, 32] == 255 and found.mask[5, 5] == 0
    whole = found.composed(red())
    given = np.array(Image.open(str(request_.init)))
    inside = np.zeros((100, 200), dtype=bool)
    inside[40:60, 140:160] = True
    assert whole.shape == given.shape
    assert np.array_equal(whole[~inside], given[~inside])
    assert (whole[inside] == RED).all()


@pytest.mark.parametrize("feather", [2, 6, 12])
def test_a_feather_fades_inwards_and_leaves_what_is_outside(
    request_: GenerateRequest, tmp_path: Path, feather: int
) -> None:
    large = mask(tmp_path / "large.png", 200, 100, (80, 20, 180, 90))
    found = read(request_, mask=large, masked_only=True, feather=feather)
    given = np.array(Image.open(str(request_.init)))
    painted = np.array(Image.open(large)) > 0
    assert np.array_equal(found.composed(red())[~painted], given[~painted])
    assert found.share is not None
    row = found.share[55, 80:130]
    assert (np.diff(row) >= 0).all() and row[0] < 0.5 and row[-1] == 1.0
    assert (found.share[~painted] == 0).all()


def test_a_mask_thinner_than_its_feather_is_still_painted() -> None:
    thin = np.zeros((50, 50), dtype=np.uint8)
    thin[25:27] = 255
    assert feather_mask(thin, 30).max() == 1.0


@settings(max_examples=80, deadline=None)
@examples(
    width=st.integers(20, 400),
    height=st.integers(20, 400),
    padding=st.integers(0, 60),
    aspect=st.sampled_from([0.5, 1.0, 2.0]),
    where=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.05, 1), st.floats(0.05, 1)),
)
def test_the_region_lies_in_the_picture_around_the_mask(
    width: int, height: int, padding: int, aspect: float, where: Any
) -> None:
    painted = np.zeros((height, width), dtype=np.uint8)
    x, y = int(where[0] * width), int(where[1] * height)
    right, bottom = min(width, x + max(1, int(where[2] * width))), min(height, y + max(1, int(where[3] * height)))
    painted[y:bottom, x:right] = 255
    box = masked_region(painted, padding, aspect)
    assert 0 <= box[0] <= max(0, x - padding) and min(width, right + padding) <= box[2] <= width
    assert 0 <= box[1] <= max(0, y - padding) and min(height, bottom + padding) <= box[3] <= height
    if box[0] > 0 and box[2] < width and box[1] > 0 and box[3] < height:
        half_a_pixel = 0.5 * max(1.0, aspect)
        assert box[2] - box[0] == pytest.approx(aspect * (box[3] - box[1]), abs=half_a_pixel)


def test_what_lies_under_the_mask(request_: GenerateRequest, tmp_path: Path) -> None:
    halves = np.zeros((100, 200, 3), dtype=np.uint8)
    halves[:, :100], halves[:, 100:] = (250, 0, 0), (0, 0, 250)
    Image.fromarray(halves).save(tmp_path / "halves.png")
    middle = mask(tmp_path / "middle.png", 200, 100, (60, 0, 140, 100))
    change = {"init": tmp_path / "halves.png", "mask": middle}
    under = {fill: read(request_, 200, 100, fill=fill, **change).init for fill in FillName}
    assert np.array_equal(under[FillName.ORIGINAL], halves)
    assert (under[FillName.NOTHING][50, 100] == 127).all()
    assert under[FillName.NOISE][:, 60:140].std() > 60
    around = under[FillName.SURROUNDINGS]
    assert around[50, 70, 0] > 150 > around[50, 70, 2] and around[50, 130, 2] > 150 > around[50, 130, 0]
    for fill in FillName:
        assert np.array_equal(under[fill][:, :60], halves[:, :60])
    everything = mask(tmp_path / "all.png", 200, 100, (0, 0, 200, 100))
    assert (read(request_, 200, 100, fill=FillName.SURROUNDINGS, mask=everything).init == 127).all()


def test_painting_around_a_picture(request_: GenerateRequest) -> None:
    wanted = dataclasses.replace(request_, mask=None, outpaint=(0, 20, 100, 0), feather=8)
    assert canvas_size(wanted) == (300, 120)
    found = read(wanted, 300, 120)
    whole = found.composed(red(300, 120))
    given = np.array(Image.open(str(request_.init)))
    assert np.array_equal(whole[20 + 8 :, : 200 - 8], given[8:, :-8])  # all but where it fades over
    assert (whole[:20, :190] == RED).all() and (whole[30:, 200:] == RED).all()
    assert found.mask is not None and found.mask[0, 0] == found.mask[119, 299] == 255 and found.mask[100, 50] == 0
    edge = read(dataclasses.replace(wanted, feather=0), 300, 120)
    assert np.array_equal(edge.init[20:, 200:], np.repeat(given[:, -1:], 100, axis=1))  # begins from the edges' colours


@pytest.mark.parametrize("mode", list(ResizeName))
@pytest.mark.parametrize(("source", "size"), [((200, 100), (64, 64)), ((100, 200), (128, 64)), ((96, 64), (48, 32))])
def test_a_fit_says_where_each_pixel_comes_to_lie(
    source: tuple[int, int], size: tuple[int, int], mode: ResizeName
) -> None:
    """In an image whose values are its coordinates, the resized values are those of the part that is kept."""
    down, across = np.mgrid[0 : source[1], 0 : source[0]].astype(np.uint8)
    pixels = np.stack([across, down, np.zeros_like(down)], axis=-1)
    fit = fit_of(source, size, mode)
    found = np.array(fitted(Image.fromarray(pixels), size, mode)).astype(float)
    left, top, right, bottom = fit.placed
    for axis, (near, far) in enumerate(((left, right), (top, bottom))):
        scale = (fit.kept[axis + 2] - fit.kept[axis]) / (far - near)
        middle = found[size[1] // 2, :, 0] if axis == 0 else found[:, size[0] // 2, 1]
        inside = np.arange(round(near) + 4, round(far) - 4)
        expected = fit.kept[axis] + (inside + 0.5 - near) * scale - 0.5
        assert np.abs(middle[inside] - expected).max() <= 1.0
    if mode is ResizeName.PAD and left > 1:
        assert (found[:, : int(left)] == 255).all() and (found[:, int(right) + 1 :] == 255).all()
    assert fit.placed == (0, 0, *size) or mode is ResizeName.PAD
    assert fit.kept == (0, 0, *source) or mode is ResizeName.CROP


def test_ways_to_come_to_a_size(request_: GenerateRequest) -> None:
    for way, corner in ((ResizeName.PAD, 255), (ResizeName.CROP, None), (ResizeName.STRETCH, None)):
        found = read(request_, mask=None, resize=way).init
        assert found.shape == (64, 64, 3)
        assert corner is None or (found[0, 0] == corner).all()
    stretched = read(request_, mask=None, resize=ResizeName.STRETCH).init
    assert not np.array_equal(stretched, read(request_, mask=None).init)


def test_what_makes_no_sense_is_refused(request_: GenerateRequest, tmp_path: Path) -> None:
    for changes, words in (
        ({"outpaint": (1, 2, 3)}, "outpainting margins"),
        ({"outpaint": (1, 2, 3, -4)}, "bottom"),
        ({"feather": -1}, "feather"),
        ({"fill": "soup"}, "no fill"),
        ({"resize": "x"}, "no resize mode"),
        ({"mask": None, "masked_only": True}, "needs a mask"),
        ({"init": None, "mask": None, "outpaint": (1, 0, 0, 0)}, "no image"),
    ):
        with pytest.raises(BadRequest, match=words):
            dataclasses.replace(request_, **changes)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="limit is 8192 px"):
        read(request_, outpaint=(8000, 0, 0, 0))
    with pytest.raises(BadRequest, match="black everywhere"):
        read(request_, mask=mask(tmp_path / "black.png", 200, 100, (0, 0, 0, 0)))


def test_what_is_transparent_in_a_mask_was_not_painted(request_: GenerateRequest, tmp_path: Path) -> None:
    """White strokes on nothing, as programs with layers save them, are the same as white on black."""
    strokes = Image.new("RGBA", (200, 100), (255, 255, 255, 0))
    strokes.paste((255, 255, 255, 255), (140, 40, 160, 60))
    strokes.save(tmp_path / "strokes.png")
    expected, found = read(request_).mask, read(request_, mask=tmp_path / "strokes.png").mask
    assert expected is not None and found is not None and np.array_equal(found, expected) and 0 < found.mean() < 255


def test_all_of_it_is_kept_in_json_and_told_to_others(request_: GenerateRequest) -> None:
    wanted = dataclasses.replace(
        request_,
        fill=FillName.NOISE,
        feather=4,
        masked_only=True,
        padding=16,
        outpaint=(8, 0, 0, 8),
        resize=ResizeName.PAD,
    )
    assert GenerateRequest.from_json(wanted.to_json()) == wanted
    text = parameters_text(wanted, {})
    for part in (
        "Mask blur: 4",
        "Masked content: latent noise",
        "Inpaint area: Only masked",
        "Masked area padding: 16",
        'Outpaint: "8,0,0,8"',
    ):
        assert part in text
    assert "Mask" not in parameters_text(GenerateRequest(init=request_.init), {})


def test_a_checkpoint_reads_deep_images_as_it_was_trained(tmp_path: Path) -> None:
    """2,048 is the middle of 12 bits; alone in a file of 16 bits it would be nearly black."""
    Image.fromarray(np.full((64, 64), 2048, np.uint16)).save(tmp_path / "scan.png")
    request = GenerateRequest(init=tmp_path / "scan.png")
    recipe = {"data": {"ranges": {"uint16": [0.0, 4095.0]}}}
    about = (Path("a"), "a", "a", "pixel", Conditioning.TEXT, (), 64, 64, 0, "F32", 0, Origin.TRAINED, 0.0)
    trained = Checkpoint(*about, metadata={"diffstudio.recipe": json.dumps(recipe)})
    ranges, note = trained_ranges(trained)
    assert note == ""
    alone, known = load_init_image(request, 64, 64), load_init_image(request, 64, 64, ranges)
    assert alone is not None and known is not None
    assert (alone.init[0, 0, 0], known.init[0, 0, 0]) == (8, 128)
    assert trained_ranges(Checkpoint(*about)) == trained_ranges(None) == ({}, "")
    for damaged in ("{", json.dumps({"data": {"ranges": {"uint16": "wide"}}})):
        ranges, note = trained_ranges(Checkpoint(*about, metadata={"diffstudio.recipe": damaged}))
        assert ranges == {} and note.startswith("The recipe in the checkpoint cannot be read")
