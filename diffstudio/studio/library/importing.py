"""A file of weights from elsewhere, brought into the person's own folder of models."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

from diffstudio.atomic import atomic_write, link
from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.models.checkpoint import Role
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.library.records import read_checkpoint

_CHUNK_BYTES = 8 << 20
FOLDERS = {
    Role.LORA: "loras",
    Role.EMBEDDING: "embeddings",
    Role.VAE: "vae",
    Role.CONTROLNET: "controlnet",
    Role.UPSCALER: "upscale_models",
    Role.TEXT_ENCODER: "text_encoders",
    Role.NETWORK: "diffusion_models",
}


def import_file(path: Path, folder: Path) -> Generator[float | Path, None, None]:
    """How much is done, from 0 to 1; at last where the file lies: below `folder`, in a sub-folder for its kind.

    On one disk it is the same file under a second name, which takes no room; elsewhere a copy. What lies there already is
    left alone: the same content is not brought twice, another of that name gets a number. Closed before its end, it leaves
    nothing behind. Raises CheckpointDamaged for what is no file of weights, BadRequest for a folder, StorageProblem when it
    cannot be written.
    """
    where = folder / FOLDERS.get(read_checkpoint(path).role, "")
    try:
        if path.resolve().is_relative_to(folder.resolve()):
            yield path.absolute()
            return
        if path.is_dir():
            raise BadRequest(
                f"{path.name} is a folder",
                "files are brought in, and folders stay where they are",
                "Name the folder that holds it among the folders of models in Settings",
            )
        where.mkdir(parents=True, exist_ok=True)
        target = _name_for(path, where)
        if not target.exists() and not link(path, target):
            yield from _copied(path, target)
    except OSError as error:
        raise StorageProblem(
            f"{path.name} cannot be brought to {where}",
            error.strerror or str(error),
            "Free some space, or choose another folder in Settings",
        ) from error
    yield target.absolute()


def _name_for(path: Path, where: Path) -> Path:
    """A name that is free, or that of a file with the same content."""
    number, target = 1, where / path.name
    while target.exists():
        if target.stat().st_size == path.stat().st_size and sha256_of(target) == sha256_of(path):
            break
        number += 1
        target = where / f"{path.stem}-{number}{path.suffix}"
    return target


def _copied(path: Path, target: Path) -> Generator[float, None, None]:
    size, done = max(1, path.stat().st_size), 0
    with path.open("rb") as source, atomic_write(target) as copy:
        while chunk := source.read(_CHUNK_BYTES):
            copy.write(chunk)
            done += len(chunk)
            yield min(1.0, done / size)
        copy.flush()
        shutil.copystat(path, copy.name)
