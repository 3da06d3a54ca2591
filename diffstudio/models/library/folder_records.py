"""Read the record of a diffusers folder: its pipeline, its components and their headers. No weights, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffstudio.errors import CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint, with_detection
from diffstudio.models.detection.families_table import DDPM, FAMILIES, UNKNOWN
from diffstudio.models.detection.prediction_type import DIFFUSERS_PREDICTIONS
from diffstudio.models.detection.quantization import quantization_of_config
from diffstudio.models.detection.types import FAMILY_BY_CONTEXT_WIDTH, Detection, Layout, Role
from diffstudio.models.detection.unconditional_unet import not_unconditional, unconditional_size
from diffstudio.models.files.file_access import FileStamp, read_json_object
from diffstudio.models.files.formats import INDEX, PICKLES, SAFETENSORS, variant
from diffstudio.models.files.header import Header, read_header
from diffstudio.models.files.pickle_scan import PickleScan
from diffstudio.models.library.blank_record import blank_record, count_by_dtype, folder_title, most_frequent

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
        for dtype, count in count_by_dtype(header).items():
            counts[dtype] = counts.get(dtype, 0) + count
    title = folder_title(folder)
    blank = replace(
        blank_record(folder, Layout.FOLDER, FileStamp(0, (folder / INDEX).stat().st_mtime_ns), headers),
        name=title,
        title=title,
        parameters=sum(counts.values()),
        dtype=most_frequent(counts),
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except CheckpointMissing:
        raise CheckpointMissing(
            f"{path.parent} is not a diffusers folder", f"it has no {path.name}", "Choose another folder"
        ) from None
