"""Import a model file from elsewhere into the user's own models folder."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from diffstudio import paths
from diffstudio.atomic import atomic_write, link, rename
from diffstudio.errors import FREE_SPACE_OR_FOLDER, BadRequest, CheckpointUnknown, StorageProblem
from diffstudio.models.adapters.adapter_config import adapter_config_path
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.requirements import COMPONENT_KINDS
from diffstudio.models.components.tokenizers import KnownTokenizer, tokenizer_files
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.formats import CHOOSE_ANOTHER_FILE, PICKLES, SAFETENSORS, SUFFIXES
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
_SUFFIX_BY_LAYOUT = {Layout.GGUF: ".gguf", Layout.PICKLE: PICKLES[0]}  # of files whose own suffix the library skips


def import_file(path: Path, folder: Path, *, move: bool = False) -> Generator[float | Path, None, None]:
    """Import a model file into the subfolder of `folder` for its kind; yields the progress, 0 to 1, then its new path.

    A PEFT adapter has its config file next to it: both are imported, into a folder named after the adapter. A tokenizer of
    T5 or Qwen, a file of it or its folder, goes where checkpoints that need one look for it.

    On the same disk it is a hard link, which takes no space; elsewhere a copy, or with `move` the file itself where the
    disk has no links. A file without the suffix of a weights
    file gets that of its format. An existing file is kept: the same content is not imported twice, and another file of
    that name gets a number. Closed before its end, it leaves nothing behind. CheckpointDamaged for what is not a model
    file, CheckpointUnknown for what nothing here can use, BadRequest for a folder, StorageProblem when it cannot be
    written.
    """
    if (tokenizer := tokenizer_files(path)) is not None:
        yield from _tokenizer_imported(*tokenizer, folder)
        return
    checkpoint = read_checkpoint(path)
    _check_usable(checkpoint)
    path, where = checkpoint.path, folder / FOLDERS.get(checkpoint.role, "")
    config = None if path.is_dir() else adapter_config_path(path)
    try:
        if (included := _included(path)) is not None or _is_listed(path, folder):
            yield included or path.absolute()
            return
        if config is not None:
            where = _folder_for((path, config), where / checkpoint.name)
        if path.is_dir():
            raise BadRequest(
                f"{path.name} is a folder",
                "only files are imported",
                "Add the folder that contains it to the model folders in Settings",
            )
        where.mkdir(parents=True, exist_ok=True)
        has_suffix = path.suffix.lower() in SUFFIXES
        suffix = "" if has_suffix else _SUFFIX_BY_LAYOUT.get(checkpoint.layout, SAFETENSORS[0])
        target = _name_for(path, where, suffix)
        if not target.exists() and not link(path, target) and not (move and _moved(path, target)):
            yield from _copied(path, target)
        if config is not None and not (where / config.name).exists():
            yield from _copied(config, where / config.name)
    except OSError as error:
        raise _not_imported(path, where, error) from error
    finally:
        if config is not None:
            with suppress(OSError):
                where.rmdir()  # where nothing was written to it
    yield target.absolute()


def _tokenizer_imported(
    tokenizer: KnownTokenizer, files: Sequence[Path], folder: Path
) -> Generator[float | Path, None, None]:
    """Yields the progress, then the path of the first file."""
    if _is_listed(files[0], folder):
        yield files[0].absolute()
        return
    place = folder / COMPONENT_KINDS[f"tokenizer-{tokenizer.kind}"].folder
    try:
        where = _folder_for(files, place)
        where.mkdir(parents=True, exist_ok=True)
        for file in files:
            if not (where / file.name).exists():
                yield from _copied(file, where / file.name)
    except OSError as error:
        raise _not_imported(files[0], place, error) from error
    yield (where / files[0].name).absolute()


def _not_imported(path: Path, where: Path, error: OSError) -> StorageProblem:
    why = error.strerror or str(error)
    return StorageProblem(f"{path.name} cannot be imported to {where}", why, f"{FREE_SPACE_OR_FOLDER} in Settings")


def _is_listed(path: Path, folder: Path) -> bool:
    """Whether the library lists a file because it is in this folder already: it skips hidden folders."""
    try:
        inside = path.resolve().relative_to(folder.resolve())
    except ValueError:
        return False
    return not any(part.startswith(".") for part in inside.parts)


def _included(path: Path) -> Path | None:
    """The checkpoint that comes with the program, if this is its file or a link to it."""
    return next((included for included in paths.included_checkpoints() if path.samefile(included)), None)


def _check_usable(checkpoint: Checkpoint) -> None:
    """CheckpointUnknown for a model that nothing here can use."""
    match checkpoint.role:
        case Role.UNKNOWN:
            usable = False
        case Role.CHECKPOINT | Role.NETWORK:
            usable = checkpoint.can_generate
        case Role.UPSCALER:
            usable = checkpoint.supported or find_spec("spandrel") is not None
        case _:
            usable = checkpoint.supported
    if not usable:
        reason = checkpoint.reason[:1].lower() + checkpoint.reason[1:].rstrip(".")
        raise CheckpointUnknown(f"{checkpoint.path.name} cannot be used by diffstudio", reason, CHOOSE_ANOTHER_FILE)


def _folder_for(files: Sequence[Path], where: Path) -> Path:
    """A folder called `where`, or `where-2` and so on, that has no different files of these names."""
    number, folder = 1, where
    while any((folder / one.name).exists() and not _has_same_content(folder / one.name, one) for one in files):
        number += 1
        folder = where.with_name(f"{where.name}-{number}")
    return folder


def _has_same_content(target: Path, path: Path) -> bool:
    return target.is_file() and target.stat().st_size == path.stat().st_size and sha256_of(target) == sha256_of(path)


def _name_for(path: Path, where: Path, suffix: str) -> Path:
    """A name that is free, or that of a file with the same content; it ends with `suffix`."""
    name = Path(path.name + suffix)
    number, target = 1, where / name
    while target.exists():
        if _has_same_content(target, path):
            break
        number += 1
        target = where / f"{name.stem}-{number}{name.suffix}"
    return target


def _moved(path: Path, target: Path) -> bool:
    """Rename a file; False where that is impossible, because the target is on another disk."""
    try:
        rename(path, target)
    except OSError:
        return False
    return True


def _copied(path: Path, target: Path) -> Generator[float, None, None]:
    size, done = max(1, path.stat().st_size), 0
    with path.open("rb") as source, atomic_write(target) as copy:
        while chunk := source.read(_CHUNK_BYTES):
            copy.write(chunk)
            done += len(chunk)
            yield min(1.0, done / size)
        copy.flush()
        shutil.copystat(path, copy.name)
