"""Converting: the same weights in other numbers, out of a pickle, or in one file instead of a folder."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffstudio.errors import BadRequest, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint, Layout
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.files.hashes import sha256_steps
from diffstudio.models.files.lazy_tensor import lazy, materialize
from diffstudio.models.state_dicts.prefixes import VAE_PREFIXES
from diffstudio.models.state_dicts.split import State, dequantized, split_components
from diffstudio.models.state_dicts.to_original import has_original_naming, to_original
from diffstudio.models.tools.spec import Made, Making, Precision, checked_file, precision_of
from diffstudio.models.tools.weights_writer import open_weights, write_file

DTYPES: Mapping[Precision, torch.dtype] = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
    Precision.FP8: torch.float8_e4m3fn,
}
_KEPT_WIDE = re.compile(  # never stored in fp8
    rf"(?:^|\.)(?:{'|'.join(map(re.escape, VAE_PREFIXES))})|embedding|pos_embed|embed_tokens|^shared\."
)
_HASHED = 0.4  # of the time that a pickle takes
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


def convert(checkpoint: Checkpoint, target: Path, precision: Precision = Precision.KEEP) -> Making:
    """A safetensors file of the checkpoint's weights at `target`; a diffusers folder becomes one file in its makers' names.

    BadRequest where nothing would change, CheckpointUnknown for what cannot be converted, StorageProblem, CheckpointDamaged.
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
    with open_weights(checkpoint) as weights:
        narrowed = Narrowed()
        tensors: State
        if checkpoint.layout is Layout.FOLDER:
            tensors, metadata = folder_in_one(checkpoint, weights.tensors), about(checkpoint)
        else:
            tensors, metadata = weights.tensors, dict(weights.metadata)
        hashed = 0.0
        if checkpoint.layout is Layout.PICKLE:
            metadata |= yield from _came_from(checkpoint)
            hashed = _HASHED
        with contextlib.closing(write_file(target, narrowed.stored(tensors, precision), metadata)) as writing:
            for done in writing:
                yield hashed + (1 - hashed) * done
    yield Made(target, target.stat().st_size, narrowed.notes(precision))


def _came_from(checkpoint: Checkpoint) -> Generator[float, None, dict[str, str]]:
    """What is known of a pickle, which says nothing of itself, and by which hash others know it."""
    with contextlib.closing(sha256_steps(checkpoint.path)) as steps:
        sha256 = yield from _shortened(steps)
    return (about(checkpoint) if checkpoint.can_generate else {}) | {
        "converted_from": checkpoint.path.name,
        "converted_from_sha256": sha256,
    }


def _shortened(steps: Generator[float, None, str]) -> Generator[float, None, str]:
    try:
        while True:
            yield _HASHED * next(steps)
    except StopIteration as ended:
        return str(ended.value)


def check_precision(checkpoint: Checkpoint, precision: Precision) -> None:
    if precision is Precision.FP8 and (checkpoint.layout is Layout.OURS or not checkpoint.can_generate):
        raise BadRequest(
            f"{checkpoint.name} cannot be stored in fp8",
            "only the large networks of others' checkpoints can",
            "Choose fp16 or bf16",
        )


def folder_in_one(checkpoint: Checkpoint, tensors: State) -> dict[str, Tensor]:
    """A diffusers folder's tensors in the makers' names. CheckpointUnknown where those are not known."""
    if not has_original_naming(checkpoint.family):
        family = family_of(checkpoint.family)
        title = family.title if family is not None else "its kind"
        raise CheckpointUnknown(
            f"{checkpoint.name} cannot become one file",
            f"how those of {title} are named is not known here",
            "Use the folder as it is; its precision can be changed",
        )
    named = to_original(
        checkpoint.family, split_components(tensors, checkpoint.family, FolderComponents(checkpoint.path).config)
    )
    return named | signs(checkpoint)


def signs(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensor by which ComfyUI and others tell that a Stable Diffusion XL predicts v."""
    return {"v_pred": torch.empty(0)} if checkpoint.family == "sdxl" and checkpoint.prediction == "v" else {}


def about(checkpoint: Checkpoint, title: str = "") -> dict[str, str]:
    """ModelSpec's keys for a file made of it: https://github.com/Stability-AI/ModelSpec."""
    architecture = _ARCHITECTURES.get(checkpoint.family, "")
    if checkpoint.family == "sd2" and checkpoint.prediction == "v":
        architecture = "stable-diffusion-v2-768-v"
    prediction = {"eps": "epsilon", "v": "v", "x0": "sample"}.get(checkpoint.prediction, "")
    size = f"{checkpoint.width}x{checkpoint.height}" if checkpoint.width else ""
    told = {
        "sai_model_spec": "1.0.0",
        "architecture": architecture,
        "title": title or checkpoint.title,
        "resolution": size,
        "prediction_type": prediction,
        "implementation": "https://github.com/huggingface/diffusers" if architecture else "",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {f"modelspec.{key}": value for key, value in told.items() if value}


class Narrowed:
    """Casts tensors as they are read, and counts what did not fit."""

    def __init__(self) -> None:
        self._clipped: dict[str, int] = {}

    def stored(self, tensors: State, precision: Precision) -> dict[str, Tensor]:
        """The tensors in that precision; whole numbers, and all with KEEP, as they are."""
        if precision is Precision.KEEP:
            return dict(tensors)
        return {
            name: self._cast(name, tensor, precision) if tensor.is_floating_point() else tensor
            for name, tensor in dequantized(tensors).items()
        }

    def _cast(self, name: str, tensor: Tensor, precision: Precision) -> Tensor:
        dtype = DTYPES[precision]
        if precision is Precision.FP8 and (tensor.ndim < 2 or _KEPT_WIDE.search(name)):
            dtype = torch.bfloat16 if tensor.dtype is torch.bfloat16 else torch.float16
        if dtype is tensor.dtype:
            return tensor
        return lazy(tuple(tensor.shape), dtype, lambda: self._narrow(name, materialize(tensor), dtype))

    def _narrow(self, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        largest = torch.finfo(dtype).max
        if torch.finfo(tensor.dtype).max > largest:
            beyond = tensor.abs() > largest
            if dtype is torch.float16:
                beyond &= torch.isfinite(tensor)  # a mask of -inf stays one
            if count := int(beyond.sum()):
                self._clipped[name] = count
                tensor = torch.where(beyond, tensor.clamp(-largest, largest), tensor)
        return tensor.to(dtype)

    def notes(self, precision: Precision) -> tuple[str, ...]:
        if not self._clipped:
            return ()
        count, (name, _) = sum(self._clipped.values()), max(self._clipped.items(), key=lambda one: one[1])
        return (
            f"{count:,} number{' was' if count == 1 else 's were'} larger than {precision} holds and became the largest that it "
            f"does, most of them in {name}.",
        )
