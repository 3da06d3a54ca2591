"""Checkpoint files of models trained with diffstudio: one `.safetensors` file whose header describes the network."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from diffstudio import __version__
from diffstudio.atomic import not_written, write_bytes
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.caption_words import CaptionWords
from diffstudio.models.checkpoint import FORMAT, TRAIN_OR_DOWNLOAD, Checkpoint
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.models.files.file_access import first_line, nonfinite
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.output_format import PLAIN, OutputFormat
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.state_dict_keys import with_current_keys
from diffstudio.networks.transformer import PixelTransformer, TransformerConfig
from diffstudio.paths import valid_utf8

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_GUIDANCE = {"scale": PIXEL.guidance, "interval": [0.05, 0.95]}
DEFAULT_SAMPLING: Mapping[str, object] = {"sampler": PIXEL.sampler, "spacing": PIXEL.spacing, "steps": PIXEL.steps}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The contents of a checkpoint."""

    network: PixelTransformer
    tokenizer: CaptionTokenizer | None
    classes: tuple[str, ...]
    schedule: dict[str, Any]  # for schedule_from_json
    guidance: dict[str, Any]  # `scale`, and `interval` in t
    output: OutputFormat = PLAIN


def save(
    path: Path,
    network: PixelTransformer,
    *,
    title: str,
    tokenizer: CaptionTokenizer | None = None,
    classes: tuple[str, ...] = (),
    schedule: Mapping[str, Any] | None = None,
    guidance: Mapping[str, Any] = DEFAULT_GUIDANCE,
    sampling: Mapping[str, object] = DEFAULT_SAMPLING,
    captions: CaptionWords | None = None,
    recipe: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    thumbnail: Image.Image | None = None,
    dtype: torch.dtype = torch.float32,
    card: Mapping[str, str] | None = None,
    output: OutputFormat = PLAIN,
    size: tuple[int, int] | None = None,
) -> None:
    """Write a checkpoint to `path`, whole or not at all. StorageProblem when that fails.

    `guidance` and `sampling` (sampler, spacing, steps) are the recommended settings, read by `models.recommended`;
    `run` is the training record (steps, pictures_seen, held_out_loss); `card` adds ModelSpec keys, such as `license`
    and `description`: https://github.com/Stability-AI/ModelSpec. `size` is the default width and height in px, if they are
    not those of the square that the network is built for.
    """
    config = network.config
    width, height = size or (config.image_size, config.image_size)
    model = {
        "family": "pixel",
        "conditioning": config.conditioning,
        "classes": classes,
        "width": width,
        "height": height,
    }
    values = {
        "format": FORMAT,
        "model": model,
        "network": {"kind": "pixel_transformer"} | config.to_json(),
        "schedule": dict(schedule or {"kind": "rectified_flow", "shift": 1.0}),
        "guidance": dict(guidance),
        "sampling": dict(sampling),
        "recipe": dict(recipe or {}),
        "run": dict(run or {}),
    }
    if not output.is_plain:
        values["pixels"] = output.to_json()
    metadata = {f"diffstudio.{key}": json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    if tokenizer is not None:
        metadata["diffstudio.tokenizer"] = tokenizer.to_json()
    if captions is not None:
        metadata["diffstudio.captions"] = json.dumps(captions.to_json(), ensure_ascii=False)
    if thumbnail is not None:
        metadata["diffstudio.thumbnail"] = json.dumps(_webp(thumbnail))
    metadata |= {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "diffstudio-pixel-transformer",
        "modelspec.implementation": f"diffstudio {__version__}",
        "modelspec.title": title,
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.prediction_type": "sample",
    } | {f"modelspec.{key}": value for key, value in (card or {}).items()}
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors, {name: valid_utf8(value) for name, value in metadata.items()})
    write_bytes(path, data, not_written(path))


def load(checkpoint: Checkpoint | Path) -> Loaded:
    """Load the network of such a checkpoint: float32 on the CPU, in evaluation mode.

    State-dict keys of version 0.1 are replaced by the current ones. CheckpointDamaged when the tensors do not match the
    header or contain NaN or Inf values.
    """
    checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)
    network_json, schedule, guidance = (_header_object(checkpoint, key) for key in ("network", "schedule", "guidance"))
    try:
        config = TransformerConfig.from_json({name: value for name, value in network_json.items() if name != "kind"})
        _check_plausible(config, checkpoint.parameters)
        output = OutputFormat.from_header(checkpoint, config.in_channels)
        tokenizer = (
            CaptionTokenizer.from_json(checkpoint.metadata["diffstudio.tokenizer"])
            if config.conditioning is Conditioning.TEXT
            else None
        )
        with torch.random.fork_rng(devices=[]):  # initialisation draws from the global generator
            network = PixelTransformer(config)
        tensors = with_current_keys(_tensors(checkpoint.path))
        if any(not bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise CheckpointDamaged(
                nonfinite(checkpoint.path.name),
                "its training run diverged, or the file is damaged",
                "Choose another checkpoint",
            )
        missing, unexpected = network.load_state_dict(
            {name: tensor.float() for name, tensor in tensors.items()}, strict=False, assign=True
        )
        if missing or unexpected:
            raise ValueError(f"tensors do not match the network: {sorted([*missing, *unexpected])[:3]}")
    except CheckpointDamaged:
        raise
    except Exception as error:  # tokenizers raises bare Exception, torch and safetensors their own types
        raise CheckpointDamaged(
            f"{checkpoint.path.name} cannot be loaded", first_line(error) or type(error).__name__, TRAIN_OR_DOWNLOAD
        ) from error
    return Loaded(network.eval(), tokenizer, checkpoint.classes, schedule, guidance, output)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if valid_utf8(str(path)) == str(path):
        return safetensors.torch.load_file(path)
    return safetensors.torch.load(path.read_bytes())  # safetensors can only open paths that are valid UTF-8


def _header_object(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    value = checkpoint.json(key)
    if not isinstance(value, dict):
        raise CheckpointDamaged(f"The header of {checkpoint.path.name} has no valid {key}", remedy=TRAIN_OR_DOWNLOAD)
    return value


def _check_plausible(config: TransformerConfig, parameters: int) -> None:
    """ValueError for a network larger than its file, before its memory is allocated."""
    width, cond_dim = config.hidden_size, config.cond_dim
    grid = config.image_size // config.patch_size
    least = config.depth * (3 * width * width + 6 * width * cond_dim) + width * grid**2
    if config.conditioning is Conditioning.TEXT:
        least += (config.vocab_size + config.text_tokens) * width
    elif config.conditioning is Conditioning.CLASS:
        least += config.num_classes * cond_dim
    if least + config.patch_values * config.bottleneck_dim + cond_dim**2 > parameters:
        raise ValueError("the network described in the header has more parameters than the file")


def thumbnail(checkpoint: Checkpoint) -> bytes | None:
    """The WebP image in the header, or None."""
    try:
        return base64.b64decode(checkpoint.json("thumbnail"), validate=True)
    except (CheckpointDamaged, ValueError, TypeError):
        return None


def _webp(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
