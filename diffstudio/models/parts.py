"""Parts: the components of a checkpoint (network, text encoders, autoencoder, tokenizers), however they are stored.

A family asks for what it needs by the names that diffusers uses: `unet`, `transformer`, `vae`, `text_encoder`,
`text_encoder_2`, `tokenizer`. Whether they lie in a diffusers folder or in one file is nobody else's business. Nothing here
ever reaches for the network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from diffstudio.errors import CheckpointDamaged, CheckpointMissing, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint, Layout

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before diffusers or transformers are imported, which read it then

_M = TypeVar("_M", bound=nn.Module)


class Parts(Protocol):
    """Where a family gets its components from."""

    def has(self, name: str) -> bool: ...

    def config(self, name: str) -> Mapping[str, Any]:
        """The component's configuration as diffusers writes it; `scheduler` too. CheckpointMissing when it has none."""

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        """The component with its weights, on the CPU, in eval mode, without gradients.

        CheckpointMissing names what to put where; CheckpointDamaged when the weights are not those of the configuration.
        """

    def tokenizer(self, name: str, kind: type[Any]) -> Any: ...


class FolderParts:
    """A diffusers folder: `model_index.json` and one sub-folder for each component."""

    def __init__(self, folder: Path, variant: str | None = None) -> None:
        self.folder = folder
        self._variant = variant

    def has(self, name: str) -> bool:
        return (self.folder / name).is_dir()

    def config(self, name: str) -> Mapping[str, Any]:
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        path = self.folder / name / file
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise _missing(self.folder, name) from None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointDamaged(f"{path} cannot be read", str(error)[:200], "Get it again from where it came") from error
        if not isinstance(config, dict):
            raise CheckpointDamaged(f"{path} is not a table", remedy="Get it again from where it came")
        return config

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        if not self.has(name):
            raise _missing(self.folder, name)
        load: Any = kind
        try:
            module: _M = load.from_pretrained(self.folder / name, torch_dtype=dtype, variant=self._variant, use_safetensors=True,
                                              local_files_only=True, low_cpu_mem_usage=False)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise CheckpointDamaged(f"The {name} of {self.folder.name} cannot be loaded", str(error).splitlines()[0][:200],
                                    "Get it again from where it came") from error
        return module.eval().requires_grad_(False)

    def tokenizer(self, name: str, kind: type[Any]) -> Any:
        if not self.has(name):
            raise _missing(self.folder, name)
        try:
            return kind.from_pretrained(self.folder / name, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointDamaged(f"The {name} of {self.folder.name} cannot be loaded", str(error).splitlines()[0][:200],
                                    "Get it again from where it came") from error


def parts_of(checkpoint: Checkpoint) -> Parts:
    """Where its components are. CheckpointUnknown for a file that cannot be taken apart."""
    if checkpoint.layout is Layout.FOLDER:
        return FolderParts(checkpoint.path)
    if checkpoint.layout in (Layout.ORIGINAL, Layout.DIFFUSERS):
        from diffstudio.models.single_file import SingleFileParts

        return SingleFileParts(checkpoint)
    raise CheckpointUnknown(f"{checkpoint.name} is stored in a way that cannot be opened yet", remedy="Choose another checkpoint")


def _missing(folder: Path, name: str) -> CheckpointMissing:
    return CheckpointMissing(f"{folder.name} has no {name}", f"{folder / name} is not there",
                             f"Put the {name} of the same model there")
