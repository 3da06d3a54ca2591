"""The file formats of weights, by suffix."""

from __future__ import annotations

import re
from pathlib import Path

INDEX = "model_index.json"  # what makes a folder a diffusers folder
SAFETENSORS, PICKLES = (".safetensors", ".sft"), (".ckpt", ".pt", ".pth", ".bin")
SUFFIXES = (*SAFETENSORS, ".gguf", *PICKLES)


def variant(path: Path) -> str:
    """`fp16` of `model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors`; empty for the plain one."""
    stem = re.sub(r"-\d{5}-of-\d{5}", "", path.stem)
    return stem.partition(".")[2]
