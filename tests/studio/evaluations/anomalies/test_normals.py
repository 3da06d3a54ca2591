"""Anomalies hidden among digits: noise, one colour, another class; and plain digits, of which nothing is said."""

from __future__ import annotations

from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from diffstudio.evaluation.anomalies import neighbours
from diffstudio.studio.evaluations.anomalies.detectors import Detectors
from diffstudio.studio.evaluations.anomalies.normals import notes_on_normals

COUNT, HIDDEN = 48, 8


@pytest.fixture(autouse=True)
def small_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bank of patches decides nothing here, and takes most of the time."""
    monkeypatch.setattr(neighbours, "MOST_PATCHES", 16)
    monkeypatch.setattr(neighbours, "_CANDIDATES", 400)


def digits(label: int | None, count: int) -> torch.Tensor:
    data = load_digits()
    images = data.images if label is None else data.images[data.target == label]
    grey = torch.from_numpy(images[:count] / 8 - 1).float()[:, None]
    return grey.repeat_interleave(2, 2).repeat_interleave(2, 3)


def notes(images: torch.Tensor, channels: int = 1, suspicious: tuple[str, ...] = ()) -> list[str]:
    """Of images of which every third is held out; the last HIDDEN are called `odd`."""
    images = images.expand(-1, channels, -1, -1)
    places = np.arange(len(images))
    held_out, training = places[places % 3 == 2], places[places % 3 != 2]
    names = [f"digit-{place}.png" if place < COUNT else f"odd-{place}.png" for place in places]
    real: Any = SimpleNamespace(dataset=SimpleNamespace(paths=[PurePosixPath(name) for name in names]))
    device = torch.device("cpu")
    detectors = Detectors.of(
        images[training], images[held_out], None, 1, 0, 8, device, lambda: None, lambda done, total: None
    )
    return notes_on_normals(real, training, held_out, detectors, suspicious)


def hidden(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if kind == "noise":
        return (0.5 * torch.randn(HIDDEN, 1, 16, 16, generator=generator)).clamp(-1, 1)
    if kind == "one noise image, hardly changed":
        one = torch.rand(1, 1, 16, 16, generator=generator) * 2 - 1
        return (one + 0.1 * torch.randn(HIDDEN, 1, 16, 16, generator=generator)).clamp(-1, 1)
    if kind == "one colour":
        return (0.3 * torch.rand(HIDDEN, 1, 1, 1, generator=generator) - 0.6).expand(-1, 1, 16, 16)
    return digits(0, HIDDEN)


@pytest.mark.parametrize("kind", ["noise", "one noise image, hardly changed", "one colour", "another class"])
def test_anomalies_that_are_alike_are_found_among_normal_images(kind: str) -> None:
    normals = digits(1 if kind == "another class" else None, COUNT)
    (said,) = notes(torch.cat([normals, hidden(kind)]))
    assert "digit-" not in said
    assert f"{HIDDEN} of {COUNT + HIDDEN} normal images are unlike the others, alone or in small groups: odd-" in said
    assert " and 5 more. If they are anomalies, remove them" in said


@pytest.mark.parametrize("label", [None, 3])
def test_nothing_is_said_of_plain_digits(label: int | None) -> None:
    assert notes(digits(label, COUNT)) == []


def test_images_of_other_channels_are_compared_by_their_pixels() -> None:
    found = notes(torch.cat([digits(None, COUNT), hidden("noise")]), channels=2)
    assert len(found) == 1 and "normal images are unlike the others" in found[0] and "digit-" not in found[0]


def test_suspicious_held_out_images_are_said_once() -> None:
    name = "odd-50.png"
    one_colour = torch.cat([digits(None, COUNT), digits(None, 2), torch.full((1, 1, 16, 16), 0.4)])
    found = notes(one_colour, suspicious=(name,))
    assert len(found) == 1 and found[0].startswith(
        f"1 of 17 held-out normal images score far above the others, such as {name}."
    )
