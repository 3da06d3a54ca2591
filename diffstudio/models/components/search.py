"""Components that a checkpoint lacks, found in the other model folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from diffstudio.errors import CheckpointUnknown, DiffstudioError
from diffstudio.models.checkpoint import Checkpoint, Layout, Role
from diffstudio.models.components.requirements import (
    NEEDS,
    PIECES,
    InFile,
    InFolder,
    Need,
    Place,
    Shapes,
    embedding_size,
    found_in,
)
from diffstudio.models.components.tokenizers import tokenizer_folders, tokenizer_in
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.files.formats import PICKLES
from diffstudio.models.files.pickle_scan import scan_pickle
from diffstudio.models.files.safetensors_header import read_header
from diffstudio.models.library.library import Library

_EDITIONS = {"vae-sd": "4 channels", "vae-sdxl": "4 channels", "vae-sd3": "16 channels", "vae-flux": "16 channels"}


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
                fits = kind in PIECES[need.kind].classes and embedding_size(need.kind, about) == embedding_size(
                    need.kind, config
                )
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
        if about.get("_class_name") in PIECES[need.kind].classes and embedding_size(need.kind, about) == embedding_size(
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
