"""Pieces: the text encoders, autoencoders and tokenizers that a checkpoint needs and its own file does not hold.

They are looked for in the person's own folders, whichever program these belong to, and known by their headers: how wide their
words are and how many, how many channels their latents have. Of several that fit the one stored most exactly is taken, then the
one that lies alone, then the first by its path: the same folders give the same pieces. No weights, no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import CheckpointMissing, CheckpointUnknown, DiffstudioError
from diffstudio.models.checkpoint import Checkpoint, Layout, Role, read_header
from diffstudio.models.family import FAMILIES
from diffstudio.models.library import Library
from diffstudio.models.pickle_scan import scan_pickle
from diffstudio.models.records import PICKLES
from diffstudio.models.tokenizer_files import tokenizer_folders, tokenizer_in

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

_EDITIONS = {"vae-sd": "4 channels", "vae-sdxl": "4 channels", "vae-sd3": "16 channels", "vae-flux": "16 channels"}
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
        if size is not None and (config is None or size == _wanted(kind, config)):
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


def _wanted(kind: str, config: Mapping[str, Any]) -> tuple[int, ...]:
    if kind.startswith("vae"):
        return (int(config["z_dim"]), 3) if "z_dim" in config else (int(config["latent_channels"]), 2)
    words: Mapping[str, Any] = config.get("text_config", config)
    return int(words["vocab_size"]), int(words.get("hidden_size", words.get("d_model", 0)))


# ---- elsewhere -------------------------------------------------------------------------------------------------------

_BITS = {"F32": 32, "F64": 64, "BF16": 16, "F16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
_ANY = ("", "text_encoder.", "vae.", "first_stage_model.")  # how a piece that lies alone may begin all the same


class Elsewhere:
    """The pieces in a person's folders, for one checkpoint of a family with needs."""

    def __init__(self, checkpoint: Checkpoint, library: Library | None) -> None:
        self._checkpoint, self._library = checkpoint, library

    @cached_property
    def _models(self) -> list[Checkpoint]:
        return self._library.scan() if self._library is not None else []

    def find(self, need: Need, config: Mapping[str, Any]) -> Place | None:
        """Where it lies; None where nothing fits."""
        found = [(*rank, str(place.path), place) for rank, place in self._candidates(need, config)]
        return min(found, key=lambda one: one[:-1])[-1] if found else None

    def beside(self, need: Need, config: Mapping[str, Any]) -> InFile | None:
        """The autoencoder that lies beside a checkpoint under its name, as AUTOMATIC1111 has it."""
        if need.part != "vae":
            return None
        for suffix in (".vae.safetensors", ".vae.sft", ".vae.pt", ".vae.ckpt"):
            path = self._checkpoint.path.with_name(self._checkpoint.path.stem + suffix)
            if path.is_file() and (prefix := self._fits(path, need, config)) is not None:
                return InFile(path, prefix)
        return None

    def _candidates(self, need: Need, config: Mapping[str, Any]) -> Iterator[tuple[tuple[int, int, int], Place]]:
        """Each with its rank: what is not said to be of this family later, less exact ones later, those in something larger later."""
        for model in self._models:
            if model.path == self._checkpoint.path:
                continue
            if model.layout is Layout.FOLDER:
                yield from self._lent(model, need, config)
            elif model.layout in (Layout.ORIGINAL, Layout.DIFFUSERS, Layout.PICKLE):
                alone = model.role in (Role.VAE, Role.TEXT_ENCODER)
                if not alone and not (model.role is Role.CHECKPOINT and model.family == self._checkpoint.family):
                    continue
                doubt = _doubt(need.kind, model) if alone else 0
                prefix = self._fits(model.path, need, config, alone) if doubt is not None else None
                if doubt is not None and prefix is not None:
                    yield (doubt, -_BITS.get(model.dtype, 0), 0 if alone else 2), InFile(model.path, prefix)

    def _fits(self, path: Path, need: Need, config: Mapping[str, Any], alone: bool = True) -> str | None:
        try:
            return found_in(need.kind, _shapes(path), _ANY if alone else need.inside, config)
        except DiffstudioError:
            return None

    def _lent(
        self, folder: Checkpoint, need: Need, config: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[int, int, int], Place]]:
        for path in sorted(folder.path.glob("*/config.json")):
            about = _read(path)
            kind = str(about.get("_class_name") or next(iter(about.get("architectures") or ()), ""))
            try:
                fits = kind in PIECES[need.kind].classes and _wanted(need.kind, about) == _wanted(need.kind, config)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            if fits and need.part == "vae" and not _same_latents(about, config):
                continue
            if fits:
                yield (0, -_BITS.get(folder.dtype, 0), 1), InFolder(folder.path, path.parent.name)

    def tokenizer(self, kind: str, words: int, encoder: Place | None) -> Path | None:
        """A folder with the tokenizer of that kind, of at most so many words: beside the encoder, or in the library's folders."""
        near = encoder.path.parent if encoder is not None else self._checkpoint.path.parent
        folders = self._library.folders if self._library is not None else ()
        lending = [model.path for model in self._models if model.layout is Layout.FOLDER]
        for folder in tokenizer_folders(near, lending, folders):
            known = tokenizer_in(folder)
            if known is not None and known.kind == kind and known.words <= words < 2 * known.words:
                return folder
        return None


def place_of_vae(vae: Checkpoint, checkpoint: Checkpoint, config: Mapping[str, Any]) -> Place:
    """Of an autoencoder that a person chose for a checkpoint: a file of its own, or that of another checkpoint.

    CheckpointUnknown where it has other latents or there is none.
    """
    need = next(need for need in NEEDS[checkpoint.family] if need.part == "vae")
    if vae.layout is Layout.FOLDER:
        about = _read(vae.path / need.part / "config.json")
        if about.get("_class_name") in PIECES[need.kind].classes and _wanted(need.kind, about) == _wanted(
            need.kind, config
        ):
            return InFolder(vae.path, need.part)
    elif (prefix := found_in(need.kind, _shapes(vae.path), (*need.inside, ""), config)) is not None:
        return InFile(vae.path, prefix)
    raise CheckpointUnknown(
        f"{vae.name} is no autoencoder for {checkpoint.name}",
        f"{FAMILIES[checkpoint.family].title} has latents of another kind, or there is none in it",
        "Choose another, or none",
    )


def autoencoders_for(checkpoint: Checkpoint, models: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Those among `models` that may take the place of its own, by what is known of them without opening them."""
    kind = _vae_kind(checkpoint.family)
    return [
        model
        for model in models
        if kind is not None
        and model.role is Role.VAE
        and _doubt(kind, model) is not None
        and (_vae_kind(model.family) or kind) == kind
        and (kind == "vae-qwen") == (model.family == "qwen_image")
        and model.edition in ("", _EDITIONS.get(kind, ""))
    ]


def _vae_kind(family: str) -> str | None:
    return next((need.kind for need in NEEDS.get(family, ()) if need.part == "vae"), None)


def _shapes(path: Path) -> Shapes:
    """From the header. CheckpointMissing, CheckpointDamaged, CheckpointDangerous."""
    if path.suffix.lower() in PICKLES:
        scan = scan_pickle(path)
        scan.check()
        return {name: tensor.shape for name, tensor in scan.tensors.items()}
    return {name: entry.shape for name, entry in read_header(path)[0].items()}


def _doubt(kind: str, model: Checkpoint) -> int | None:
    """Autoencoders of one size are told apart by what they are called: 0 its own, 1 nothing said, None another family's."""
    if not kind.startswith("vae"):
        return 0
    called = model.path.stem.lower().replace("_", "").replace("-", "").replace(".", "")
    signs = {
        "vae-sdxl": ("xl",),
        "vae-sd3": ("sd3", "stablediffusion3"),
        "vae-flux": ("flux", "zimage"),
        "vae-qwen": ("qwen", "wan"),
        "vae-sd": ("ftmse", "ftema", "klf8", "sd1", "sd2", "sdv1", "sdv2", "840000", "560000"),
    }
    said = {other for other, words in signs.items() if any(word in called for word in words)} | (
        {"vae-flux"} if called in ("ae", "fluxae") else set()
    )
    return 0 if kind in said else 1 if not said else None


def _same_latents(about: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    return all(about.get(name) == config.get(name) for name in ("scaling_factor", "shift_factor", "latents_mean"))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < 1 << 20 else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


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
