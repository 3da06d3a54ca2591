"""Files in an image's settings, by name and SHA-256, so that an image that is shared reveals no folder names.

A request holds paths. In the JSON of an image an init image, a mask, a control image or the image that was upscaled is

    {"name": "photo.png", "sha256": "<64 digits, or empty if it could not be read>", "size": 12345}

with the size in bytes, and a model that was given by its path is its name, with its SHA-256 in `models`:

    "vae": "sharp", "models": {"sharp": "<64 digits>"}

Read again, such a file is a path of no file, `sha256-<digits>-<size>/photo.png`, until it is found by `located`. Images
of version 0.1 hold paths; those stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import CheckpointMissing
from diffstudio.models.files.formats import SUFFIXES
from diffstudio.models.files.hashes import known_file, sha256_of
from diffstudio.studio.prompts import lora_tags
from diffstudio.studio.requests import GenerateRequest, PictureRequest, UpscaleRequest

MODELS_KEY = "models"
_IMAGES = {"init": "init image", "mask": "mask", "source": "source image"}  # fields, and what a message calls them
_CONTROL_IMAGE = "control image"
_MODELS = ("checkpoint", "vae", "upscaler", "autoguidance")
_PROMPTS = ("prompt", "negative")
_REFERENCE = re.compile(r"sha256-([0-9a-f]{64})?-(\d{1,18})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABSOLUTE = ("/", "~", "./", "../")  # how paths begin that are not below the current folder, or say so
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class NamedFile:
    """An image file that settings refer to."""

    name: str
    sha256: str = ""  # empty if it was not readable when the settings were written
    size: int = 0  # bytes

    @classmethod
    def of(cls, path: Path) -> NamedFile | None:
        """What a path that stands for such a file refers to; None for the path of a file."""
        match = _REFERENCE.fullmatch(path.parent.as_posix())
        return cls(path.name, match[1] or "", int(match[2])) if match is not None else None

    def as_path(self) -> Path:
        return Path(f"sha256-{self.sha256}-{self.size}") / self.name

    def is_at(self, path: Path) -> bool:
        """Whether that file has this content. Reads it only if it has the right size."""
        try:
            return path.stat().st_size == self.size and _hash(path) == self.sha256 != ""
        except OSError:
            return False


def shareable(request: PictureRequest, about: Mapping[str, Any]) -> tuple[PictureRequest, dict[str, Any]]:
    """A request and `about` (as in `metadata.write`) with the names of models in place of their paths."""
    about = dict(about) | {name: _without_folders(about[name]) for name in _PROMPTS if isinstance(about.get(name), str)}
    if isinstance(loras := about.get("loras"), list):
        about["loras"] = [lora | {"name": model_name(lora["name"])} for lora in loras]
    request = replace(
        request,
        prompt=_without_folders(request.prompt),
        negative=_without_folders(request.negative),
        checkpoint=model_name(request.checkpoint),
        vae=model_name(request.vae),
        upscaler=model_name(request.upscaler),
    )
    if isinstance(request, GenerateRequest):
        controls = tuple(replace(use, network=model_name(use.network)) for use in request.controls)
        request = replace(request, controls=controls, autoguidance=model_name(request.autoguidance))
    return request, about


def to_shareable_json(request: PictureRequest) -> dict[str, Any]:
    """The JSON of a request for an image file: no path is in it."""
    named = shareable(request, {})[0]
    values = named.to_json()
    values |= {name: _described(Path(values[name])) for name in _IMAGES if values.get(name) is not None}
    models = [request.checkpoint, request.vae, request.upscaler]
    if isinstance(request, GenerateRequest):
        values["controls"] = [use | {"image": _described(Path(use["image"]))} for use in values["controls"]]
        models += [request.autoguidance, *(use.network for use in request.controls)]
    hashes = {model_name(model): _model_hash(Path(model)) for model in models if model_name(model) != model}
    return values | ({MODELS_KEY: hashes} if hashes else {})


def from_shareable_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON as a request reads it: named files as paths that `located` finds, models as paths if they are known."""
    result = dict(values) | {name: _as_text(values[name]) for name in _IMAGES if name in values}
    hashes = values.get(MODELS_KEY)
    hashes = hashes if isinstance(hashes, dict) else {}
    result |= {name: _model_of(values[name], hashes) for name in _MODELS if name in values}
    if isinstance(controls := values.get("controls"), list):
        result["controls"] = [
            use | {"image": _as_text(use.get("image")), "network": _model_of(use.get("network"), hashes)}
            if isinstance(use, dict)
            else use
            for use in controls
        ]
    return result


def located(request: PictureRequest, find: Callable[[NamedFile], Path | None]) -> PictureRequest:
    """The request with the paths of its named files that `find` finds; the others stay."""

    def found(path: Path) -> Path:
        named = NamedFile.of(path)
        return (find(named) if named is not None else None) or path

    if isinstance(request, UpscaleRequest):
        return replace(request, source=found(request.source))
    return replace(
        request,
        init=found(request.init) if request.init is not None else None,
        mask=found(request.mask) if request.mask is not None else None,
        controls=tuple(replace(use, image=found(use.image)) for use in request.controls),
    )


def needed_files(request: PictureRequest) -> tuple[str, ...]:
    """`init image photo.png` for each named file of a request that has not been found."""
    return tuple(
        f"{what} {named.name}" for what, path in _image_paths(request) if (named := NamedFile.of(path)) is not None
    )


def has_lost_files(request: PictureRequest) -> bool:
    """Whether a file that the request has by its path is gone."""
    return any(NamedFile.of(path) is None and not path.exists() for _, path in _image_paths(request))


def find_near(named: NamedFile, folders: Iterable[Path] = ()) -> Path | None:
    """The file where it was used here, among the painted masks, or under its name in one of these folders."""
    if not named.sha256:
        return None
    places = [known_file(named.sha256), *(folder / named.name for folder in (*folders, paths.data() / "masks"))]
    return next((place for place in places if place is not None and named.is_at(place)), None)


def model_name(name_or_path: str) -> str:
    """The name of a model that was given by its path. A name stays as it is, also one with the folder it is in."""
    text = name_or_path.replace("\\", "/")
    if not text.startswith(_ABSOLUTE) and not _WINDOWS_DRIVE.match(text) and not ("/" in text and _exists(text)):
        return name_or_path
    last = text.rstrip("/").rpartition("/")[2]
    ending = next((suffix for suffix in SUFFIXES if last.lower().endswith(suffix)), "")
    return last[: len(last) - len(ending)]


def _image_paths(request: PictureRequest) -> Iterator[tuple[str, Path]]:
    if isinstance(request, UpscaleRequest):
        yield _IMAGES["source"], request.source
        return
    for what, path in ((_IMAGES["init"], request.init), (_IMAGES["mask"], request.mask)):
        if path is not None:
            yield what, path
    for use in request.controls:
        yield _CONTROL_IMAGE, use.image


def _without_folders(prompt: str) -> str:
    """A prompt whose LoRA tags hold names, as they are looked up, and no paths."""
    return lora_tags.TAG.sub(lambda tag: tag[0].replace(tag[1], model_name(tag[1]), 1), prompt)


def _described(path: Path) -> dict[str, Any] | str:
    named = NamedFile.of(path)
    if named is None:
        try:
            named = NamedFile(path.name, _hash(path), path.stat().st_size)
        except OSError:
            if path.name == str(path):
                return path.name
            named = NamedFile(path.name)
    return {"name": named.name, "sha256": named.sha256, "size": named.size}


def _as_text(value: object) -> object:
    """A named file as the path that stands for it; anything else stays as it is."""
    if not isinstance(value, dict):
        return value
    name, sha256, size = (value.get(key) for key in ("name", "sha256", "size"))
    last = re.split(r"[/\\]", name)[-1].replace("\0", "") if isinstance(name, str) else ""
    if last in ("", ".", ".."):
        return value
    known = isinstance(sha256, str) and _SHA256.fullmatch(sha256) is not None
    counted = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 10**18
    return NamedFile(last, str(sha256) if known else "", int(str(size)) if counted else 0).as_path().as_posix()


def _model_of(name: object, hashes: Mapping[str, object]) -> object:
    sha256 = hashes.get(name) if isinstance(name, str) else None
    path = known_file(sha256) if isinstance(sha256, str) and sha256 else None
    return name if path is None else str(path)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # too long for a path
        return False


def _model_hash(path: Path) -> str:
    """Empty for a folder, and for a file that cannot be read."""
    try:
        return sha256_of(path) if path.is_file() else ""
    except (CheckpointMissing, OSError):
        return ""


def _hash(path: Path) -> str:
    """The SHA-256 of an image file. OSError."""
    try:
        return sha256_of(path)
    except CheckpointMissing as error:
        raise OSError(error.what) from error
