"""Sequences of frames: found in films, whatever moves, and not among images that only have numbers in their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from diffstudio.training.data.near_duplicates import fingerprint, near_duplicates
from diffstudio.training.data.sequences import about_sequences, sequences


def prints(images: list[Image.Image]) -> NDArray[np.uint8]:
    return np.stack([np.frombuffer(fingerprint(image), np.uint8) for image in images])


def film(frames: int, seed: int = 0, step: float = 4.0) -> list[Image.Image]:
    """A camera that moves over a scene by `step` of 200 px a frame."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 60, 3), dtype=np.uint8)
    scene = Image.fromarray(noise).resize((1600, 320), Image.Resampling.BICUBIC)
    return [scene.crop((int(step * k), 0, int(step * k) + 200, 200)).resize((32, 32)) for k in range(frames)]


def test_a_film_is_one_sequence_although_its_ends_are_quite_different() -> None:
    images = film(100)
    found = prints(images)
    order = np.random.default_rng(0).permutation(100)
    paths = [Path(f"film/frame {number}.png") for number in order]  # 10 comes before 2 in their names
    assert sequences(paths, found[order]) == [tuple(np.argsort(order).tolist())]
    assert np.abs(np.asarray(images[0], np.float64) - np.asarray(images[-1])).mean() > 40
    assert len(near_duplicates(found).near) < 99  # by the hash alone it would fall into pieces


def test_scenes_between_cuts_and_films_in_other_folders_are_sequences_of_their_own() -> None:
    images = [*film(12, 1), *film(8, 2), *film(3, 3), *film(9, 4)]
    paths = [Path(f"a/shot{number:04}.jpg") for number in range(23)] + [Path(f"b/{number}.png") for number in range(9)]
    assert sequences(paths, prints(images)) == [tuple(range(12)), tuple(range(12, 20)), tuple(range(23, 32))]


@pytest.mark.parametrize("step", [0.0, 0.5, 5.0])
def test_still_slow_and_fast_films_are_found(step: float) -> None:
    paths = [Path(f"{number}.png") for number in range(40)]
    assert sequences(paths, prints(film(40, 5, step))) == [tuple(range(40))]


def test_numbered_images_that_are_not_frames_are_no_sequence() -> None:
    """Digits of scikit-learn, and small shapes on white, which have much the same hash."""
    digits = [Image.fromarray((image * 15.9).astype(np.uint8)).convert("RGB") for image in load_digits().images[:400]]
    shapes = []
    for place in np.random.default_rng(0).integers(2, 22, (200, 4)):
        image = Image.new("RGB", (32, 32), "white")
        image.paste((int(place[2]) * 10, int(place[3]) * 10, 90), (place[0], place[1], place[0] + 8, place[1] + 8))
        shapes.append(image)
    for images in (digits, shapes):
        found = sequences([Path(f"{number}.png") for number in range(len(images))], prints(images))
        assert sum(map(len, found)) <= 0.02 * len(images)


def test_names_without_numbers_and_few_images_are_not_looked_at() -> None:
    found = prints(film(6))
    assert sequences([Path(f"{letter}.png") for letter in "abcdef"], found) == []
    assert sequences([Path(f"{number}.png") for number in range(3)], found[:3]) == []
    assert sequences([], found[:0]) == []


def test_what_is_said_of_them() -> None:
    one, other, short = (
        [Path(f"{folder}/{number}.png") for number in range(count)]
        for folder, count in zip("abc", (9, 8, 5), strict=True)
    )
    assert list(about_sequences([])) == list(about_sequences([short])) == []
    assert "9 images look like the frames of a film, in order (a/0.png to 8.png)" in next(about_sequences([short, one]))
    assert "17 images look like the frames of 2 films" in next(about_sequences([one, other, short]))
