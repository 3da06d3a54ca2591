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
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import nn

from diffstudio.errors import CheckpointDamaged, CheckpointMissing, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint, Layout
from diffstudio.models.files.formats import PICKLES, SAFETENSORS, variant
from diffstudio.models.library.library import Library

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before diffusers or transformers are imported, which read it then

_FILES = (Layout.ORIGINAL, Layout.DIFFUSERS, Layout.GGUF, Layout.PICKLE)
_M = TypeVar("_M", bound=nn.Module)


class Components(Protocol):
    """Where a family gets its components from."""

    def has(self, name: str) -> bool: ...

    def config(self, name: str) -> Mapping[str, Any]:
        """The component's configuration as diffusers writes it; `scheduler` too. CheckpointMissing when it has none."""

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        """The component with its weights, on the CPU, in eval mode, without gradients.

        CheckpointMissing names what to put where; CheckpointDamaged when the weights are not those of the configuration.
        """

    def tokenizer(self, name: str, kind: type[Any]) -> Any: ...


class FolderComponents:
    """A diffusers folder: `model_index.json` and one sub-folder for each component."""

    notes: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
            raise CheckpointDamaged(
                f"{path} cannot be read", str(error)[:200], "Get it again from where it came"
            ) from error
        if not isinstance(config, dict):
            raise CheckpointDamaged(f"{path} is not a table", remedy="Get it again from where it came")
        return config

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        """Of several variants the plain one, or else the first that is no training copy; pickles where there is nothing else."""
        if not self.has(name):
            raise _missing(self.folder, name)
        folder, load = self.folder / name, cast(Any, kind)
        kept = [
            path for path in sorted(folder.iterdir()) if path.name.endswith((*SAFETENSORS, ".safetensors.index.json"))
        ]
        if not kept and (pickles := sorted(path for path in folder.iterdir() if path.suffix in PICKLES)):
            return _from_pickles(pickles, kind, dict(self.config(name)), dtype)
        variants = sorted({_variant(path) for path in kept}, key=lambda found: (bool(found), "non_ema" in found, found))
        try:
            module: _M = load.from_pretrained(
                folder,
                torch_dtype=dtype,
                variant=variants[0] or None if variants else None,
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
            )
        except what_nonsense_raises() as error:
            raise CheckpointDamaged(
                f"The {name} of {self.folder.name} cannot be loaded",
                (str(error).splitlines() or [""])[0][:200],
                "Get it again from where it came",
            ) from error
        return module.eval().requires_grad_(False)

    def tokenizer(self, name: str, kind: type[Any]) -> Any:
        if not self.has(name):
            raise _missing(self.folder, name)
        try:
            return kind.from_pretrained(self.folder / name, local_files_only=True)
        except what_nonsense_raises() as error:
            raise CheckpointDamaged(
                f"The {name} of {self.folder.name} cannot be loaded",
                (str(error).splitlines() or [""])[0][:200],
                "Get it again from where it came",
            ) from error


def components_of(
    checkpoint: Checkpoint,
    library: Library | None = None,
    *,
    vae: Checkpoint | None = None,
    dense_bytes: float = float("inf"),
) -> Components:
    """Where its components are; what a single file lacks may lie in the library. `vae` is to be used in place of its own.

    CheckpointUnknown for a file that cannot be taken apart, and for an autoencoder that does not fit; else as SingleFileParts.
    """
    from diffstudio.models.components.single_file import FolderWithVae, SingleFileComponents

    if checkpoint.layout is Layout.FOLDER:
        return FolderComponents(checkpoint.path) if vae is None else FolderWithVae(checkpoint, vae)
    if checkpoint.layout in _FILES:
        return SingleFileComponents(checkpoint, library=library, vae=vae, dense_bytes=dense_bytes)
    raise CheckpointUnknown(
        f"{checkpoint.name} is stored in a way that cannot be opened yet", remedy="Choose another checkpoint"
    )


def empty(kind: type[_M], config: dict[str, Any]) -> _M:
    """A module of diffusers' or transformers' class `kind` whose parameters take no room yet."""
    from accelerate import init_empty_weights
    from transformers import PretrainedConfig, PreTrainedModel

    build: Any = kind
    with init_empty_weights(include_buffers=False):
        if issubclass(kind, PreTrainedModel):
            described = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
            own: PretrainedConfig = build.config_class(**described)
            module: _M = build(own)
        else:
            module = build.from_config(config)
    return module


def what_nonsense_raises() -> tuple[type[Exception], ...]:
    """What diffusers and transformers raise over a configuration that makes no sense: nothing of their own."""
    from huggingface_hub.errors import StrictDataclassError

    return (
        OSError,
        ValueError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        StrictDataclassError,
    )


def _variant(path: Path) -> str:
    """As the libraries take it: `fp16` of `model.fp16.safetensors` and of `model.safetensors.index.fp16.json`."""
    return (
        path.name.removesuffix(".json").partition(".safetensors.index")[2].lstrip(".") or variant(path)
        if ".safetensors.index" in path.name
        else variant(path)
    )


def _from_pickles(files: list[Path], kind: type[_M], config: dict[str, Any], dtype: torch.dtype) -> _M:
    """As published before safetensors: `pytorch_model.bin`, in parts or whole. Nothing in them is run: see weights_file.py."""
    from diffstudio.models.files.weights_reader import load_weights

    first = sorted({variant(path) for path in files}, key=lambda found: (bool(found), found))[0]
    state = {
        name: value.to(dtype) if value.is_floating_point() else value
        for path in files
        if variant(path) == first
        for name, value in load_weights(path).items()
    }
    try:
        module = empty(kind, config)
    except what_nonsense_raises() as error:
        why = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointDamaged(
            f"The configuration beside {files[0].name} makes no sense", why, "Get it again from where it came"
        ) from error
    expected = module.state_dict()
    named = {
        key: next(
            (state[name] for name in (key, f"text_model.{key}", key.removeprefix("text_model.")) if name in state), None
        )
        for key in expected
    }
    wrong = next((key for key, value in named.items() if value is None or value.shape != expected[key].shape), None)
    if wrong is not None:
        raise CheckpointDamaged(
            f"{files[0].name} does not hold the weights of its configuration",
            f"{wrong} is missing or of another size",
            "Get it again from where it came",
        )
    module.load_state_dict(cast(Any, named), assign=True)
    return module.eval().requires_grad_(False)


def _missing(folder: Path, name: str) -> CheckpointMissing:
    return CheckpointMissing(
        f"{folder.name} has no {name}", f"{folder / name} is not there", f"Put the {name} of the same model there"
    )
