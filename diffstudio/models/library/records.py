"""Read the record of a checkpoint in any format: safetensors, GGUF, pickle, diffusers folder. No weights, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.adapters.adapter_config import adapter_config_path, adapter_weights, read_adapter_config
from diffstudio.models.checkpoint import FORMAT, LARGEST_SIDE, TRAIN_OR_DOWNLOAD, Checkpoint, Origin, with_detection
from diffstudio.models.detection.detect import detect
from diffstudio.models.detection.detect_adapters import control_lora
from diffstudio.models.detection.families_table import UNKNOWN
from diffstudio.models.detection.prediction_type import prediction_from_weights, prediction_from_yaml
from diffstudio.models.detection.quantization import comfy_formats
from diffstudio.models.detection.types import Detection, Layout, Role, Shapes
from diffstudio.models.files.formats import INDEX, SUFFIXES
from diffstudio.models.files.gguf_header import GgufHeader
from diffstudio.models.files.header import Header, read_header
from diffstudio.models.files.pickle_scan import PickleScan
from diffstudio.models.files.safetensors_header import DTYPE_BITS, SafetensorsHeader, TensorEntry, gc_paused
from diffstudio.models.library.blank_record import blank_record, count_by_dtype, most_frequent
from diffstudio.models.library.folder_records import read_folder
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


def _gguf(header: Header, content: GgufHeader) -> Checkpoint:
    blank = replace(
        blank_record(header.path, Layout.GGUF, header.stamp, (header,)),
        metadata=content.metadata,
        parameters=sum(content.parameters.values()),
        dtype=most_frequent(content.parameters),
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
    counts = count_by_dtype(header)
    found = _with_prediction(_detect(header.path, scan.shapes, {}), header.path, _entries(scan), 0)
    if not scan.tensors:
        found = Detection(reason="There are no weights in it.")
    elif found.role is Role.UNKNOWN and found.family == UNKNOWN and role is not Role.UNKNOWN:
        found = replace(
            found, role=role, reason=f"{found.reason} It is in a folder for {role.replace('_', ' ')} files."
        )
    blank = replace(
        blank_record(header.path, Layout.PICKLE, header.stamp, (header,)),
        parameters=sum(counts.values()),
        dtype=most_frequent(counts),
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
    blank = blank_record(path, Layout.OURS, header.stamp, (header,))
    checkpoint = replace(
        blank,
        title=content.metadata.get("modelspec.title", "").strip()[:200] or blank.name,
        parameters=sum(size * 8 // DTYPE_BITS[dtype] for dtype, size in bytes_by_dtype.items()),
        dtype=most_frequent(bytes_by_dtype) or "F32",
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
