"""OutputFiles: where the command line writes images (`--out`), instead of the gallery."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from diffstudio.atomic import atomic_write, check_writable, write_numbered
from diffstudio.errors import BadRequest
from diffstudio.storage_errors import storage_errors, storage_problem
from diffstudio.studio.requests import PictureRequest, UpscaleRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from diffstudio.imaging.exact_files import ExactValues


@dataclass(frozen=True, slots=True)
class OutputFile:
    """The file that `OutputFiles.add` wrote; a SavedImage."""

    path: Path


class OutputFiles:
    """Where `--out` points: a file, a pattern with `{seed}` or `{number}` (from 1), or a folder.

    `out` is a folder if one is there, if it ends in a slash, or if it has no extension. With a plain file name, several
    images become name-1.png, name-2.png and so on. Unless `overwrite`, existing files are kept: in a folder the new
    ones get other names (name-2.png), and a file or pattern is refused.

    BadRequest for an extension other than .png and for files that exist, StorageProblem where nothing can be written:
    both before any work is done.
    """

    def __init__(self, out: str, request: PictureRequest, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        self._written = 0
        try:
            self._is_folder = _is_folder(out)
            self._pattern = _pattern(Path(out), request, self._is_folder)
            self._check(request)
        except OSError as error:
            raise storage_problem(_not_written(Path(out)), Path(out).parent, error) from error

    def add(
        self,
        image: Image,
        request: PictureRequest,
        *,
        extra: Mapping[str, Any] | None = None,
        exact: ExactValues | None = None,
    ) -> OutputFile:
        """Write image `extra["index"]` of the request atomically, with its metadata.

        `exact` as in `Gallery.add`.
        """
        from diffstudio.imaging.exact_files import write_png
        from diffstudio.studio.metadata import metadata

        about = dict(extra or {})
        index = int(about.setdefault("index", self._written))
        self._written += 1
        path = self._path(request.seed + index, index + 1)
        failed = _not_written(path)

        def write(file: BinaryIO) -> None:
            write_png(file, image, metadata.write(image, request, about), exact)

        with storage_errors(failed, path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)  # a pattern may contain folders
        if self._is_folder and not self._overwrite:
            path = write_numbered(path, write, failed)
        else:
            with atomic_write(path, failed, overwrite=self._overwrite) as file:
                write(file)
        if exact is not None and not exact.as_png:
            self._write_beside(path, exact)
        return OutputFile(path)

    def _write_beside(self, path: Path, exact: ExactValues) -> None:
        from diffstudio.imaging.exact_files import EXACT_SUFFIX, write_tiff

        beside = path.with_suffix(EXACT_SUFFIX)
        with atomic_write(beside, _not_written(beside), overwrite=self._overwrite) as file:
            write_tiff(file, exact)

    def saved_images(self, token: str) -> int:
        """0: a job of the command line is not continued after a crash."""
        return 0

    def _check(self, request: PictureRequest) -> None:
        """BadRequest or OSError if an image of the request cannot be written under its name."""
        paths = [self._path(request.seed + index, index + 1) for index in range(request.count)]
        for path in paths:
            if path.is_dir():
                raise BadRequest(f"{path} is a folder", "an image cannot replace it", "Choose another name")
            if not self._is_folder and not self._overwrite and os.path.lexists(path):
                raise exists_without_force(path)
        check_writable(paths[0])

    def _path(self, seed: int, number: int) -> Path:
        return Path(self._pattern.replace("{seed}", str(seed)).replace("{number}", str(number)))


def exists_without_force(path: Path) -> BadRequest:
    """The error for a file that only --force replaces."""
    return BadRequest(f"{path} already exists", remedy="Choose another name, or give --force to overwrite it")


def _is_folder(out: str) -> bool:
    separators = ("/", "\\") if sys.platform == "win32" else ("/",)
    return Path(out).is_dir() or out.endswith(separators) or not Path(out).suffix


def _pattern(out: Path, request: PictureRequest, is_folder: bool) -> str:
    unknown = [name for name in re.findall(r"\{(\w*)\}", out.name) if name not in ("seed", "number")]
    if unknown and not out.exists():
        raise BadRequest(
            f"The file name {out.name[:80]} contains {{{unknown[0][:40]}}}",
            "only {seed} and {number} are replaced",
            "Use one of them",
        )
    if is_folder:
        if isinstance(request, UpscaleRequest):
            return str(out / f"{_short_name(request.source.stem)}-{request.scale:g}x.png")
        name = "{prompt}-{seed}" if request.count == 1 else "{prompt}-{seed}-{number}"
        return str(out / name.replace("{prompt}", _short_name(request.prompt))) + ".png"
    if out.suffix.lower() != ".png":
        raise BadRequest(
            f"Images cannot be written as {out.suffix}",
            "they are PNG files, which store their settings",
            f"Name it {out.stem}.png",
        )
    text = str(out)
    if request.count > 1 and "{seed}" not in text and "{number}" not in text:
        return str(out.with_name(out.stem + "-{number}" + out.suffix))
    return text


def _short_name(prompt: str) -> str:
    """A prefix of the prompt as a file name that is valid on every system; letters of any script are kept."""
    return re.sub(r"[^\w]+", "-", prompt).strip("-_")[:40].strip("-_") or "image"


def _not_written(path: Path) -> str:
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}…"
    return f"The image could not be written to {shown}"
