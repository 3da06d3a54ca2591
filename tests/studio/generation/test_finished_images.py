"""From the network's [-1,1] to the values of files: exact to half a level, in the folder's own units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffstudio.models.output_format import OutputFormat, ValueType
from diffstudio.studio.generation.finished_images import finished_images

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


def test_a_ramp_of_16_bits_comes_back() -> None:
    state = torch.from_numpy(RAMP.astype(np.float32)).div_(32767.5).sub_(1)[None, None]
    (finished,) = finished_images(state, OutputFormat(1, values=ValueType.UINT16))
    assert finished.exact is not None and finished.exact.as_png
    assert finished.exact.values.dtype == np.uint16
    np.testing.assert_array_equal(finished.exact.values[..., 0], RAMP)
    assert finished.image.mode == "L"
    assert np.abs(np.asarray(finished.image) - RAMP / 257).max() <= 0.5


@pytest.mark.parametrize(
    ("output", "mode"), [(OutputFormat(1), "L"), (OutputFormat(2, True), "LA"), (OutputFormat(4, True), "RGBA")]
)
def test_images_of_8_bits_are_all_in_the_png(output: OutputFormat, mode: str) -> None:
    state = torch.linspace(-1.2, 1.2, 256).view(1, 1, 16, 16).expand(2, output.channels, -1, -1)
    first, _ = finished_images(state, output)
    assert first.exact is None
    assert first.image.mode == mode
    assert np.asarray(first.image).min() == 0
    assert np.asarray(first.image).max() == 255


def test_floats_in_their_own_units() -> None:
    hounsfield = OutputFormat(1, values=ValueType.FLOAT32, limits=((-1024.0, 3071.0),))
    state = torch.tensor([-1.0, 0.0, 1.0, float("nan")]).view(1, 1, 2, 2)
    (finished,) = finished_images(state, hounsfield)
    assert finished.exact is not None and not finished.exact.as_png
    assert finished.exact.values.dtype == np.float32
    assert finished.exact.values.flatten().tolist() == [-1024.0, 1023.5, 3071.0, -1024.0]


def test_arrays() -> None:
    state = torch.linspace(-1, 1, 5).view(1, 5, 1, 1).expand(1, 5, 4, 4)
    limits = tuple((0.0, float(10**power)) for power in range(5))
    (finished,) = finished_images(state, OutputFormat(5, values=ValueType.FLOAT32, limits=limits))
    assert finished.exact is not None
    assert finished.exact.values[0, 0].tolist() == pytest.approx([0, 2.5, 50, 750, 10_000])
    assert finished.image.mode == "RGB"
    (finished,) = finished_images(state, OutputFormat(5))
    assert finished.exact is not None
    assert finished.exact.values[0, 0].tolist() == [0, 64, 128, 191, 255]
    assert finished.exact.values.dtype == np.uint8
