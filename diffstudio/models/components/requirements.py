"""Pieces: the text encoders, autoencoders and tokenizers that a checkpoint needs and its own file does not hold.

They are looked for in the person's own folders, whichever program these belong to, and known by their headers: how wide their
words are and how many, how many channels their latents have. Of several that fit the one stored most exactly is taken, then the
one that lies alone, then the first by its path: the same folders give the same pieces. No weights, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.library import Library

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Need:
    """A part of a family's model, by diffusers' name."""

    part: str
    kind: str  # a key of PIECES
    inside: tuple[str, ...]  # how its tensors begin in a whole checkpoint
    optional: bool = False  # the family draws without it


@dataclass(frozen=True, slots=True)
class Piece:
    """What a person reads of one kind, and where it goes."""

    title: str
    usual: str  # how the file is called by those who give it away
    folder: str  # below the folder of models; ComfyUI's names, which every walk of ours knows
    classes: tuple[str, ...]  # its classes in a diffusers folder
    tokenizer: str = ""  # the kind of its tokenizer, where that does not come with the program


_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
PIECES: Mapping[str, Piece] = {
    "clip_l": Piece("text encoder CLIP L", "clip_l.safetensors", "text_encoders", _CLIP),
    "clip_h": Piece("text encoder OpenCLIP H", "clip_h.safetensors", "text_encoders", _CLIP[:1]),
    "clip_g": Piece("text encoder OpenCLIP G", "clip_g.safetensors", "text_encoders", _CLIP[1:]),
    "t5": Piece("text encoder T5 XXL", "t5xxl_fp16.safetensors", "text_encoders", ("T5EncoderModel",), "t5"),
    "qwen3": Piece(
        "text encoder Qwen3 4B", "qwen_3_4b.safetensors", "text_encoders", ("Qwen3ForCausalLM", "Qwen3Model"), "qwen"
    ),
    "qwen2.5-vl": Piece(
        "text encoder Qwen2.5-VL 7B",
        "qwen_2.5_vl_7b.safetensors",
        "text_encoders",
        ("Qwen2_5_VLForConditionalGeneration",),
        "qwen",
    ),
    "vae-sd": Piece(
        "autoencoder of Stable Diffusion", "vae-ft-mse-840000-ema-pruned.safetensors", "vae", ("AutoencoderKL",)
    ),
    "vae-sdxl": Piece("autoencoder of Stable Diffusion XL", "sdxl_vae.safetensors", "vae", ("AutoencoderKL",)),
    "vae-sd3": Piece("autoencoder of Stable Diffusion 3", "sd3_vae.safetensors", "vae", ("AutoencoderKL",)),
    "vae-flux": Piece("autoencoder of FLUX.1", "ae.safetensors", "vae", ("AutoencoderKL",)),
    "vae-qwen": Piece("autoencoder of Qwen-Image", "qwen_image_vae.safetensors", "vae", ("AutoencoderKLQwenImage",)),
    "tokenizer-t5": Piece("tokenizer of T5", "tokenizer.json", "tokenizers/t5", ()),
    "tokenizer-qwen": Piece("tokenizer of Qwen", "tokenizer.json", "tokenizers/qwen", ()),
}
_VAES = ("first_stage_model.", "vae.")
_COMFY = "text_encoders.{}.transformer."
_L_INSIDE = (
    "cond_stage_model.transformer.",
    "conditioner.embedders.0.transformer.",
    _COMFY.format("clip_l"),
    "text_encoder.",
)


def _flow(vae: str, *needs: Need) -> tuple[Need, ...]:
    return *needs, Need("vae", vae, _VAES)


_T5 = (_COMFY.format("t5xxl"),)
NEEDS: Mapping[str, tuple[Need, ...]] = {  # family -> what it needs besides its network
    "sd1": (Need("text_encoder", "clip_l", _L_INSIDE), Need("vae", "vae-sd", _VAES)),
    "sd2": (Need("text_encoder", "clip_h", ("cond_stage_model.model.", "text_encoder.")), Need("vae", "vae-sd", _VAES)),
    "sdxl": (
        Need("text_encoder", "clip_l", _L_INSIDE),
        Need(
            "text_encoder_2", "clip_g", ("conditioner.embedders.1.model.", _COMFY.format("clip_g"), "text_encoder_2.")
        ),
        Need("vae", "vae-sdxl", _VAES),
    ),
    "sdxl_refiner": (
        Need("text_encoder_2", "clip_g", ("conditioner.embedders.0.model.", "text_encoder_2.")),
        Need("vae", "vae-sdxl", _VAES),
    ),
    "sd3": _flow(
        "vae-sd3",
        Need("text_encoder", "clip_l", (_COMFY.format("clip_l"), "text_encoder.")),
        Need("text_encoder_2", "clip_g", (_COMFY.format("clip_g"), "text_encoder_2.")),
        Need("text_encoder_3", "t5", (*_T5, "text_encoder_3."), optional=True),
    ),
    "flux": _flow(
        "vae-flux",
        Need("text_encoder", "clip_l", (_COMFY.format("clip_l"), "text_encoder.")),
        Need("text_encoder_2", "t5", (*_T5, "text_encoder_2.")),
    ),
    "z_image": _flow("vae-flux", Need("text_encoder", "qwen3", (_COMFY.format("qwen3_4b"), "text_encoder."))),
    "qwen_image": _flow("vae-qwen", Need("text_encoder", "qwen2.5-vl", (_COMFY.format("qwen25_7b"), "text_encoder."))),
}


@dataclass(frozen=True, slots=True)
class InFile:
    """A part among a file's tensors: those that begin with `prefix`."""

    path: Path
    prefix: str


@dataclass(frozen=True, slots=True)
class InFolder:
    """A component of a diffusers folder."""

    folder: Path
    component: str

    @property
    def path(self) -> Path:
        return self.folder / self.component


Place = InFile | InFolder


def found_in(
    kind: str, shapes: Shapes, prefixes: tuple[str, ...], config: Mapping[str, Any] | None = None
) -> str | None:
    """The first of the prefixes below which such a piece lies, and one of this configuration's size where that is given."""
    for prefix in prefixes:
        size = _size(kind, shapes, prefix)
        if size is not None and (config is None or size == embedding_size(kind, config)):
            return prefix
    return None


def _size(kind: str, shapes: Shapes, prefix: str) -> tuple[int, ...] | None:
    """Words and how wide they are; channels of latents and sides of a kernel. None where it is something else."""

    def of(*names: str) -> tuple[int, ...]:
        return next((shapes[prefix + name] for name in names if prefix + name in shapes), ())

    if kind.startswith("vae"):
        inner = of("decoder.conv_in.weight", "decoder.conv1.weight")
        return (inner[1], len(inner) - 2) if len(inner) >= 4 else None
    if kind.startswith("clip"):
        words = of(
            "text_model.embeddings.token_embedding.weight",
            "embeddings.token_embedding.weight",
            "token_embedding.weight",
        )
    elif kind == "t5":
        words = of("shared.weight", "encoder.embed_tokens.weight")
        words = words if of("encoder.block.0.layer.0.SelfAttention.q.weight") else ()
    else:
        words = of("model.embed_tokens.weight", "embed_tokens.weight", "model.language_model.embed_tokens.weight")
    return words if len(words) == 2 else None


def embedding_size(kind: str, config: Mapping[str, Any]) -> tuple[int, ...]:
    if kind.startswith("vae"):
        return (int(config["z_dim"]), 3) if "z_dim" in config else (int(config["latent_channels"]), 2)
    words: Mapping[str, Any] = config.get("text_config", config)
    return int(words["vocab_size"]), int(words.get("hidden_size", words.get("d_model", 0)))


def missing(checkpoint: Checkpoint, kinds: list[str], library: Library | None) -> CheckpointMissing:
    """The error that says what is not there, what each looks like and where it goes. `pieces` are the kinds."""
    home = library.folders[0] if library is not None else paths.checkpoints()
    titles = [PIECES[kind].title for kind in kinds]
    files = [str(Path(PIECES[kind].folder) / PIECES[kind].usual) for kind in kinds]
    holds = (
        "its file holds neither, and neither is"
        if len(kinds) == 2
        else "its file does not hold them, nor are they"
        if len(kinds) > 2
        else "its file does not hold it, nor is it"
    )
    error = CheckpointMissing(
        f"{checkpoint.name} has no {_and(titles)}",
        f"{holds} in your folders of models",
        f"Put {_and(files)} into {home}",
    )
    error.pieces = tuple(kinds)
    return error


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
