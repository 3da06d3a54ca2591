"""A checkpoint in words: what a person wants to know before making pictures with it."""

from __future__ import annotations

import base64
import time
from typing import Any

from PySide6.QtGui import QImage

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint, Conditioning, Origin
from diffstudio.ui.controls import human_bytes, human_count

FAMILIES = {"pixel": "pixel transformer"}       # those that pictures can be made with
ORIGINS = {Origin.STARTER: "Came with the program", Origin.TRAINED: "Trained here", Origin.IMPORTED: "From elsewhere"}
_DTYPES = {"F16": "16-bit", "BF16": "bfloat16", "F32": "32-bit", "F64": "64-bit"}
LARGEST_THUMBNAIL_CHARACTERS = 1 << 20


def usable(checkpoint: Checkpoint) -> bool:
    """Whether pictures can be made with it."""
    return checkpoint.family in FAMILIES


def kind(checkpoint: Checkpoint) -> str:
    return FAMILIES.get(checkpoint.family, "kind not known here")


def summary(checkpoint: Checkpoint) -> str:
    """One line: `pixel transformer · 24 M · 64 px · 48 MB`."""
    parts = [kind(checkpoint), human_count(checkpoint.parameters)]
    if checkpoint.width:
        parts.append(f"{checkpoint.width} px" if checkpoint.width == checkpoint.height
                     else f"{checkpoint.width} × {checkpoint.height} px")
    return " · ".join([*parts, human_bytes(checkpoint.size_bytes)])


def told(checkpoint: Checkpoint) -> str:
    """What it makes pictures from."""
    match checkpoint.conditioning:
        case Conditioning.TEXT:
            return "Text"
        case Conditioning.CLASS:
            names = ", ".join(checkpoint.classes[:40])
            more = f" and {len(checkpoint.classes) - 40} more" if len(checkpoint.classes) > 40 else ""
            return f"One of {len(checkpoint.classes)} classes: {names}{more}"
        case _:
            return "Nothing: it makes pictures like those it learnt from" if usable(checkpoint) else ""


def model_facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    size = f"{checkpoint.width} × {checkpoint.height} px" if checkpoint.width else ""
    stored = _DTYPES.get(checkpoint.dtype, checkpoint.dtype)
    return [
        ("Kind", kind(checkpoint)), ("Told", told(checkpoint)), ("Picture size", size),
        ("Parameters", f"{human_count(checkpoint.parameters)} ({stored})"),
        ("File size", human_bytes(checkpoint.size_bytes)), ("Origin", ORIGINS[checkpoint.origin]),
        ("Changed", time.strftime("%Y-%m-%d %H:%M", time.localtime(checkpoint.modified))), ("Name", checkpoint.name),
        ("Licence", checkpoint.metadata.get("modelspec.license", "")[:300]), ("File", str(checkpoint.path))]


def training_facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """How it was trained; nothing when the file does not say."""
    recipe, run = _table(checkpoint, "recipe"), _table(checkpoint, "run")
    optimiser, settings, data = (_inner(recipe, name) for name in ("optimiser", "run", "data"))
    loss = run.get("held_out_loss")
    facts = [
        ("Recipe", _text(recipe.get("name"))), ("Steps", _count(run.get("steps"))),
        ("Pictures seen", _count(run.get("pictures_seen"))),
        ("Held-out loss", f"{loss:.4f}" if isinstance(loss, (int, float)) and not isinstance(loss, bool) else ""),
        ("Optimiser", _text(optimiser.get("name"))), ("Batch", _count(settings.get("batch"))),
        ("Flips", f"{data['flips']:.0%}" if isinstance(data.get("flips"), float) and data["flips"] else "")]
    return [(name, value) for name, value in facts if value]


def description(checkpoint: Checkpoint) -> str:
    return checkpoint.metadata.get("modelspec.description", "").strip()[:2000]


def thumbnail(checkpoint: Checkpoint) -> QImage:
    """The picture in its header; null when there is none."""
    try:
        encoded = checkpoint.json("thumbnail")
        if not isinstance(encoded, str) or len(encoded) > LARGEST_THUMBNAIL_CHARACTERS:
            return QImage()
        return QImage.fromData(base64.b64decode(encoded, validate=True))
    except (CheckpointDamaged, ValueError):
        return QImage()


def _table(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    try:
        value = checkpoint.json(key)
    except CheckpointDamaged:
        return {}
    return value if isinstance(value, dict) else {}


def _inner(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return str(value)[:200] if isinstance(value, str) else ""


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else ""
