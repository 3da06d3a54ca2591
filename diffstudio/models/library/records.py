"""Read the record of a checkpoint in any format: safetensors, GGUF, pickle, diffusers folder. No weights, no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.errors import NOT_A_JSON_OBJECT, CheckpointDamaged, CheckpointMissing
from diffstudio.models.adapters.adapter_config import (
    ADAPTER_CONFIG,
    adapter_config_path,
    adapter_weights,
    read_adapter_config,
)
from diffstudio.models.checkpoint import FORMAT, LARGEST_SIDE, TRAIN_OR_DOWNLOAD, Checkpoint, Origin, with_detection
from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.detect_adapters import control_lora
from diffstudio.models.detection.families_table import DDPM, FAMILIES, UNKNOWN
from diffstudio.models.detection.prediction_type import (
    DIFFUSERS_PREDICTIONS,
    prediction_from_weights,
    prediction_from_yaml,
)
from diffstudio.models.detection.quantization import comfy_formats, quantization_of_config
from diffstudio.models.detection.types import FAMILY_BY_CONTEXT_WIDTH, Detection, Layout, Role, Shapes
from diffstudio.models.detection.unconditional_unet import not_unconditional, unconditional_size
from diffstudio.models.files.file_access import DOWNLOAD_AGAIN, TOO_LARGE, FileStamp, regular_file_size
from diffstudio.models.files.formats import INDEX, PICKLES, SAFETENSORS, SUFFIXES, variant
from diffstudio.models.files.gguf_header import GgufHeader
from diffstudio.models.files.header import Header, read_header
from diffstudio.models.files.pickle_scan import PickleScan
from diffstudio.models.files.safetensors_header import DTYPE_BITS, SafetensorsHeader, TensorEntry, gc_paused
from diffstudio.models.state_dicts.prefixes import COMPONENTS
from diffstudio.networks.conditioning import Conditioning


def read_checkpoint(path: Path, *, origin: Origin | None = None, role: Role = Role.UNKNOWN) -> Checkpoint:
    """The record of a weights file, a diffusers folder or a folder that PEFT saved, with the headers that were read.

    `role` is what the folder it is in is for; it counts for files that do not show what they are. CheckpointMissing,
    CheckpointDamaged, CheckpointUnknown, and CheckpointDangerous for a pickle that would run something.
    """
    path = adapter_weights(path) or path
    if (path / INDEX).is_file() or (path.is_dir() and path.suffix.lower() not in SUFFIXES):
        return read_folder(path)
    header = read_header(path)
    match header.content:
        case GgufHeader() as content:
            return _gguf(header, content)
        case PickleScan() as content:
            return _pickle(header, content, role)
        case SafetensorsHeader() as content:
            return _safetensors(header, content, origin)


def _blank(path: Path, layout: Layout, stamp: FileStamp, headers: tuple[Header, ...]) -> Checkpoint:
    name = path.name if layout is Layout.FOLDER else _default_name(path)
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
        size_bytes=stamp.size_bytes,
        origin=Origin.IMPORTED,
        modified=stamp.modified_ns / 1e9,
        role=Role.UNKNOWN,
        layout=layout,
        headers=headers,
    )


# ---- files -----------------------------------------------------------------------------------------------------------


def _gguf(header: Header, content: GgufHeader) -> Checkpoint:
    blank = replace(
        _blank(header.path, Layout.GGUF, header.stamp, (header,)),
        metadata=content.metadata,
        parameters=sum(content.parameters.values()),
        dtype=_most(content.parameters),
    )
    if content.is_language_model:
        found = Detection(
            Role.TEXT_ENCODER, reason=f"A language model in a GGUF file ({content.architecture}): a text encoder."
        )
    else:
        found = detect(content.shapes, content.metadata)
    if found.supported and found.role not in (Role.CHECKPOINT, Role.NETWORK, Role.UNKNOWN):
        found = replace(found, supported=False, reason=f"{found.reason} It is supported as a safetensors file only.")
    return with_detection(blank, replace(found, layout=Layout.GGUF))


def _pickle(header: Header, scan: PickleScan, role: Role) -> Checkpoint:
    """The record of a pickle, detected by its tensors like any other file. It is a program: scanned, and never run."""
    scan.check()
    counts = _count_by_dtype(header)
    found = _with_prediction(_detect(header.path, scan.shapes, {}), header.path, _entries(scan), 0)
    if not scan.tensors:
        found = Detection(reason="There are no weights in it.")
    elif found.role is Role.UNKNOWN and found.family == UNKNOWN and role is not Role.UNKNOWN:
        found = replace(
            found, role=role, reason=f"{found.reason} It is in a folder for {role.replace('_', ' ')} files."
        )
    blank = replace(
        _blank(header.path, Layout.PICKLE, header.stamp, (header,)),
        parameters=sum(counts.values()),
        dtype=_most(counts),
    )
    return with_detection(
        blank, replace(found, layout=Layout.PICKLE, reason=f"{found.reason} A pickle, scanned and harmless.")
    )


def _entries(scan: PickleScan) -> dict[str, TensorEntry]:
    """Where tensors are in the file, of those that are contiguous and uncompressed."""
    return {
        name: TensorEntry(tensor.dtype, tensor.shape, start, start + tensor.elements * tensor.itemsize)
        for name, tensor in scan.tensors.items()
        if (stored := scan.storages[tensor.storage]).start >= 0
        and tensor.contiguous
        and (start := stored.start + tensor.offset * tensor.itemsize) >= 0
    }


@gc_paused()
def _safetensors(header: Header, content: SafetensorsHeader, origin: Origin | None) -> Checkpoint:
    path, bytes_by_dtype = header.path, dict[str, int]()
    for dtype, _, start, end in content.tensors.values():
        bytes_by_dtype[dtype] = bytes_by_dtype.get(dtype, 0) + end - start
    blank = _blank(path, Layout.OURS, header.stamp, (header,))
    checkpoint = replace(
        blank,
        title=content.metadata.get("modelspec.title", "").strip()[:200] or blank.name,
        parameters=sum(size * 8 // DTYPE_BITS[dtype] for dtype, size in bytes_by_dtype.items()),
        dtype=_most(bytes_by_dtype) or "F32",
        origin=origin or Origin.IMPORTED,
        metadata=content.metadata,
        role=Role.CHECKPOINT,
    )
    if "diffstudio.format" in content.metadata:
        return _trained_here(checkpoint, origin)
    formats = comfy_formats(path, content.tensors, content.data_start)
    found = _detect(path, content.shapes, {**content.metadata, **formats})
    return with_detection(checkpoint, _with_prediction(found, path, content.tensors, content.data_start))


def _detect(path: Path, shapes: Shapes, metadata: Mapping[str, str]) -> Detection:
    """What a file is, by its tensors, its metadata and PEFT's config next to it. CheckpointDamaged for the config."""
    config_path = adapter_config_path(path)
    if config_path is None:
        return detect(shapes, metadata)
    config = read_adapter_config(config_path)
    found = detect(shapes, {**metadata, "base_model": str(config.get("base_model_name_or_path") or "")})
    if found.role is Role.UNKNOWN and not control_lora(shapes):
        return Detection(
            reason=f"An adapter of PEFT's type {str(config.get('peft_type'))[:40]}, which is not supported."
        )
    return found


def _trained_here(checkpoint: Checkpoint, origin: Origin | None) -> Checkpoint:
    """The record of a checkpoint trained with diffstudio, from the JSON in its metadata. CheckpointDamaged."""
    written = checkpoint.json("format")
    if type(written) is not int:
        raise CheckpointDamaged(f"{checkpoint.path.name} has no valid format number", remedy=TRAIN_OR_DOWNLOAD)
    if written > FORMAT:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} was made by a newer version of diffstudio", remedy="Update the program"
        )
    about = checkpoint.json("model")
    try:
        width, height = int(about["width"]), int(about["height"])
        if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
            raise ValueError("its image size is impossible")
        return replace(
            checkpoint,
            family=str(about["family"]),
            prediction=_prediction(checkpoint),
            conditioning=Conditioning(about["conditioning"]),
            classes=tuple(str(name) for name in about.get("classes", ())),
            width=width,
            height=height,
            origin=origin or Origin.TRAINED,
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} has an invalid description of its model", str(error)[:200], TRAIN_OR_DOWNLOAD
        ) from error


def _prediction(checkpoint: Checkpoint) -> str:
    """What the network of a checkpoint trained here predicts; empty for the clean image, as in all older files."""
    prediction = checkpoint.parameterisation.prediction
    if prediction is Prediction.X0:
        return ""
    return "flow" if prediction is Prediction.VELOCITY else prediction.value


def _with_prediction(found: Detection, path: Path, tensors: Mapping[str, TensorEntry], data_start: int) -> Detection:
    """Add the prediction type of a U-Net that its header does not state: from the config next to it, else its weights."""
    if (
        found.family not in ("sd1", "sd2", "sdxl")
        or found.prediction == "v"
        or found.role not in (Role.CHECKPOINT, Role.NETWORK)
    ):
        return found
    prediction, why = prediction_from_yaml(path)
    if not prediction and not found.prediction:
        prediction, why = prediction_from_weights(path, tensors, data_start)
    if not prediction and not found.prediction:
        prediction, why = "v", "nothing says whether it predicts eps or v, and most such checkpoints predict v"
    return replace(found, prediction=prediction, reason=f"{found.reason.rstrip('.')}; {why}.") if prediction else found


_GENERIC_NAME = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model|adapter_model)([.-](fp16|fp32|bf16|non_ema))*"
)
_CONFIGS = ("config.json", ADAPTER_CONFIG)  # that diffusers, transformers and peft save with them


def _default_name(path: Path) -> str:
    """The file's name, or its folder's where the file has a generic one
    (`control_canny/diffusion_pytorch_model.safetensors`).
    """
    stem = path.name.removesuffix(path.suffix)
    generic = _GENERIC_NAME.fullmatch(stem) is not None and any(path.with_name(name).is_file() for name in _CONFIGS)
    if not generic:
        return stem
    folder = path.absolute().parent
    of_component = folder.name in COMPONENTS and stem.startswith("adapter_model")  # PEFT's example saves one for each
    return f"{_title(folder.parent)}-{folder.name}" if of_component else _title(folder)


def _most(counts: Mapping[str, int]) -> str:
    """The dtype with the highest count; empty where there are none."""
    return max(counts, key=lambda dtype: counts[dtype], default="")


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
    "ZImageOmniPipeline": "z_image",  # used without reference images
    "QwenImagePipeline": "qwen_image",
    "QwenImageImg2ImgPipeline": "qwen_image",
    "QwenImageInpaintPipeline": "qwen_image",
    "QwenImageEditPipeline": "qwen_image",  # likewise
    "QwenImageEditPlusPipeline": "qwen_image",
    "QwenImageEditInpaintPipeline": "qwen_image",
    "DDPMPipeline": DDPM,
    "DDIMPipeline": DDPM,
}


def read_folder(folder: Path) -> Checkpoint:
    """The record of a diffusers folder. CheckpointMissing for another folder, CheckpointDamaged for unreadable JSON."""
    index = _read_json(folder / INDEX)
    pipeline = str(index.get("_class_name", ""))
    components = [
        name
        for name, value in index.items()
        if not name.startswith("_") and (folder / name).is_dir() and isinstance(value, list) and value[:1] != [None]
    ]
    network = next((name for name in ("unet", "transformer", "prior") if name in components), "")
    settings = folder / network / "config.json"
    config = _read_json(settings) if network and settings.is_file() else {}
    scheduler = folder / "scheduler" / "scheduler_config.json"
    found = _folder_found(pipeline, components, config, _read_json(scheduler) if scheduler.is_file() else {})
    headers = _component_headers(folder, components)
    pickled = any(isinstance(header.content, PickleScan) for header in headers)
    if found.family == "diffusers" and (pickled or any(header.path.suffix in PICKLES for header in headers)):
        why = "pickles, which diffusers would run" if pickled else "called like pickles, which diffusers does not open"
        found = replace(found, role=Role.UNKNOWN, reason=f"{found.reason} Some of its weights are {why}.")
    elif pickled:
        found = replace(found, reason=f"{found.reason} Some of its weights are pickles, scanned and harmless.")
    if (quantized := _quantized_component(folder, components)) and found.family != "diffusers":
        found = replace(found, family=UNKNOWN, prediction="", reason=f"{found.reason} {quantized}")
    counts: dict[str, int] = {}
    for header in headers:
        for dtype, count in _count_by_dtype(header).items():
            counts[dtype] = counts.get(dtype, 0) + count
    title = _title(folder)
    blank = replace(
        _blank(folder, Layout.FOLDER, FileStamp(0, (folder / INDEX).stat().st_mtime_ns), headers),
        name=title,
        title=title,
        parameters=sum(counts.values()),
        dtype=_most(counts),
        size_bytes=sum(header.stamp.size_bytes for header in headers),
    )
    checkpoint = with_detection(blank, found)
    side = config.get("sample_size")
    if checkpoint.family in ("sd1", "sd2", "sdxl") and type(side) is int and 8 <= side <= 512:
        checkpoint = replace(checkpoint, width=8 * side, height=8 * side)
    if checkpoint.family == DDPM and (size := unconditional_size(config)) is not None:
        checkpoint = replace(checkpoint, width=size[0], height=size[1])
    return checkpoint


def _folder_found(
    pipeline: str, components: Sequence[str], config: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> Detection:
    family = _PIPELINES.get(pipeline, "diffusers")
    channels, context = config.get("in_channels"), config.get("cross_attention_dim")
    if family in ("sd", "sdxl"):
        if family == "sd":  # by its context width, else by what is typical for each
            otherwise = "sd2" if config.get("use_linear_projection") else "sd1"
        else:
            otherwise = "sdxl" if "text_encoder" in components else "sdxl_refiner"
        family = FAMILY_BY_CONTEXT_WIDTH.get(context, otherwise) if type(context) is int else otherwise
        if channels not in (4, 9, None):
            family = "diffusers"
    said = f"Its {INDEX} says that it is a {pipeline[:80] or 'pipeline without a name'}."
    if family == DDPM and (why := not_unconditional(config)):
        return Detection(Role.CHECKPOINT, UNKNOWN, layout=Layout.FOLDER, reason=f"{said} {why}")
    declared = scheduler.get("prediction_type", "epsilon")
    flow = family in FAMILIES and FAMILIES[family].flow
    prediction = ""
    if flow:
        prediction = "flow"
    elif family != "diffusers" and isinstance(declared, str):
        prediction = DIFFUSERS_PREDICTIONS.get(declared, "")
    edition = ""
    if family == "flux":
        edition = "dev" if config.get("guidance_embeds") else "schnell"
    elif family == "qwen_image" and "Edit" in pipeline:
        edition = "Edit"
    elif pipeline == "ZImageOmniPipeline":
        edition = "Omni"
    return Detection(Role.CHECKPOINT, family, prediction, channels == 9 and not flow, Layout.FOLDER, said, edition)


def _quantized_component(folder: Path, components: Sequence[str]) -> str:
    """The first component whose config says that its weights are quantized, as a sentence; empty if none is."""
    for component in components:
        config = folder / component / "config.json"
        if config.is_file() and (title := quantization_of_config(_read_json(config))):
            return f"Its {component} is quantized to {title}, which is not supported."
    return ""


def _component_headers(folder: Path, components: list[str]) -> tuple[Header, ...]:
    """Those of the plain variant of each component's weights, or else of the first.

    CheckpointDamaged, CheckpointDangerous.
    """
    headers: list[Header] = []
    for component in components:
        files = sorted(path for path in (folder / component).iterdir() if path.suffix in (*SAFETENSORS, *PICKLES))
        weights = [path for path in files if path.suffix in SAFETENSORS] or files
        first = min((variant(path) for path in weights), default="")
        headers += [read_header(path) for path in weights if variant(path) == first]
    for header in headers:
        header.check()
    return tuple(headers)


def _count_by_dtype(header: Header) -> dict[str, int]:
    """How many parameters a file stores in each dtype."""
    counts: dict[str, int] = {}
    if isinstance(header.content, PickleScan | SafetensorsHeader):
        for tensor in header.content.tensors.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + prod(tensor.shape)
    return counts


def _title(folder: Path) -> str:
    """The folder's name. In the cache of the Hugging Face hub that is a revision; the model's name is two levels up."""
    above = folder.parent.parent.name
    return (
        above.rpartition("--")[2] if folder.parent.name == "snapshots" and above.startswith("models--") else folder.name
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if regular_file_size(path) > 8 << 20:
            raise ValueError(TOO_LARGE)
        table = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointMissing(
            f"{path.parent} is not a diffusers folder", f"it has no {path.name}", "Choose another folder"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"{path} cannot be read", str(error)[:200], DOWNLOAD_AGAIN) from error
    if not isinstance(table, dict):
        raise CheckpointDamaged(f"{path} cannot be read", NOT_A_JSON_OBJECT, DOWNLOAD_AGAIN)
    return table
