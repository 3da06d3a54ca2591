from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.ui.widgets.images import read_image, unreadable_reason

pytestmark = pytest.mark.usefixtures("qapp")


def test_it_is_known_why_a_picture_cannot_be_read(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
    assert not read_image(whole).isNull()

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    huge = tmp_path / "huge.png"
    huge.write_bytes(
        whole.read_bytes()[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + whole.read_bytes()[33:]
    )
    text = tmp_path / "text.png"
    text.write_text("hello")
    assert "30,000 × 30,000 px" in unreadable_reason(huge)
    assert unreadable_reason(text) == ""
    whole.write_bytes(whole.read_bytes()[:2000])
    assert "truncated" in unreadable_reason(whole)
