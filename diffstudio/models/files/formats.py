"""The file formats of weights, by suffix."""

from __future__ import annotations

import re
from pathlib import Path

INDEX = "model_index.json"  # the file by which a diffusers folder is recognised
SAFETENSORS, PICKLES = (".safetensors", ".sft"), (".ckpt", ".pt", ".pth", ".bin")
SUFFIXES = (*SAFETENSORS, ".gguf", *PICKLES)


def variant(path: Path) -> str:
    """The variant in a file name: `fp16` of `model.fp16.safetensors` and its shards; empty for the plain one."""
    stem = re.sub(r"-\d{5}-of-\d{5}", "", path.stem)
    return stem.partition(".")[2]
