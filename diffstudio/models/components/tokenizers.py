"""Tokenizers on a person's disk: T5's and Qwen's, which do not come with the program. No torch.

Folders of models made by diffusers have them in `tokenizer`, `tokenizer_2`, `tokenizer_3`; ComfyUI in its own package, in
`comfy/text_encoders/t5_tokenizer` and `qwen25_tokenizer`; what is fetched here lies in `tokenizers/` of the models folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths

_LARGEST_BYTES = 64 << 20
_DEEPEST = 3  # folders below one of models, in which a tokenizer is looked for
_QWEN = "<|im_start|>"  # what begins a turn of a conversation
_T5 = ["<pad>", "</s>", "<unk>"]


@dataclass(frozen=True, slots=True)
class KnownTokenizer:
    kind: str  # t5 or qwen
    words: int


def tokenizer_in(folder: Path) -> KnownTokenizer | None:
    """Which tokenizer a folder holds, by its vocabulary; None where that is none that is known here."""
    whole = _table(folder / "tokenizer.json")
    model = whole.get("model") if isinstance(whole.get("model"), dict) else {}
    assert isinstance(model, dict)
    added = [str(token.get("content")) for token in whole.get("added_tokens") or () if isinstance(token, dict)]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list) and [one[0] for one in vocabulary[:3] if isinstance(one, list) and one] == _T5:
        return KnownTokenizer("t5", len(vocabulary))
    if isinstance(vocabulary, dict) and _QWEN in added:
        return KnownTokenizer("qwen", len(vocabulary) + sum(token not in vocabulary for token in added))
    if not whole and (folder / "merges.txt").is_file():
        words = _table(folder / "vocab.json")
        told = _table(folder / "tokenizer_config.json").get("added_tokens_decoder")
        contents = (
            [one.get("content") for one in told.values() if isinstance(one, dict)] if isinstance(told, dict) else []
        )
        if words and _QWEN in contents:
            return KnownTokenizer("qwen", len(words) + sum(token not in words for token in contents))
    return None


def tokenizer_folders(near: Path, lending: Iterable[Path], folders: Iterable[Path]) -> Iterator[Path]:
    """Every folder that may hold one, each once: beside a text encoder, in diffusers folders, below the folders of models."""
    seen: set[Path] = set()
    for folder in _places(near, lending, folders):
        if folder not in seen:
            seen.add(folder)
            if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
                yield folder


def _places(near: Path, lending: Iterable[Path], folders: Iterable[Path]) -> Iterator[Path]:
    yield near
    yield from _children(near)
    for folder in lending:
        yield from (child for child in _children(folder) if child.name.startswith("tokenizer"))
    for folder in (*folders, paths.checkpoints()):
        for root in (folder, folder.parent):
            yield from _children(root / "comfy" / "text_encoders")
        yield from _below(folder, _DEEPEST)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth:
        for child in _children(folder):
            yield from _below(child, depth - 1)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(
            Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError:
        return []


def _table(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _LARGEST_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
