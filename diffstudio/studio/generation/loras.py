"""The LoRAs of a request: found by the tags in its prompts (`<lora:name:0.8>`) and attached to its model.

The tags stay in the prompt, so requests, history, metadata and other programs need nothing else. Weights are read as in
AUTOMATIC1111: `<lora:name:0.8>` applies to network and text encoders alike, `<lora:name:0.8:0.5>` is 0.8 for the text
encoders and 0.5 for the network, as is `<lora:name:te=0.8:unet=0.5>`. No torch is imported until something is attached.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffstudio.errors import CheckpointMissing
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_model, stem_of
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.lora_tags import LoraUse, lora_tags

if TYPE_CHECKING:
    from diffstudio.models.adapters.adapters import AdapterUse
    from diffstudio.models.model import Model

_HASH_DIGITS = 12  # of AutoV3 (the hash of the tensors without the header), as in AUTOMATIC1111's `Lora hashes`
_CHUNK_BYTES = 8 << 20


def find_lora(library: Library | None, name: str) -> Checkpoint:
    """The LoRA with this name: its file name, in any case, or the name in its metadata.

    Of a path only the file name is used, so that no prompt can make the program open an arbitrary file.
    CheckpointMissing suggests similar names.
    """
    return find_model(
        library,
        stem_of(name),
        (Role.LORA,),
        "LoRA",
        install="Put its .safetensors file into a models folder, or remove its tag from the prompt",
    )


def misfit(lora: Checkpoint, checkpoint: Checkpoint) -> str:
    """Why a LoRA has no effect on a checkpoint, as a sentence without full stop; empty if it may have one."""
    theirs, ours = family_of(lora.family), family_of(checkpoint.family)
    if ours is not None and not ours.latent:
        return "This checkpoint does not support LoRAs"
    if ours is None or theirs is ours:
        return ""
    made_for = theirs.title if theirs is not None else lora.edition if is_for_unsupported(lora, checkpoint) else ""
    return f"Made for {made_for}, and this checkpoint is {ours.title}" if made_for else ""


def is_for_unsupported(lora: Checkpoint, checkpoint: Checkpoint) -> bool:
    """Whether a LoRA was made for a model that is not supported, whose layers may have the same names and shapes.

    The pipelines that diffusers runs may be of any model.
    """
    return family_of(lora.family) is None and bool(lora.edition) and checkpoint.family != "diffusers"


def autov3(lora: Checkpoint) -> str:
    """The AutoV3 hash, by which other programs find a LoRA: of its tensors, so that edited metadata do not change it.

    Taken from the header (`sshs_model_hash`) where trainers wrote it, and of the whole file where that is not
    safetensors, as AUTOMATIC1111 does. Empty for a missing file.
    """
    stored = lora.metadata.get("sshs_model_hash", "")
    if re.fullmatch(r"[0-9a-fA-F]{64}", stored):
        return stored[:_HASH_DIGITS].lower()
    digest = hashlib.sha256()
    try:
        if lora.layout in (Layout.PICKLE, Layout.GGUF):
            return sha256_of(lora.path)[:_HASH_DIGITS]
        with lora.path.open("rb") as file:
            file.seek(8 + struct.unpack("<Q", file.read(8))[0])
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except (CheckpointMissing, OSError, struct.error, OverflowError):
        return ""
    return digest.hexdigest()[:_HASH_DIGITS]


class RequestLoras:
    """The LoRAs of one request: read from its prompts and attached to its model. `files` has them by name.

    Not thread-safe. The prompt of a class-conditional checkpoint is the name of a class and is not searched for tags.
    """

    def __init__(self, files: Mapping[str, Checkpoint], checkpoint: Checkpoint | None = None) -> None:
        self._files = files
        self._has_tags = checkpoint is None or checkpoint.conditioning is not Conditioning.CLASS
        self._hashes: dict[Path, str] = {}
        self._noted: set[str] = set()
        self._model_takes_loras = True

    def read(self, prompt: str) -> tuple[str, tuple[LoraUse, ...]]:
        """The prompt without its tags, and the tags: as `lora_tags`."""
        return lora_tags(prompt) if self._has_tags else (prompt, ())

    def batch_size(self, prompts: Sequence[str]) -> int:
        """The number of prompts, from the first on, that use the same LoRAs and can form one batch."""
        uses = self.read(prompts[0])[1]
        return next((number for number, prompt in enumerate(prompts) if self.read(prompt)[1] != uses), len(prompts))

    def attach(
        self, model: Model, uses: Sequence[LoraUse], cancelled: Callable[[], bool] | None = None
    ) -> tuple[str, ...]:
        """Attach exactly these to the model; returns a sentence for each that does not work as expected.

        Raises CheckpointMissing, CheckpointDamaged and Interrupted; then none is attached.
        """
        self._model_takes_loras = model.adapters is not None
        if model.adapters is None:
            return (
                self._new(["This checkpoint does not support LoRAs, so those in the prompt have no effect."])
                if uses
                else ()
            )
        left_out = {
            use.name: self._files[use.name].edition
            for use in uses
            if model.checkpoint is not None and is_for_unsupported(self._files[use.name], model.checkpoint)
        }
        used = [self._adapter_use(use) for use in uses if use.name not in left_out]
        attached = model.adapters.use(used, cancelled)
        notes = [f"{name} was left out: it is for {title}, which is not supported." for name, title in left_out.items()]
        notes += [
            f"The weight {text[:40]} of the LoRA {use.name} is not a number from -100 to 100; "
            f"it is applied at {use.network:g}."
            for use in uses
            for text in use.unusable
        ]
        return self._new([*notes, *(one.note for one in attached)])

    def metadata(self, uses: Sequence[LoraUse]) -> dict[str, Any]:
        """`loras` for the image's metadata, each with name, hash and weights; empty without any."""
        loras = [
            {"name": use.name, "hash": self._hash(self._files[use.name]), "network": use.network, "text": use.text}
            for use in uses
            if use.name in self._files and self._model_takes_loras
        ]
        return {"loras": loras} if loras else {}

    def _new(self, notes: Sequence[str]) -> tuple[str, ...]:
        """Those that were not returned before."""
        new = tuple(dict.fromkeys(note for note in notes if note and note not in self._noted))
        self._noted.update(new)
        return new

    def _adapter_use(self, use: LoraUse) -> AdapterUse:
        from diffstudio.models.adapters.adapters import AdapterUse

        lora = self._files[use.name]
        return AdapterUse(lora.path, use.name, use.network, use.text, lora.family, lora.header)

    def _hash(self, lora: Checkpoint) -> str:
        if lora.path not in self._hashes:
            self._hashes[lora.path] = autov3(lora)
        return self._hashes[lora.path]
