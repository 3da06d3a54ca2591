"""Images of 16 bits that were generated here are known by what their files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from diffstudio.imaging.exact_files import ExactValues, write_png
from diffstudio.models.output_format import PLAIN, OutputFormat, ValueType
from diffstudio.studio.metadata.full_range import pixels_text, was_generated


def test_an_image_without_a_request_says_that_it_was_generated(tmp_path: Path) -> None:
    deep = OutputFormat(1, False, ValueType.UINT16, ((0, 4095),))
    exact = ExactValues(np.full((4, 4, 1), 60_000, np.uint16), as_png=True)
    for name, output, said in (("deep", deep, True), ("plain", PLAIN, False)):
        with (tmp_path / name).open("wb") as file:
            write_png(file, Image.new("L", (4, 4)), pixels_text(output), exact)
        assert was_generated(tmp_path / name) is said
    assert not was_generated(tmp_path / "gone")
