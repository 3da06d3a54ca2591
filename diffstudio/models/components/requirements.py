"""Which text encoders, VAE and tokenizers each family requires, what their files are called, and how to recognise them.

No torch.

A component is recognised by its header alone: vocabulary size and width of a text encoder, latent channels of a VAE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Shapes
from diffstudio.models.library.library import Library


@dataclass(frozen=True, slots=True)
class Requirement:
    """A component that a family needs besides its network."""

    component: str  # diffusers' name
    kind: str  # a key of COMPONENT_KINDS
    optional: bool = False  # the family works without it


@dataclass(frozen=True, slots=True)
class ComponentKind:
    """One kind of component: its title, its usual file, and where that goes."""

    title: str
    file_name: str  # as published
    folder: str  # below the models folder; ComfyUI's folder names, which the library scans
    classes: tuple[str, ...]  # in a diffusers folder
    tokenizer: str = ""  # `t5` or `qwen`; empty where the tokenizer ships with the program


_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
COMPONENT_KINDS: Mapping[str, ComponentKind] = {
    "clip_l": ComponentKind("CLIP-L text encoder", "clip_l.safetensors", "text_encoders", _CLIP),
    "clip_h": ComponentKind("OpenCLIP-H text encoder", "clip_h.safetensors", "text_encoders", _CLIP[:1]),
    "clip_g": ComponentKind("OpenCLIP-G text encoder", "clip_g.safetensors", "text_encoders", _CLIP[1:]),
    "t5": ComponentKind("T5-XXL text encoder", "t5xxl_fp16.safetensors", "text_encoders", ("T5EncoderModel",), "t5"),
    "qwen3": ComponentKind(
        "Qwen3 4B text encoder", "qwen_3_4b.safetensors", "text_encoders", ("Qwen3ForCausalLM", "Qwen3Model"), "qwen"
    ),
    "qwen2.5-vl": ComponentKind(
        "Qwen2.5-VL 7B text encoder",
        "qwen_2.5_vl_7b.safetensors",
        "text_encoders",
        ("Qwen2_5_VLForConditionalGeneration",),
        "qwen",
    ),
    "vae-sd": ComponentKind(
        "Stable Diffusion VAE", "vae-ft-mse-840000-ema-pruned.safetensors", "vae", ("AutoencoderKL",)
    ),
    "vae-sdxl": ComponentKind("Stable Diffusion XL VAE", "sdxl_vae.safetensors", "vae", ("AutoencoderKL",)),
    "vae-sd3": ComponentKind("Stable Diffusion 3 VAE", "sd3_vae.safetensors", "vae", ("AutoencoderKL",)),
    "vae-flux": ComponentKind("FLUX.1 VAE", "ae.safetensors", "vae", ("AutoencoderKL",)),
    "vae-qwen": ComponentKind("Qwen-Image VAE", "qwen_image_vae.safetensors", "vae", ("AutoencoderKLQwenImage",)),
    "tokenizer-t5": ComponentKind("T5 tokenizer", "tokenizer.json", "tokenizers/t5", ()),
    "tokenizer-qwen": ComponentKind("Qwen tokenizer", "tokenizer.json", "tokenizers/qwen", ()),
}


REQUIREMENTS: Mapping[str, tuple[Requirement, ...]] = {  # family -> what it requires besides its network
    "sd1": (Requirement("text_encoder", "clip_l"), Requirement("vae", "vae-sd")),
    "sd2": (Requirement("text_encoder", "clip_h"), Requirement("vae", "vae-sd")),
    "sdxl": (
        Requirement("text_encoder", "clip_l"),
        Requirement("text_encoder_2", "clip_g"),
        Requirement("vae", "vae-sdxl"),
    ),
    "sdxl_refiner": (Requirement("text_encoder_2", "clip_g"), Requirement("vae", "vae-sdxl")),
    "sd3": (
        Requirement("text_encoder", "clip_l"),
        Requirement("text_encoder_2", "clip_g"),
        Requirement("text_encoder_3", "t5", optional=True),
        Requirement("vae", "vae-sd3"),
    ),
    "flux": (
        Requirement("text_encoder", "clip_l"),
        Requirement("text_encoder_2", "t5"),
        Requirement("vae", "vae-flux"),
    ),
    "z_image": (Requirement("text_encoder", "qwen3"), Requirement("vae", "vae-flux")),
    "qwen_image": (Requirement("text_encoder", "qwen2.5-vl"), Requirement("vae", "vae-qwen")),
}


@dataclass(frozen=True, slots=True)
class FileLocation:
    """A component in a weight file: the tensors whose keys begin with `prefix`."""

    path: Path
    prefix: str


@dataclass(frozen=True, slots=True)
class FolderLocation:
    """A component of a diffusers folder."""

    folder: Path
    component: str

    @property
    def path(self) -> Path:
        return self.folder / self.component


ComponentLocation = FileLocation | FolderLocation


def matching_prefix(
    kind: str, shapes: Shapes, prefixes: tuple[str, ...], config: Mapping[str, Any] | None = None
) -> str | None:
    """The first prefix under which a component of this kind is found; with `config`, only one of the same size."""
    for prefix in prefixes:
        shape = _shape_under(kind, shapes, prefix)
        if shape is not None and (config is None or shape == identifying_shape(kind, config)):
            return prefix
    return None


def _shape_under(kind: str, shapes: Shapes, prefix: str) -> tuple[int, ...] | None:
    """[vocabulary, width] of a text encoder, [latent channels, spatial dimensions] of a VAE; None for anything else."""

    def of(*names: str) -> tuple[int, ...]:
        return next((shapes[prefix + name] for name in names if prefix + name in shapes), ())

    if kind.startswith("vae"):
        inner = of("decoder.conv_in.weight", "decoder.conv1.weight")
        return (inner[1], len(inner) - 2) if len(inner) >= 4 else None
    if kind.startswith("clip"):
        shape = of(
            "text_model.embeddings.token_embedding.weight",
            "embeddings.token_embedding.weight",
            "token_embedding.weight",
        )
    elif kind == "t5":
        shape = of("shared.weight", "encoder.embed_tokens.weight")
        shape = shape if of("encoder.block.0.layer.0.SelfAttention.q.weight") else ()
    else:
        shape = of("model.embed_tokens.weight", "embed_tokens.weight", "model.language_model.embed_tokens.weight")
    return shape if len(shape) == 2 else None


def identifying_shape(kind: str, config: Mapping[str, Any]) -> tuple[int, ...]:
    """What `matching_prefix` compares: [vocabulary, width] of a text encoder, [latent channels, spatial dimensions] of
    a VAE.
    """
    if kind.startswith("vae"):
        return (int(config["z_dim"]), 3) if "z_dim" in config else (int(config["latent_channels"]), 2)
    text_config: Mapping[str, Any] = config.get("text_config", config)
    return int(text_config["vocab_size"]), int(text_config.get("hidden_size", text_config.get("d_model", 0)))


def missing_components_error(checkpoint: Checkpoint, kinds: list[str], library: Library | None) -> CheckpointMissing:
    """The error that names absent components, their usual files and where to put them; `kinds` are keys of
    COMPONENT_KINDS.
    """
    home = library.folders[0] if library is not None else paths.checkpoints()
    titles = [COMPONENT_KINDS[kind].title for kind in kinds]
    files = [str(Path(COMPONENT_KINDS[kind].folder) / COMPONENT_KINDS[kind].file_name) for kind in kinds]
    error = CheckpointMissing(
        f"{checkpoint.name} has no {listed(titles)}",
        f"neither the file nor your model folders contain {'it' if len(kinds) == 1 else 'them'}",
        f"Put {listed(files)} into {home}",
    )
    error.missing_components = tuple(kinds)
    return error


def listed(items: list[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
