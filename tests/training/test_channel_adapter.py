"""Maps between the channels of a checkpoint and those of a run that starts from it."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.imaging.levels import PixelForm
from diffstudio.models.output_format import OutputFormat
from diffstudio.training.channel_adapter import channel_clauses, mixing

IMAGES = {1: False, 2: True, 3: False, 4: True}  # channels, and whether the last is opacity


@pytest.mark.parametrize("known", IMAGES)
@pytest.mark.parametrize("wanted", IMAGES)
def test_grey_images_are_the_same_after_each_map_and_opacity_is_kept_or_zero(known: int, wanted: int) -> None:
    between = mixing(OutputFormat(known, IMAGES[known]), PixelForm(wanted, alpha=IMAGES[wanted]))
    assert between is not None
    for matrix, source, target in ((between.to_known, wanted, known), (between.to_wanted, known, wanted)):
        image = np.array([0.25] * (source - IMAGES[source]) + [0.75] * IMAGES[source])
        opacity = [0.75 if IMAGES[source] else 0.0] * IMAGES[target]
        assert np.allclose(np.array(matrix) @ image, [0.25] * (target - IMAGES[target]) + opacity)
    if known == wanted:
        assert np.array_equal(between.to_known, np.eye(known)) and not clauses(known, wanted)


def clauses(known: int, wanted: int) -> list[str]:
    return channel_clauses(
        OutputFormat(known, IMAGES.get(known, False)), PixelForm(wanted, alpha=IMAGES.get(wanted, False)), "starter"
    )


def test_what_becomes_of_the_weights_is_said_for_each_pair_of_kinds() -> None:
    assert clauses(3, 1) == ["the weights of starter for red, green and blue are combined for grey"]
    assert clauses(1, 3) == ["the weights of starter for grey are used for red, green and blue"]
    assert clauses(3, 4) == ["the weights for opacity are initialised, because starter has none"]
    assert clauses(4, 3) == ["the weights of starter for opacity are not used"]
    assert len(clauses(3, 2)) == 2
    assert clauses(3, 7) == [
        "the layers that read and write 7 channels are initialised, because starter has 3 channels"
    ]


def test_arrays_share_their_layers_only_with_arrays_of_the_same_number_of_channels() -> None:
    four = OutputFormat(4)  # an array, not RGB with opacity
    same = mixing(four, PixelForm(4))
    assert same is not None and np.array_equal(same.to_known, np.eye(4)) and same.to_known == same.to_wanted
    assert mixing(four, PixelForm(4, alpha=True)) is None and mixing(OutputFormat(), PixelForm(4)) is None
    assert mixing(OutputFormat(7), PixelForm(6)) is None and mixing(OutputFormat(7), PixelForm(1)) is None
