"""The record of a checkpoint, whatever it is stored as: safetensors, GGUF, a diffusers folder, a pickle. No weights, no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffstudio.errors import CheckpointDamaged, CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint, Origin, described, name_of, read_checkpoint, with_prediction
from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.families_table import FAMILIES, UNKNOWN
from diffstudio.models.detection.types import FAMILY_BY_CONTEXT_WIDTH, Detection, Layout, Role
from diffstudio.models.files.formats import INDEX, PICKLES, SAFETENSORS, variant
from diffstudio.models.files.gguf_header import read_gguf_header
from diffstudio.models.files.pickle_scan import PickleScan, scan_pickle
from diffstudio.models.files.safetensors_header import TensorEntry, read_header, regular_file_size
from diffstudio.networks.conditioning import Conditioning


def read_record(path: Path, *, origin: Origin | None = None, role: Role = Role.UNKNOWN) -> Checkpoint:
    """Of a file or a diffusers folder. `role`, that of the folder it lies in, is believed of what does not say so itself.

    CheckpointMissing, CheckpointDamaged.
    """
    if path.is_dir():
        return read_folder(path)
    match path.suffix.lower():
        case ".gguf":
            return read_gguf(path)
        case suffix if suffix in PICKLES:
            return read_pickle(path, role)
        case _:
            return read_checkpoint(path, origin=origin)


def _blank(path: Path, layout: Layout, size_bytes: int, modified: float) -> Checkpoint:
    name = path.name if layout is Layout.FOLDER else name_of(path)
    return Checkpoint(
        path=path,
        name=name,
        title=name,
        family=UNKNOWN,
        conditioning=Conditioning.NONE,
        classes=(),
        width=0,
        height=0,
        parameters=0,
        dtype="",
        size_bytes=size_bytes,
        origin=Origin.IMPORTED,
        modified=modified,
        role=Role.UNKNOWN,
        layout=layout,
    )


# ---- files -----------------------------------------------------------------------------------------------------------


def read_gguf(path: Path) -> Checkpoint:
    header = read_gguf_header(path)
    about = path.stat()
    blank = replace(
        _blank(path, Layout.GGUF, about.st_size, about.st_mtime),
        metadata=header.metadata,
        parameters=sum(header.kinds.values()),
        dtype=max(header.kinds, key=lambda kind: header.kinds[kind], default=""),
    )
    if header.reads_prompts:
        found = Detection(
            Role.TEXT_ENCODER, reason=f"A GGUF file of a language model ({header.architecture}): reads prompts."
        )
    else:
        found = detect(header.shapes, header.metadata)
    return described(blank, replace(found, layout=Layout.GGUF))


def read_pickle(path: Path, role: Role = Role.UNKNOWN) -> Checkpoint:
    """What its tensors look like, as for a header. A pickle is a program: it is gone through, and never run.

    CheckpointMissing, CheckpointDamaged, CheckpointUnknown, and CheckpointDangerous where it would have run something.
    """
    scan = scan_pickle(path)
    scan.check()
    about = path.stat()
    held: dict[str, int] = {}
    for tensor in scan.tensors.values():
        held[tensor.dtype] = held.get(tensor.dtype, 0) + tensor.length
    found = with_prediction(detect(scan.shapes, {}), path, _entries(scan), 0)
    if not scan.tensors:
        found = Detection(reason="There are no weights in it.")
    elif found.role is Role.UNKNOWN and found.family == UNKNOWN and role is not Role.UNKNOWN:
        found = replace(
            found, role=role, reason=f"{found.reason} By the folder it lies in it is a {role.replace('_', ' ')}."
        )
    blank = replace(
        _blank(path, Layout.PICKLE, about.st_size, about.st_mtime),
        parameters=sum(held.values()),
        dtype=max(held, key=lambda dtype: held[dtype], default=""),
    )
    return described(
        blank, replace(found, layout=Layout.PICKLE, reason=f"{found.reason} A pickle, looked through and harmless.")
    )


def _entries(scan: PickleScan) -> dict[str, TensorEntry]:
    """Where in the file tensors lie, of those that lie there in one piece and unpacked."""
    return {
        name: TensorEntry(tensor.dtype, tensor.shape, start, start + tensor.length * tensor.itemsize)
        for name, tensor in scan.tensors.items()
        if (stored := scan.storages[tensor.storage]).start >= 0
        and tensor.contiguous
        and (start := stored.start + tensor.offset * tensor.itemsize) >= 0
    }


# ---- diffusers folders -----------------------------------------------------------------------------------------------

_PIPELINES = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionImg2ImgPipeline": "sd",
    "StableDiffusionInpaintPipeline": "sd",
    "LatentConsistencyModelPipeline": "sd",
    "LatentConsistencyModelImg2ImgPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "StableDiffusion3Img2ImgPipeline": "sd3",
    "StableDiffusion3InpaintPipeline": "sd3",
    "FluxPipeline": "flux",
    "FluxImg2ImgPipeline": "flux",
    "FluxInpaintPipeline": "flux",
    "ZImagePipeline": "z_image",
    "ZImageImg2ImgPipeline": "z_image",
    "QwenImagePipeline": "qwen_image",
    "QwenImageImg2ImgPipeline": "qwen_image",
    "QwenImageInpaintPipeline": "qwen_image",
}
_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


def read_folder(folder: Path) -> Checkpoint:
    """CheckpointMissing where it is no diffusers folder, CheckpointDamaged where what it says of itself cannot be read."""
    index = _table(folder / INDEX)
    pipeline = str(index.get("_class_name", ""))
    components = [
        name
        for name, value in index.items()
        if not name.startswith("_") and (folder / name).is_dir() and isinstance(value, list) and value[:1] != [None]
    ]
    network = next((name for name in ("unet", "transformer", "prior") if name in components), "")
    config = (
        _table(folder / network / "config.json") if (folder / network / "config.json").is_file() and network else {}
    )
    steps = folder / "scheduler" / "scheduler_config.json"
    found = _folder_found(pipeline, components, config, _table(steps) if steps.is_file() else {})
    parameters, dtype, size, pickled = _weights(folder, components)
    if pickled and found.family == "diffusers":  # which loads itself
        found = replace(
            found,
            role=Role.UNKNOWN,
            reason=f"{found.reason} Some of its weights are pickles, which its pipeline would run.",
        )
    elif pickled:
        found = replace(found, reason=f"{found.reason} Some of its weights are pickles, looked through and harmless.")
    blank = _blank(folder, Layout.FOLDER, size, (folder / INDEX).stat().st_mtime)
    title = _title(folder)
    checkpoint = described(replace(blank, parameters=parameters, dtype=dtype, name=title, title=title), found)
    side = config.get("sample_size")
    if checkpoint.family in ("sd1", "sd2", "sdxl") and type(side) is int and 8 <= side <= 512:
        checkpoint = replace(checkpoint, width=8 * side, height=8 * side)
    return checkpoint


def _folder_found(
    pipeline: str, components: Sequence[str], config: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> Detection:
    family = _PIPELINES.get(pipeline, "diffusers")
    channels, context = config.get("in_channels"), config.get("cross_attention_dim")
    if family in ("sd", "sdxl"):
        if family == "sd":  # by the width of its words, or else, where that is its own, by what came with each
            otherwise = "sd2" if config.get("use_linear_projection") else "sd1"
        else:
            otherwise = "sdxl" if "text_encoder" in components else "sdxl_refiner"
        family = FAMILY_BY_CONTEXT_WIDTH.get(context, otherwise) if type(context) is int else otherwise
        if channels not in (4, 9, None):
            family = "diffusers"
    said = scheduler.get("prediction_type", "epsilon")
    flow = family in FAMILIES and FAMILIES[family].flow
    prediction = (
        "flow" if flow else "" if family == "diffusers" else _PREDICTIONS.get(said, "") if isinstance(said, str) else ""
    )
    edition = ""
    if family == "flux":
        edition = "dev" if config.get("guidance_embeds") else "schnell"
    return Detection(
        Role.CHECKPOINT,
        family,
        prediction,
        channels == 9 and not flow,
        Layout.FOLDER,
        f"Its {INDEX} says that it is a {pipeline[:80] or 'pipeline without a name'}.",
        edition,
    )


def _weights(folder: Path, components: list[str]) -> tuple[int, str, int, bool]:
    """How many parameters there are, stored as what (most of them), in how many bytes, and whether some lie in pickles.

    Of several variants of a component the plain one is counted, or else the first.
    """
    parameters, size, pickled = 0, 0, False
    held: dict[str, int] = {}
    for component in components:
        files = sorted(path for path in (folder / component).iterdir() if path.suffix in (*SAFETENSORS, *PICKLES))
        weights = [path for path in files if path.suffix in SAFETENSORS]
        if not weights:
            weights, pickled = files, pickled or bool(files)
        variants = sorted({variant(path) for path in weights})
        for path in (path for path in weights if variant(path) == variants[0]):
            record = _numbers_in(path)
            parameters, size = parameters + sum(record.values()), size + path.stat().st_size
            for dtype, count in record.items():
                held[dtype] = held.get(dtype, 0) + count
    return parameters, max(held, key=lambda dtype: held[dtype], default=""), size, pickled


def _numbers_in(path: Path) -> dict[str, int]:
    """How many numbers a file of weights holds of each kind. CheckpointDamaged, CheckpointDangerous."""
    held: dict[str, int] = {}
    if path.suffix in PICKLES:
        scan = scan_pickle(path)
        scan.check()
        for tensor in scan.tensors.values():
            held[tensor.dtype] = held.get(tensor.dtype, 0) + tensor.length
        return held
    for entry in read_header(path)[0].values():
        count = 1
        for side in entry.shape:
            count *= side
        held[entry.dtype] = held.get(entry.dtype, 0) + count
    return held


def _title(folder: Path) -> str:
    """In the cache of the Hugging Face hub a folder is called by its revision, and one above it by its name."""
    above = folder.parent.parent.name
    return (
        above.rpartition("--")[2] if folder.parent.name == "snapshots" and above.startswith("models--") else folder.name
    )


def _table(path: Path) -> dict[str, Any]:
    try:
        if regular_file_size(path) > 8 << 20:
            raise ValueError("it is too large")
        table = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(
            f"{path.parent} is not a diffusers folder", f"{path.name} is not there", "Choose another"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointDamaged(
            f"{path} cannot be read", str(error)[:200], "Get it again from where it came"
        ) from error
    if not isinstance(table, dict):
        raise CheckpointDamaged(f"{path} is not a table", remedy="Get it again from where it came")
    return table
