"""Formats and variants by the names of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.models.files.formats import PICKLES, SAFETENSORS, SUFFIXES, variant


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.safetensors", ""),
        ("model.fp16.safetensors", "fp16"),
        ("model-00001-of-00002.safetensors", ""),
        ("diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "fp16"),
        ("model-00001-of-00002.fp16.safetensors", "fp16"),
        ("model.non_ema.fp16.bin", "non_ema.fp16"),
        ("model-1-of-2.bin", ""),
    ],
)
def test_the_variant_of_a_file(name: str, expected: str) -> None:
    assert variant(Path("unet") / name) == expected


def test_every_suffix_once() -> None:
    assert set(SUFFIXES) == {*SAFETENSORS, *PICKLES, ".gguf"} and len(set(SUFFIXES)) == len(SUFFIXES)
