"""NamedFiles: pictures written where a person said on the command line, in place of the gallery."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffstudio.atomic import atomic_write, check_writable, storage_errors, storage_problem
from diffstudio.errors import BadRequest
from diffstudio.studio.requests import PictureRequest, UpscaleRequest

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class NamedFile:
    """What `NamedFiles.add` made: the part of a GalleryImage that generating reads."""

    path: Path


class NamedFiles:
    """Where `--out` points: a file, a pattern with `{seed}` or `{number}` (from 1), or a folder.

    Several pictures and one plain file name become name-1.png, name-2.png and so on. Raises BadRequest for a name that
    is not a PNG's, and StorageProblem where nothing can be written: before any work is done.
    """

    def __init__(self, out: Path, request: PictureRequest) -> None:
        self._written = 0
        try:
            self._pattern = _pattern(out, request)
            first = self._path(request.seed, 1)
            if first.is_dir():
                raise BadRequest(f"{first} is a folder", "the picture would need its name", "Choose another name")
            check_writable(first)
        except OSError as error:
            raise storage_problem(_not_written(out), out.parent, error) from error

    def add(self, image: Image, request: PictureRequest, *, extra: Mapping[str, Any] | None = None) -> NamedFile:
        """Write picture `extra["index"]` of the request, which it carries: beside itself, then renamed."""
        from diffstudio.studio.metadata import metadata

        about = dict(extra or {})
        index = int(about.setdefault("index", self._written))
        self._written += 1
        path = self._path(request.seed + index, index + 1)
        failed = _not_written(path)
        with storage_errors(failed, path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)  # a pattern may name a folder for each
            with atomic_write(path, failed) as file:
                image.save(file, format="PNG", pnginfo=metadata.write(image, request, about))
        return NamedFile(path)

    def _path(self, seed: int, number: int) -> Path:
        return Path(self._pattern.replace("{seed}", str(seed)).replace("{number}", str(number)))


def _pattern(out: Path, request: PictureRequest) -> str:
    text = str(out)
    unknown = [name for name in re.findall(r"\{(\w*)\}", out.name) if name not in ("seed", "number")]
    if unknown and not out.exists():
        raise BadRequest(
            f"The name {out.name[:80]} asks for {{{unknown[0][:40]}}}",
            "a pattern may hold {seed} and {number}",
            "Use one of them",
        )
    if out.is_dir() or text.endswith(("/", "\\")) or not out.suffix:
        if isinstance(request, UpscaleRequest):
            return str(out / f"{_short_name(request.source.stem)}-{request.scale:g}x.png")
        name = "{prompt}-{seed}" if request.count == 1 else "{prompt}-{seed}-{number}"
        return str(out / name.replace("{prompt}", _short_name(request.prompt))) + ".png"
    if out.suffix.lower() != ".png":
        raise BadRequest(
            f"The picture was to be written as {out.suffix}",
            "pictures are written as PNG, which carries their settings",
            f"Name it {out.stem}.png",
        )
    if request.count > 1 and "{seed}" not in text and "{number}" not in text:
        return str(out.with_name(out.stem + "-{number}" + out.suffix))
    return text


def _short_name(prompt: str) -> str:
    """A file name that any system takes, in the prompt's own script."""
    return re.sub(r"[^\w]+", "-", prompt).strip("-_")[:40].strip("-_") or "picture"


def _not_written(path: Path) -> str:
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}…"
    return f"The image could not be written to {shown}"
