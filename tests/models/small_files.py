"""Small checkpoints in one file, with CLIP's own words, and configurations as the program's are: whole in every way but
size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from diffstudio import paths
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.clip_vocabulary import clip_vocabulary
from diffstudio.models.detection.types import Role
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tools.spec import ToolProgress, ToolResult
from tests.models import small

BUILDERS: dict[str, Callable[..., Any]] = {
    "sd1": small.small_sd1,
    "sd2": small.small_sd2,
    "sdxl": small.small_sdxl,
    "sdxl_refiner": small.small_refiner,
}
_PREDICTIONS = {"sd2": "v"}


def words(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's own, as they come with the program."""
    known, merges = clip_vocabulary()
    return CLIPTokenizer(vocab=dict(known), merges=list(merges), pad_token=pad, model_max_length=77)


def worded(pipeline: Any) -> Any:
    """The small pipeline with CLIP's own vocabulary in its encoders."""
    for number in ("", "_2"):
        encoder = getattr(pipeline, f"text_encoder{number}", None)
        if encoder is None:
            continue
        values = encoder.config.to_dict() | {"vocab_size": 49_408, "bos_token_id": 49_406, "eos_token_id": 49_407}
        kind = CLIPTextModelWithProjection if isinstance(encoder, CLIPTextModelWithProjection) else CLIPTextModel
        torch.manual_seed(7)
        setattr(pipeline, f"text_encoder{number}", small._lively(kind(CLIPTextConfig(**values))))
        setattr(pipeline, f"tokenizer{number}", words("!" if values["hidden_act"] == "gelu" else "<|endoftext|>"))
    return pipeline


def small_folder(folder: Path, family: str, **options: Any) -> Path:
    worded(BUILDERS[family](**options)).save_pretrained(folder)
    return folder


def small_resources(root: Path, folders: dict[str, Path]) -> Path:
    """A folder of resources whose configurations are those of the small pipelines."""
    shutil.copytree(paths.resources() / "families" / "clip", root / "families" / "clip")
    shutil.copytree(paths.resources() / "starter", root / "starter")
    but = shutil.ignore_patterns("*.safetensors", "tokenizer*", "model_index*")
    for family, folder in folders.items():
        shutil.copytree(folder, root / "families" / family, ignore=but)
        _as_published(root / "families" / family)
    return root


def _as_published(folder: Path) -> None:
    """Ours say of text encoders what transformers' file would be read as."""
    for config in folder.glob("text_encoder*/config.json"):
        values = json.loads(config.read_text())
        config.write_text(
            json.dumps({key: value for key, value in values.items() if key not in ("dtype", "transformers_version")})
        )


def record(path: Path, family: str, **about: Any) -> Checkpoint:
    """Its record, as if it were as wide as real ones are."""
    values = {"family": family, "role": Role.CHECKPOINT, "prediction": _PREDICTIONS.get(family, "eps")} | about
    return replace(read_checkpoint(path), **values)


def made(making: ToolProgress) -> ToolResult:
    """What a tool makes, with fractions that rise to 1."""
    items = list(making)
    fractions = [item for item in items[:-1] if isinstance(item, float)]
    assert len(fractions) == len(items) - 1 and fractions == sorted(fractions) and fractions[-1] == 1.0
    assert isinstance(items[-1], ToolResult) and items[-1].size_bytes > 0
    return items[-1]


@pytest.fixture
def small_world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A small diffusers folder of a family, made once, with the program's configurations in its size."""

    def folder(family: str) -> Path:
        made = _folder(tmp_path_factory, family)
        root = made.parent / f"resources-{family}"
        if not root.exists():
            small_resources(root, {family: made})
        monkeypatch.setattr(paths, "resources", lambda: root)
        return made

    return folder


_FOLDERS: dict[str, Path] = {}


def _folder(factory: pytest.TempPathFactory, family: str) -> Path:
    if family not in _FOLDERS or not _FOLDERS[family].exists():
        _FOLDERS[family] = small_folder(factory.mktemp("small") / family, family)
    return _FOLDERS[family]
