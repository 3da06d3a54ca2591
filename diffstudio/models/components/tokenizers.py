"""Find T5's and Qwen's tokenizers on disk, which do not ship with the program. No torch.

Diffusers folders have them in `tokenizer`, `tokenizer_2`, `tokenizer_3`; ComfyUI in its own package, in
`comfy/text_encoders/t5_tokenizer` and `qwen25_tokenizer`; downloaded ones are in `tokenizers/` of the models folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.models.library.model_folders import is_folder

_LARGEST_BYTES = 64 << 20
_DEEPEST = 3  # levels of folders below a models folder that are searched
_QWEN = "<|im_start|>"  # starts a turn of a conversation
_T5 = ["<pad>", "</s>", "<unk>"]
_WHOLE = ("tokenizer.json", "tokenizer_config.json")
_PARTS = ("vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")


@dataclass(frozen=True, slots=True)
class KnownTokenizer:
    kind: str  # t5 or qwen
    vocab_size: int


def tokenizer_in(folder: Path) -> KnownTokenizer | None:
    """The tokenizer in a folder, recognised by its vocabulary; None for others."""
    whole = _read_json(folder / "tokenizer.json")
    model, added = whole.get("model"), _contents(whole.get("added_tokens"))
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list) and [one[0] for one in vocabulary[:3] if isinstance(one, list) and one] == _T5:
        return KnownTokenizer("t5", len(vocabulary))
    if isinstance(vocabulary, dict) and _QWEN in added:
        return KnownTokenizer("qwen", len(vocabulary) + sum(token not in vocabulary for token in added))
    if not whole and (folder / "merges.txt").is_file():
        vocabulary = _read_json(folder / "vocab.json")
        by_id = _read_json(folder / "tokenizer_config.json").get("added_tokens_decoder")
        added = _contents(list(by_id.values()) if isinstance(by_id, dict) else None)
        if vocabulary and _QWEN in added:
            return KnownTokenizer("qwen", len(vocabulary) + sum(token not in vocabulary for token in added))
    return None


def tokenizer_files(path: Path) -> tuple[KnownTokenizer, list[Path]] | None:
    """The tokenizer of T5 or Qwen that a folder, or a file in it, holds, and its files; None for anything else."""
    folder = path if path.is_dir() else path.parent
    names = _WHOLE if (folder / _WHOLE[0]).is_file() else _PARTS
    if not path.is_dir() and path.name not in names:
        return None
    if path.is_dir() and any(folder.glob("*.safetensors")):  # a whole text encoder
        return None
    found = tokenizer_in(folder)
    return None if found is None else (found, [file for name in names if (file := folder / name).is_file()])


def _contents(added_tokens: Any) -> list[str]:
    """The texts of a tokenizer's added tokens; empty for anything but a list."""
    if not isinstance(added_tokens, list):
        return []
    return [str(token.get("content")) for token in added_tokens if isinstance(token, dict)]


def tokenizer_folders(near: Path, diffusers_folders: Iterable[Path], folders: Iterable[Path]) -> Iterator[Path]:
    """Every folder that may hold a tokenizer, each once: next to a text encoder, in diffusers folders, below the models
    folders.
    """
    seen: set[Path] = set()
    for folder in _candidates(near, diffusers_folders, folders):
        if folder not in seen:
            seen.add(folder)
            if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
                yield folder


def _candidates(near: Path, diffusers_folders: Iterable[Path], folders: Iterable[Path]) -> Iterator[Path]:
    yield near
    yield from _children(near)
    for folder in diffusers_folders:
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
    """The subfolders that are not hidden; none of a folder that cannot be read."""
    try:
        return sorted(
            Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".") and is_folder(entry)
        )
    except OSError:
        return []


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _LARGEST_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
