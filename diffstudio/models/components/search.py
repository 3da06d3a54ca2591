"""Find the components that a checkpoint lacks in the user's model folders, ComfyUI's and others' included. No torch.

Candidates are recognised by their headers. Of several that match, the one named after the family wins, then the one
stored most precisely, then a file of its own, then the first path: the same folders always give the same components.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from diffstudio.errors import CheckpointUnknown, DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.requirements import (
    COMPONENT_KINDS,
    REQUIREMENTS,
    ComponentLocation,
    FileLocation,
    FolderLocation,
    Requirement,
    identifying_shape,
    matching_prefix,
)
from diffstudio.models.components.tokenizers import tokenizer_folders, tokenizer_in
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.types import Layout, Role, Shapes
from diffstudio.models.files.header import Headers
from diffstudio.models.library.library import Library
from diffstudio.models.state_dicts.prefixes import COMPONENT_PREFIXES, LONE_COMPONENT_PREFIXES

_EDITIONS = {"vae-sd": "4 channels", "vae-sdxl": "4 channels", "vae-sd3": "16 channels", "vae-flux": "16 channels"}
_BITS = {"F32": 32, "F64": 64, "BF16": 16, "F16": 16, "F8_E4M3": 8, "F8_E5M2": 8}


class ComponentSearch:
    """Searches the model folders of `library` for the components of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, library: Library | None, headers: Headers | None = None) -> None:
        self._checkpoint, self._library, self._headers = checkpoint, library, headers or Headers()
        self.notes: list[str] = []  # sentences about files that were expected to be used and are not

    @cached_property
    def _models(self) -> list[Checkpoint]:
        return self._library.scan() if self._library is not None else []

    def find(self, requirement: Requirement, config: Mapping[str, Any]) -> ComponentLocation | None:
        """The best match; None without one. `config` is the configuration it must have."""
        found = [(*rank, str(place.path), place) for rank, place in self._candidates(requirement, config)]
        return min(found, key=lambda one: one[:-1])[-1] if found else None

    def next_to_checkpoint(self, requirement: Requirement, config: Mapping[str, Any]) -> FileLocation | None:
        """A VAE named after the checkpoint in the same folder (`model.vae.safetensors`), as AUTOMATIC1111 uses it.

        One that cannot be used is named in `notes`.
        """
        if requirement.component != "vae":
            return None
        for suffix in (".vae.safetensors", ".vae.sft", ".vae.pt", ".vae.ckpt"):
            path = self._checkpoint.path.with_name(self._checkpoint.path.stem + suffix)
            if not path.is_file():
                continue
            why = f"{path.name} is not a {COMPONENT_KINDS[requirement.kind].title}."
            try:
                prefix = self._prefix_in(path, requirement, config)
            except DiffstudioError as error:
                prefix, why = None, str(error)
            if prefix is not None:
                return FileLocation(path, prefix)
            self.notes.append(f"The VAE next to {self._checkpoint.name} is not used: {why}")
        return None

    def _candidates(
        self, requirement: Requirement, config: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[int, int, int], ComponentLocation]]:
        """Matches, each with its rank to sort by: certainty of the family, precision, kind of container."""
        for model in self._models:
            if model.path == self._checkpoint.path:
                continue
            if model.layout is Layout.FOLDER:
                yield from self._in_folder(model, requirement, config)
            elif model.layout in (Layout.ORIGINAL, Layout.DIFFUSERS, Layout.PICKLE):
                alone = model.role in (Role.VAE, Role.TEXT_ENCODER)
                if not alone and not (model.role is Role.CHECKPOINT and model.family == self._checkpoint.family):
                    continue
                family_rank = _family_rank(requirement.kind, model) if alone else 0
                prefix = self._fits(model.path, requirement, config, alone) if family_rank is not None else None
                if family_rank is not None and prefix is not None:
                    yield (family_rank, -_BITS.get(model.dtype, 0), 0 if alone else 2), FileLocation(model.path, prefix)

    def _fits(self, path: Path, requirement: Requirement, config: Mapping[str, Any], alone: bool) -> str | None:
        """As `_prefix_in`, without errors: the library's list of problems names files that cannot be read."""
        try:
            return self._prefix_in(path, requirement, config, alone)
        except DiffstudioError:
            return None

    def _prefix_in(
        self, path: Path, requirement: Requirement, config: Mapping[str, Any], alone: bool = True
    ) -> str | None:
        """The prefix of the component's keys in a file, which holds it `alone` or is a whole checkpoint; None without it.

        CheckpointMissing, CheckpointDamaged, CheckpointDangerous.
        """
        prefixes = (
            LONE_COMPONENT_PREFIXES if alone else COMPONENT_PREFIXES[self._checkpoint.family][requirement.component]
        )
        return matching_prefix(requirement.kind, _shapes(path, self._headers), prefixes, config)

    def _in_folder(
        self, folder: Checkpoint, requirement: Requirement, config: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[int, int, int], ComponentLocation]]:
        for path in sorted(folder.path.glob("*/config.json")):
            about = _read(path)
            if not _describes(requirement.kind, about, config):
                continue
            if requirement.component != "vae" or _same_latents(about, config):
                yield (0, -_BITS.get(folder.dtype, 0), 1), FolderLocation(folder.path, path.parent.name)

    def tokenizer(self, kind: str, vocab_size: int, encoder: ComponentLocation | None) -> Path | None:
        """A folder with a tokenizer of that kind and at most `vocab_size` tokens: next to the text encoder, or in the
        model folders.
        """
        near = encoder.path.parent if encoder is not None else self._checkpoint.path.parent
        folders = self._library.folders if self._library is not None else ()
        diffusers_folders = [model.path for model in self._models if model.layout is Layout.FOLDER]
        for folder in tokenizer_folders(near, diffusers_folders, folders):
            known = tokenizer_in(folder)
            if known is not None and known.kind == kind and known.vocab_size <= vocab_size < 2 * known.vocab_size:
                return folder
        return None


def locate_vae(
    vae: Checkpoint, checkpoint: Checkpoint, config: Mapping[str, Any], headers: Headers
) -> ComponentLocation:
    """Where the VAE is that the user chose for a checkpoint: a file of its own, or a part of another checkpoint.

    CheckpointUnknown where its latents differ or the file holds no VAE.
    """
    requirement = next(requirement for requirement in REQUIREMENTS[checkpoint.family] if requirement.component == "vae")
    if vae.layout is Layout.FOLDER:
        if _describes(requirement.kind, _read(vae.path / requirement.component / "config.json"), config):
            return FolderLocation(vae.path, requirement.component)
    elif (
        prefix := matching_prefix(
            requirement.kind,
            _shapes(vae.path, headers),
            (*COMPONENT_PREFIXES[checkpoint.family][requirement.component], ""),
            config,
        )
    ) is not None:
        return FileLocation(vae.path, prefix)
    raise CheckpointUnknown(
        f"{vae.name} is not a VAE for {checkpoint.name}",
        f"it holds no VAE, or its latents are not those of {FAMILIES[checkpoint.family].title}",
        "Choose another VAE, or none",
    )


def compatible_vaes(checkpoint: Checkpoint, models: Iterable[Checkpoint]) -> list[Checkpoint]:
    """The VAEs among `models` that can replace the checkpoint's own, judged by their records alone."""
    kind = _vae_kind(checkpoint.family)
    return [
        model
        for model in models
        if kind is not None
        and model.role is Role.VAE
        and _family_rank(kind, model) is not None
        and (_vae_kind(model.family) or kind) == kind
        and (kind == "vae-qwen") == (model.family == "qwen_image")
        and model.edition in ("", _EDITIONS.get(kind, ""))
    ]


def _vae_kind(family: str) -> str | None:
    return next(
        (requirement.kind for requirement in REQUIREMENTS.get(family, ()) if requirement.component == "vae"), None
    )


def _shapes(path: Path, headers: Headers) -> Shapes:
    """The shapes of a file's tensors. CheckpointMissing, CheckpointDamaged, CheckpointDangerous."""
    header = headers.of(path)
    header.check()
    return header.shapes


def _family_rank(kind: str, model: Checkpoint) -> int | None:
    """VAEs of one size differ only by name: 0 for its own family's, 1 for no family's, None for another family's."""
    if not kind.startswith("vae"):
        return 0
    name = model.path.stem.lower().replace("_", "").replace("-", "").replace(".", "")
    substrings_of = {
        "vae-sdxl": ("xl",),
        "vae-sd3": ("sd3", "stablediffusion3"),
        "vae-flux": ("flux", "zimage"),
        "vae-qwen": ("qwen", "wan"),
        "vae-sd": ("ftmse", "ftema", "klf8", "sd1", "sd2", "sdv1", "sdv2", "840000", "560000"),
    }
    mentioned = {
        other for other, substrings in substrings_of.items() if any(substring in name for substring in substrings)
    } | ({"vae-flux"} if name in ("ae", "fluxae") else set())
    return 0 if kind in mentioned else 1 if not mentioned else None


def _describes(kind: str, about: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a diffusers folder's config is that of such a component, of the size in `config`."""
    try:
        name = about.get("_class_name") or next(iter(about.get("architectures") or ()), "")
        return name in COMPONENT_KINDS[kind].classes and identifying_shape(kind, about) == identifying_shape(
            kind, config
        )
    except (KeyError, TypeError, ValueError, AttributeError):  # values of other types than expected
        return False


def _same_latents(about: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    return all(about.get(name) == config.get(name) for name in ("scaling_factor", "shift_factor", "latents_mean"))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < 1 << 20 else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
