"""A network made here as one `.safetensors` file whose header says how to build it again."""

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
from diffstudio.atomic import write_bytes
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import FORMAT, Checkpoint, read_checkpoint
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import PixelTransformer, TransformerConfig

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_GUIDANCE = {"scale": 3.0, "interval": [0.05, 0.95]}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network with what belongs to it."""

    network: PixelTransformer
    tokenizer: CaptionTokenizer | None
    classes: tuple[str, ...]
    schedule: dict[str, Any]  # for diffusion.schedule.schedule_from_json
    guidance: dict[str, Any]  # `scale`, and `interval` in t


def save(
    path: Path,
    network: PixelTransformer,
    *,
    title: str,
    tokenizer: CaptionTokenizer | None = None,
    classes: tuple[str, ...] = (),
    schedule: Mapping[str, Any] | None = None,
    guidance: Mapping[str, Any] = DEFAULT_GUIDANCE,
    recipe: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    thumbnail: Image.Image | None = None,
    dtype: torch.dtype = torch.float32,
    card: Mapping[str, str] | None = None,
) -> None:
    """Write the network beside `path`, then rename. StorageProblem when the disk is full or the place is not ours.

    `run` holds what came of training (steps, pictures_seen, held_out_loss); `card` adds ModelSpec keys, such as
    `license` and `description`: https://github.com/Stability-AI/ModelSpec.
    """
    config = network.config
    about = {
        "family": "pixel",
        "conditioning": config.conditioning,
        "classes": classes,
        "width": config.size,
        "height": config.size,
    }
    described = {
        "format": FORMAT,
        "model": about,
        "network": {"kind": "pixel_transformer"} | config.to_json(),
        "schedule": dict(schedule or {"kind": "rectified_flow", "shift": 1.0}),
        "guidance": dict(guidance),
        "recipe": dict(recipe or {}),
        "run": dict(run or {}),
    }
    metadata = {f"diffstudio.{key}": json.dumps(value, ensure_ascii=False) for key, value in described.items()}
    if tokenizer is not None:
        metadata["diffstudio.tokenizer"] = tokenizer.to_json()
    if thumbnail is not None:
        metadata["diffstudio.thumbnail"] = json.dumps(_webp(thumbnail))
    metadata |= {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "diffstudio-pixel-transformer",
        "modelspec.implementation": f"diffstudio {__version__}",
        "modelspec.title": title,
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "modelspec.resolution": f"{config.size}x{config.size}",
        "modelspec.prediction_type": "sample",
    } | {f"modelspec.{key}": value for key, value in (card or {}).items()}
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors, {name: as_text(value) for name, value in metadata.items()})
    write_bytes(path, data, f"{path.name} could not be written")


def load(checkpoint: Checkpoint | Path) -> Loaded:
    """The network of a file made here, float32 on the CPU, in evaluation mode. CheckpointDamaged when it does not fit its header."""
    checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)
    described, schedule, guidance = (_table(checkpoint, key) for key in ("network", "schedule", "guidance"))
    try:
        config = TransformerConfig.from_json({name: value for name, value in described.items() if name != "kind"})
        _check_plausible(config, checkpoint.parameters)
        tokenizer = (
            CaptionTokenizer.from_json(checkpoint.metadata["diffstudio.tokenizer"])
            if config.conditioning is Conditioning.TEXT
            else None
        )
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and thrown away
            network = PixelTransformer(config)
        tensors = _tensors(checkpoint.path)
        if any(not bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise CheckpointDamaged(
                f"{checkpoint.path.name} holds numbers that are not finite",
                "the run that made it diverged, or the file was damaged",
                "Choose another checkpoint",
            )
        missing, unexpected = network.load_state_dict(
            {name: tensor.float() for name, tensor in tensors.items()}, strict=False, assign=True
        )
        if missing or unexpected:
            raise ValueError(f"tensors do not match the network: {sorted([*missing, *unexpected])[:3]}")
    except CheckpointDamaged:
        raise
    except Exception as error:  # tokenizers raises bare Exception; torch and safetensors their own kinds
        raise CheckpointDamaged(
            f"{checkpoint.path.name} cannot be loaded",
            str(error).splitlines()[0] if str(error) else type(error).__name__,
            "Train or download it again",
        ) from error
    return Loaded(network.eval(), tokenizer, checkpoint.classes, schedule, guidance)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if as_text(str(path)) == str(path):
        return safetensors.torch.load_file(path)
    return safetensors.torch.load(path.read_bytes())  # safetensors opens no file whose name is not text


def as_text(name: str) -> str:
    """What can be written as UTF-8: names of files and folders may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _table(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    value = checkpoint.json(key)
    if not isinstance(value, dict):
        raise CheckpointDamaged(
            f"{checkpoint.path.name} does not say what its {key} is", remedy="Train or download it again"
        )
    return value


def _check_plausible(config: TransformerConfig, parameters: int) -> None:
    """ValueError for a network larger than its file: building it would take memory and hours before that showed."""
    width, inner = config.width, config.condition_width
    least = config.depth * (3 * width * width + 6 * width * inner) + width * (config.size // config.patch) ** 2
    if config.conditioning is Conditioning.TEXT:
        least += (config.vocabulary + config.text_tokens) * width
    elif config.conditioning is Conditioning.CLASS:
        least += config.classes * inner
    window = 3 * (config.patch + 2 * config.margin) ** 2
    if least + window * config.bottleneck + inner * inner > parameters:
        raise ValueError("the network it describes is larger than what it holds")


def thumbnail(checkpoint: Checkpoint) -> bytes | None:
    """The WebP picture in the header, or None."""
    try:
        return base64.b64decode(checkpoint.json("thumbnail"), validate=True)
    except (CheckpointDamaged, ValueError, TypeError):
        return None


def _webp(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
