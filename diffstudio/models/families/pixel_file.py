"""Checkpoint files of models trained with diffstudio: one `.safetensors` file whose header describes the network.

The `kind` in the header's `network` says which network to build: a pixel transformer, a U-Net, an autoencoder or a
generator. The upper level of a cascade has an entry of its own, `upper`, and its tensors the prefix `upper.`.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import safetensors.torch
import torch

from diffstudio import __version__
from diffstudio.atomic import write_bytes
from diffstudio.diffusion.objectives.parameterisation import CLEAN_IMAGE, Parameterisation, Prediction
from diffstudio.errors import WRONG_VALUE, CheckpointDamaged, DiffstudioError, reads_up_to
from diffstudio.models.caption_words import CaptionWords
from diffstudio.models.checkpoint import FORMAT, FORMAT_OF_CLEAN_IMAGE, TRAIN_OR_DOWNLOAD, UNET_ARCHITECTURE, Checkpoint
from diffstudio.models.detection.families_table import GAN, PIXEL, VAE
from diffstudio.models.files.file_access import first_line, nonfinite
from diffstudio.models.fitted_steps.distilled import Distilled
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.output_format import PLAIN, OutputFormat
from diffstudio.networks.autoencoder import Autoencoder, AutoencoderConfig
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.cascade import CascadedTransformer, UpperConfig
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.gan import GanConfig, Generator
from diffstudio.networks.one_call import OneCallConfig
from diffstudio.networks.state_dict_keys import with_current_keys
from diffstudio.networks.transformer import PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.networks.unet import PixelNetwork, PixelUNet, UNetConfig
from diffstudio.paths import valid_utf8
from diffstudio.storage_errors import not_written

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_GUIDANCE = {"scale": PIXEL.guidance, "interval": [0.05, 0.95]}
DEFAULT_SAMPLING: Mapping[str, object] = {"sampler": PIXEL.sampler, "spacing": PIXEL.spacing, "steps": PIXEL.steps}


Network: TypeAlias = PixelNetwork | Autoencoder | Generator
Config: TypeAlias = TransformerConfig | UNetConfig | AutoencoderConfig | GanConfig
_NETWORK_VERSION = 1  # of all but pixel transformers, which use the version of the file
_TRANSFORMER, _UNET = "pixel_transformer", "unet"  # kinds in headers
_AUTOENCODER, _GENERATOR = "autoencoder", "gan_generator"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The contents of a checkpoint."""

    network: Network
    tokenizer: CaptionTokenizer | None
    classes: tuple[str, ...]
    schedule: dict[str, Any]  # for schedule_from_json
    guidance: dict[str, Any]  # `scale`, and `interval` in t
    output: OutputFormat = PLAIN
    parameterisation: Parameterisation = CLEAN_IMAGE  # of a pixel transformer


def save(
    path: Path,
    network: Network,
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
    parameterisation: Parameterisation = CLEAN_IMAGE,
    distilled: Distilled | None = None,
) -> None:
    """Write a checkpoint to `path`, whole or not at all. StorageProblem when that fails.

    `guidance` and `sampling` (sampler, spacing, steps, min_timestep) are the recommended settings, read by `models.recommended`;
    `run` is the training record (steps, pictures_seen, held_out_loss); `card` adds ModelSpec keys, such as `license`
    and `description`: https://github.com/Stability-AI/ModelSpec. `size` is the default width and height in px, if they are
    not those of the square that the network is built for. `parameterisation`: what a pixel transformer
    predicts. `distilled`: what it was distilled from.
    """
    if not isinstance(network, PixelNetwork):
        parameterisation = CLEAN_IMAGE  # a recipe's own does not apply
    size = size or _built_for(network)
    values = _values_of(network, classes, size, parameterisation)
    values |= {"recipe": dict(recipe or {}), "run": dict(run or {})}
    if isinstance(network, PixelNetwork):
        values |= {
            "schedule": dict(schedule or {"kind": "rectified_flow", "shift": 1.0}),
            "guidance": dict(guidance),
            "sampling": dict(sampling),
        }
    if distilled is not None:
        values["tuned"] = distilled.to_json()
    if not output.is_plain:
        values["pixels"] = output.to_json()
    metadata = {f"diffstudio.{key}": json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    if tokenizer is not None:
        metadata["diffstudio.tokenizer"] = tokenizer.to_json()
    if captions is not None:
        metadata["diffstudio.captions"] = json.dumps(captions.to_json(), ensure_ascii=False)
    if thumbnail is not None:
        metadata["diffstudio.thumbnail"] = json.dumps(_webp(thumbnail))
    metadata |= _model_spec(network, title, size, parameterisation, card or {})
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors, {name: valid_utf8(value) for name, value in metadata.items()})
    write_bytes(path, data, not_written(path))


def _built_for(network: Network) -> tuple[int, int]:
    """Width and height in px of the square that the network, with its upper level, generates."""
    config = network.upper_config.network if isinstance(network, CascadedTransformer) else network.config
    return config.image_size, config.image_size


def _values_of(
    network: Network, classes: tuple[str, ...], size: tuple[int, int], parameterisation: Parameterisation
) -> dict[str, Any]:
    """The entries of the header that say what the network is."""
    upper = network.upper_config if isinstance(network, CascadedTransformer) else None
    values: dict[str, Any] = {
        "format": FORMAT_OF_CLEAN_IMAGE if parameterisation == CLEAN_IMAGE and upper is None else FORMAT,
        "model": {
            "family": _family_of(network),
            "conditioning": network.config.conditioning,
            "classes": classes,
            "width": size[0],
            "height": size[1],
        },
        "network": _described(network),
    }
    if parameterisation != CLEAN_IMAGE:
        values["prediction"] = parameterisation.to_json()
    if upper is not None:
        values["upper"] = upper.to_json()
    return values


def _model_spec(
    network: Network, title: str, size: tuple[int, int], parameterisation: Parameterisation, card: Mapping[str, str]
) -> dict[str, str]:
    """The keys of ModelSpec, those of `card` among them."""
    width, height = size
    metadata = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": UNET_ARCHITECTURE
        if isinstance(network, PixelUNet)
        else _ARCHITECTURES[_family_of(network)],
        "modelspec.implementation": f"diffstudio {__version__}",
        "modelspec.title": title,
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "modelspec.resolution": f"{width}x{height}",
    } | {f"modelspec.{key}": value for key, value in card.items()}
    if isinstance(network, PixelNetwork):
        metadata["modelspec.prediction_type"] = _PREDICTION_TYPES[parameterisation.prediction]
    return metadata


def load(checkpoint: Checkpoint | Path) -> Loaded:
    """Load the network of such a checkpoint: float32 on the CPU, in evaluation mode.

    State-dict keys of version 0.1 are replaced by the current ones. CheckpointDamaged when the tensors do not match the
    header or contain NaN or Inf values.
    """
    checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)
    described = _header_object(checkpoint, "network")
    schedule, guidance = {}, {}
    if described.get("kind", _TRANSFORMER) in (_TRANSFORMER, _UNET):
        schedule, guidance = (_header_object(checkpoint, key) for key in ("schedule", "guidance"))
    try:
        build, config = _network_of(checkpoint, described)
        output = checkpoint.output_format(config.in_channels)
        parameterisation = checkpoint.parameterisation
        tokenizer = (
            CaptionTokenizer.from_json(checkpoint.metadata["diffstudio.tokenizer"])
            if config.conditioning is Conditioning.TEXT
            else None
        )
        with torch.random.fork_rng(devices=[]):  # initialisation draws from the global generator
            network = build()
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
            f"{checkpoint.path.name} cannot be loaded", first_line(error) or WRONG_VALUE, TRAIN_OR_DOWNLOAD
        ) from error
    return Loaded(network.eval(), tokenizer, checkpoint.classes, schedule, guidance, output, parameterisation)


# ModelSpec has `epsilon` and `v`; the others are named as by the schedulers of diffusers.
_PREDICTION_TYPES = {
    Prediction.X0: "sample",
    Prediction.VELOCITY: "flow_prediction",
    Prediction.EPS: "epsilon",
    Prediction.V: "v",
    Prediction.EDM: "edm",
}
_ARCHITECTURES = {PIXEL.name: "diffstudio-pixel-transformer", VAE: "diffstudio-vae", GAN: "diffstudio-gan"}


def _family_of(network: Network) -> str:
    match network:
        case PixelTransformer() | PixelUNet():
            return PIXEL.name
        case Autoencoder():
            return VAE
        case Generator():
            return GAN


def _described(network: Network) -> dict[str, Any]:
    """The `network` entry of the header."""
    if isinstance(network, PixelTransformer):
        return {"kind": _TRANSFORMER} | network.config.to_json()
    kind = {PixelUNet: _UNET, Autoencoder: _AUTOENCODER, Generator: _GENERATOR}[type(network)]
    return {"kind": kind, "version": _NETWORK_VERSION} | network.config.to_json()


def _network_of(checkpoint: Checkpoint, described: Mapping[str, Any]) -> tuple[Callable[[], Network], Config]:
    """A function that builds the network of a header, and its config. CheckpointDamaged, ValueError, KeyError, TypeError."""
    kind, version = described.get("kind", _TRANSFORMER), described.get("version", 0)
    values = {name: value for name, value in described.items() if name not in ("kind", "version")}
    if kind == _TRANSFORMER:
        config = TransformerConfig.from_json(values)
        if "diffstudio.upper" not in checkpoint.metadata:
            _check_plausible(config, checkpoint.parameters)
            return partial(PixelTransformer, config), config
        upper = UpperConfig.from_json(_header_object(checkpoint, "upper"))
        for one in (config, upper.network):
            _check_plausible(one, checkpoint.parameters)
        return partial(CascadedTransformer, config, upper), config
    if type(version) is not int or version > _NETWORK_VERSION:
        raise CheckpointDamaged(
            f"{checkpoint.path.name} has a network of version {version!r}",
            reads_up_to(_NETWORK_VERSION),
            "Update diffstudio",
        )
    if kind == _UNET:
        unet = UNetConfig.from_json(values)
        _check_unet_plausible(unet, checkpoint.parameters)
        return partial(PixelUNet, unet), unet
    if kind == _AUTOENCODER:
        autoencoder = AutoencoderConfig.from_json(values)
        check_one_call_plausible(autoencoder, checkpoint.parameters, autoencoder.latent_values)
        return partial(Autoencoder, autoencoder), autoencoder
    if kind == _GENERATOR:
        generator = GanConfig.from_json(values)
        check_one_call_plausible(generator, checkpoint.parameters, generator.latent_size)
        return partial(Generator, generator), generator
    raise ValueError(f"its header names an unknown kind of network: {str(kind)[:40]!r}")


def other_network(checkpoint: Checkpoint) -> CheckpointDamaged:
    """The error for a file whose network is of another family than its header says."""
    return CheckpointDamaged(
        f"{checkpoint.path.name} cannot be loaded", f"its network is not one of {checkpoint.family}", TRAIN_OR_DOWNLOAD
    )


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if valid_utf8(str(path)) == str(path):
        return safetensors.torch.load_file(path)
    return safetensors.torch.load(path.read_bytes())  # safetensors can only open paths that are valid UTF-8


def _header_object(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    value = checkpoint.json(key)
    if not isinstance(value, dict):
        raise CheckpointDamaged(f"The header of {checkpoint.path.name} has no valid {key}", remedy=TRAIN_OR_DOWNLOAD)
    return value


_LARGER_THAN_FILE = "the network described in the header has more parameters than the file"


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
        raise ValueError(_LARGER_THAN_FILE)


def _check_unet_plausible(config: UNetConfig, parameters: int) -> None:
    """Like `_check_plausible`, for U-Nets."""
    least = sum(2 * config.layers_per_block * 18 * width**2 for width in config.block_out_channels)
    least += config.in_channels * config.block_out_channels[0] + config.augment_dim * config.time_dim
    if config.conditioning is Conditioning.TEXT:
        least += (config.vocab_size + config.text_tokens + config.cond_dim) * config.cond_dim
    elif config.conditioning is Conditioning.CLASS:
        least += config.num_classes * config.time_dim
    if least > parameters:
        raise ValueError(_LARGER_THAN_FILE)


def check_one_call_plausible(config: OneCallConfig, parameters: int, latent: int) -> None:
    """Like `_check_plausible`, for VAEs and GANs; `latent` is the size of the noise or latent of an image."""
    width, cond_dim = config.hidden_size, config.cond_dim
    least = config.depth * len(config.widths) * width * width + latent + width * config.in_channels
    least += cond_dim * width + config.grid**2
    if config.conditioning is Conditioning.TEXT:
        least += (config.vocab_size + config.text_tokens) * cond_dim
    elif config.conditioning is Conditioning.CLASS:
        least += config.num_classes * cond_dim
    if least > parameters:
        raise ValueError(_LARGER_THAN_FILE)


def trained_steps(path: Path) -> int | None:
    """The steps of the run up to the checkpoint in this file; None if it cannot be read or does not say them."""
    try:
        steps = read_checkpoint(path).json("run")["steps"]
    except (DiffstudioError, KeyError, TypeError):
        return None
    return steps if type(steps) is int else None


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
