"""Convert a checkpoint: to another precision, from a pickle to safetensors, or from a diffusers folder to a single
file.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffstudio.errors import BadRequest, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.detection.types import Layout
from diffstudio.models.files.hashes import sha256_steps
from diffstudio.models.files.lazy_tensor import lazy, materialize
from diffstudio.models.state_dicts.prefixes import VAE_PREFIXES
from diffstudio.models.state_dicts.split import dequantized, split_components
from diffstudio.models.state_dicts.to_original import State, has_original_naming, to_original
from diffstudio.models.tools.spec import Precision, ToolProgress, ToolResult, checked_file, precision_of
from diffstudio.models.tools.weights_writer import open_checkpoint, write_file

DTYPES: Mapping[Precision, torch.dtype] = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
    Precision.FP8: torch.float8_e4m3fn,
}
_KEPT_WIDE = re.compile(  # never stored in fp8
    rf"(?:^|\.)(?:{'|'.join(map(re.escape, VAE_PREFIXES))})|embedding|pos_embed|embed_tokens|^shared\."
)
_HASHED = 0.4  # of the time that converting a pickle takes
_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-512",
    "sdxl": "stable-diffusion-xl-v1-base",
    "sdxl_refiner": "stable-diffusion-xl-v1-refiner",
    "sd3": "stable-diffusion-3-medium",
    "flux": "flux-1-dev",
    "z_image": "z-image",
    "qwen_image": "qwen-image",
}


def convert(checkpoint: Checkpoint, target: Path, precision: Precision = Precision.KEEP) -> ToolProgress:
    """A safetensors file of the checkpoint's weights at `target`; a diffusers folder becomes one file in the original
    naming.

    BadRequest where nothing would change, CheckpointUnknown for what cannot be converted, StorageProblem,
    CheckpointDamaged.
    """
    target = checked_file(target)
    if checkpoint.layout not in (Layout.FOLDER, Layout.PICKLE) and precision in (
        Precision.KEEP,
        precision_of(checkpoint),
    ):
        raise BadRequest(
            f"{checkpoint.name} is a safetensors file in {precision_of(checkpoint) or checkpoint.dtype} already",
            remedy="Choose another precision",
        )
    check_precision(checkpoint, precision)
    with open_checkpoint(checkpoint) as weights:
        caster = PrecisionCaster()
        tensors: State
        if checkpoint.layout is Layout.FOLDER:
            tensors, metadata = folder_to_original(checkpoint, weights.tensors), modelspec_metadata(checkpoint)
        else:
            tensors, metadata = weights.tensors, dict(weights.metadata)
        hashed = 0.0
        if checkpoint.layout is Layout.PICKLE:
            metadata |= yield from _pickle_metadata(checkpoint)
            hashed = _HASHED
        with contextlib.closing(write_file(target, caster.cast(tensors, precision), metadata)) as writing:
            for done in writing:
                yield hashed + (1 - hashed) * done
    yield ToolResult(target, target.stat().st_size, caster.notes(precision))


def _pickle_metadata(checkpoint: Checkpoint) -> Generator[float, None, dict[str, str]]:
    """Metadata for a file converted from a pickle, which has none: its name and SHA-256, and ModelSpec's keys."""
    with contextlib.closing(sha256_steps(checkpoint.path)) as steps:
        sha256 = yield from _scaled_progress(steps)
    return (modelspec_metadata(checkpoint) if checkpoint.can_generate else {}) | {
        "converted_from": checkpoint.path.name,
        "converted_from_sha256": sha256,
    }


def _scaled_progress(steps: Generator[float, None, str]) -> Generator[float, None, str]:
    try:
        while True:
            yield _HASHED * next(steps)
    except StopIteration as ended:
        return str(ended.value)


def check_precision(checkpoint: Checkpoint, precision: Precision) -> None:
    if precision is Precision.FP8 and (checkpoint.layout is Layout.OURS or not checkpoint.can_generate):
        raise BadRequest(
            f"{checkpoint.name} cannot be stored in fp8",
            "fp8 is only for checkpoints that were not trained here",
            "Choose fp16 or bf16",
        )


def folder_to_original(checkpoint: Checkpoint, tensors: State) -> dict[str, Tensor]:
    """A diffusers folder's tensors by original keys.

    CheckpointUnknown for families whose original naming is not supported.
    """
    if not has_original_naming(checkpoint.family):
        family = family_of(checkpoint.family)
        title = family.title if family is not None else "its kind"
        raise CheckpointUnknown(
            f"{checkpoint.name} cannot be saved as a single file",
            f"{title} is not supported for this conversion",
            "Use the folder as it is, or export it in another precision",
        )
    named = to_original(
        checkpoint.family, split_components(tensors, checkpoint.family, FolderComponents(checkpoint.path).config)
    )
    return named | marker_tensors(checkpoint)


def marker_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The empty tensor `v_pred`, by which ComfyUI and others recognise v-prediction checkpoints of Stable Diffusion XL."""
    return {"v_pred": torch.empty(0)} if checkpoint.family == "sdxl" and checkpoint.prediction == "v" else {}


def modelspec_metadata(checkpoint: Checkpoint, title: str = "") -> dict[str, str]:
    """Header metadata by the ModelSpec standard: https://github.com/Stability-AI/ModelSpec."""
    architecture = _ARCHITECTURES.get(checkpoint.family, "")
    if checkpoint.family == "sd2" and checkpoint.prediction == "v":
        architecture = "stable-diffusion-v2-768-v"
    prediction = {"eps": "epsilon", "v": "v", "x0": "sample"}.get(checkpoint.prediction, "")
    size = f"{checkpoint.width}x{checkpoint.height}" if checkpoint.width else ""
    keys = {
        "sai_model_spec": "1.0.0",
        "architecture": architecture,
        "title": title or checkpoint.title,
        "resolution": size,
        "prediction_type": prediction,
        "implementation": "https://github.com/huggingface/diffusers" if architecture else "",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {f"modelspec.{key}": value for key, value in keys.items() if value}


class PrecisionCaster:
    """Casts tensors to a precision as they are read, and counts the values that had to be clamped."""

    def __init__(self) -> None:
        self._clamped: dict[str, int] = {}

    def cast(self, tensors: State, precision: Precision) -> dict[str, Tensor]:
        """Lazy tensors in that precision; integers, and everything with KEEP, stay as they are."""
        if precision is Precision.KEEP:
            return dict(tensors)
        return {
            name: self._cast_one(name, tensor, precision) if tensor.is_floating_point() else tensor
            for name, tensor in dequantized(tensors).items()
        }

    def _cast_one(self, name: str, tensor: Tensor, precision: Precision) -> Tensor:
        dtype = DTYPES[precision]
        if precision is Precision.FP8 and (tensor.ndim < 2 or _KEPT_WIDE.search(name)):
            dtype = torch.bfloat16 if tensor.dtype is torch.bfloat16 else torch.float16
        if dtype is tensor.dtype:
            return tensor
        return lazy(tuple(tensor.shape), dtype, lambda: self._clamp_and_cast(name, materialize(tensor), dtype))

    def _clamp_and_cast(self, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        largest = torch.finfo(dtype).max
        if torch.finfo(tensor.dtype).max > largest:
            too_large = tensor.abs() > largest
            if dtype is torch.float16:
                too_large &= torch.isfinite(tensor)  # attention masks keep their -inf
            if count := int(too_large.sum()):
                self._clamped[name] = count
                tensor = torch.where(too_large, tensor.clamp(-largest, largest), tensor)
        return tensor.to(dtype)

    def notes(self, precision: Precision) -> tuple[str, ...]:
        if not self._clamped:
            return ()
        count, (name, _) = sum(self._clamped.values()), max(self._clamped.items(), key=lambda one: one[1])
        return (
            f"{count:,} value{'' if count == 1 else 's'} exceeded the range of {precision} and {'was' if count == 1 else 'were'} "
            f"clamped, most of them in {name}.",
        )
