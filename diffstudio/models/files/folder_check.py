"""Check an untrusted diffusers folder before diffusers or transformers load it. No torch.

Its JSON files name the classes to instantiate, their sizes and the weights files. All three are checked: classes must
be diffusers' or transformers' own, sizes must go with the weights, and files must be in the folder. Links are followed:
the cache of the Hugging Face hub consists of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diffstudio.errors import (
    NOT_A_JSON_OBJECT,
    CheckpointDamaged,
    CheckpointDangerous,
    CheckpointProblem,
    CheckpointUnknown,
)
from diffstudio.models.files import file_access
from diffstudio.models.files.file_access import DOWNLOAD_AGAIN, regular_file_size
from diffstudio.models.files.formats import INDEX, PICKLES, SAFETENSORS
from diffstudio.models.files.header import Headers
from diffstudio.models.files.pickle_globals import GlobalKind, classify
from diffstudio.models.files.pickle_scan import OTHER_SOURCE, not_opened

_LARGEST_JSON_BYTES = 64 << 20  # a large tokenizer.json has 20 MiB
_MOST_FILES = 10_000
_USUAL_SIZE, _TIMES_LARGEST = 4096, 8  # a size is at most the former, or the latter times the largest tensor dimension
_FEW_LAYERS = 16  # more are allowed only if there are as many tensors
_NO_SIZES = ("theta", "_id", "seed", "max_position", "window")
_LIBRARIES = ("diffusers", "transformers")


def check_folder(folder: Path, headers: Headers | None = None) -> None:
    """Check a folder. CheckpointDangerous, CheckpointUnknown, CheckpointDamaged, CheckpointMissing."""
    index = read_json(folder / INDEX)
    for name, value in index.items():
        if not name.startswith("_") and isinstance(value, list):
            _check_class(folder, name, value)
    try:
        for component in sorted(path for path in folder.iterdir() if path.is_dir()):
            _check_component(component, headers or Headers())
    except OSError as error:
        raise _damaged(folder, (error.strerror or str(error)).lower()) from error


def _check_component(component: Path, headers: Headers) -> None:
    files = [path for path, _ in zip(component.iterdir(), range(_MOST_FILES), strict=False)]
    config = component / "config.json"
    for path in sorted(files):
        if path.name.endswith(".index.json"):
            _check_shards(path, read_json(path))
        elif path.suffix == ".json":
            if path != config or not config.is_file():
                read_json(path)
        elif path.exists() and not path.is_dir():
            regular_file_size(path)
    if config.is_file():  # also where it is not among the first files
        _check_config(component, read_json(config), files, headers)


def needs_code(name: str) -> CheckpointUnknown:
    return CheckpointUnknown(
        f"{name} needs its own program code", "custom code is never run", "Choose another checkpoint"
    )


def _check_config(component: Path, config: Mapping[str, Any], files: Sequence[Path], headers: Headers) -> None:
    if "auto_map" in config:
        raise needs_code(component.parent.name)
    if "" in config:
        raise _damaged(component / "config.json", NOT_A_JSON_OBJECT)
    _check_sizes(component, config, files, headers)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; a list is returned under the key `""`. CheckpointMissing, CheckpointDamaged."""
    table = file_access.read_json(path, _LARGEST_JSON_BYTES)
    if not isinstance(table, (dict, list)):
        raise _damaged(path, NOT_A_JSON_OBJECT)
    return table if isinstance(table, dict) else {"": table}


def _check_class(folder: Path, component: str, named: list[Any]) -> None:
    """`["diffusers", "UNet2DConditionModel"]`, or from a pipeline: `["stable_diffusion",
    "StableDiffusionSafetyChecker"]`; `[null, null]` for a component that is left out.
    """
    if len(named) == 2 and named[0] is None:
        return
    if len(named) != 2 or not all(isinstance(part, str) and part.isidentifier() for part in named):
        library, name = (str(part) for part in (*named, "", "")[:2])
        if classify(library, name) is not GlobalKind.DANGEROUS:
            raise _damaged(folder / INDEX, f"it has no valid class for its {component[:40]}")
    else:
        library, name = named
        if library in _LIBRARIES or _is_pipeline(library):
            return
    if classify(library, name) is GlobalKind.DANGEROUS:
        raise CheckpointDangerous(
            not_opened(folder.name), f"opening it would have imported {library[:80]}.{name[:80]}", OTHER_SOURCE
        )
    raise CheckpointUnknown(
        f"{folder.name} cannot be used",
        f"its {component[:40]} is {library[:80]}.{name[:80]}, which is neither from diffusers nor from transformers",
        "Choose another checkpoint",
    )


def _is_pipeline(library: str) -> bool:
    found = find_spec("diffusers")  # does not import it
    places = found.submodule_search_locations or () if found is not None else ()
    return any(os.path.isdir(Path(place, "pipelines", library)) for place in places)  # also for a name of any length


def _check_shards(path: Path, table: Mapping[str, Any]) -> None:
    """The index of sharded weights: its shards (`model-00001-of-00002.safetensors`) must be next to it."""
    named = table.get("weight_map", {})
    if not isinstance(named, dict) or not all(isinstance(shard, str) for shard in named.values()):
        raise _damaged(path, "it has no valid list of weights files")
    for shard in sorted(set(named.values())):
        if shard in ("", ".", "..") or any(mark in shard for mark in ("/", "\\", ":", "\0")):
            raise CheckpointDangerous(
                not_opened(path.parent.parent.name),
                f"{path.parent.name}/{path.name} names the file {shard[:80]!r}, which is outside the folder",
                OTHER_SOURCE,
            )


def _check_sizes(component: Path, config: Mapping[str, Any], files: Sequence[Path], headers: Headers) -> None:
    shapes: list[tuple[int, ...]] = []
    problems: list[CheckpointProblem] = []
    for path in sorted(path for path in files if path.suffix in (*SAFETENSORS, *PICKLES)):
        try:
            shapes += headers.of(path).shapes.values()
        except CheckpointProblem as problem:
            problems.append(problem)  # of a variant that was not downloaded, perhaps
    if not shapes:
        if problems:
            raise problems[0]
        return
    largest = max(_USUAL_SIZE, _TIMES_LARGEST * max((side for shape in shapes for side in shape), default=0))
    for key, value in _numbers(config):
        counts = any(word in key for word in ("layers", "blocks", "depth"))
        most = max(_FEW_LAYERS, len(shapes)) if counts else largest
        if abs(value) > most and not any(word in key for word in _NO_SIZES):
            raise _damaged(
                component / "config.json", f"{key[:60]} is {value:,}, which does not match the weights next to it"
            )


def _numbers(config: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """Every integer with its key, and the length of every list."""
    if depth > 8:
        return
    if type(config) is int:
        yield key, config
    elif isinstance(config, dict):
        for name, value in config.items():
            yield from _numbers(value, str(name), depth + 1)
    elif isinstance(config, list):
        yield key, len(config)
        for value in config:
            yield from _numbers(value, key, depth + 1)


def _damaged(path: Path, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"{path} cannot be read", why, DOWNLOAD_AGAIN)
