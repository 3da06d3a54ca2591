"""Checkpoint -> Model: the one place that knows which file of `families/` reads which checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from typing import Any, cast

import torch
from torch import nn

from diffstudio.errors import BadRequest, CheckpointUnknown, Interrupted
from diffstudio.models.checkpoint import Checkpoint, Layout, Role
from diffstudio.models.compile import for_convolutions
from diffstudio.models.components.open_components import open_components
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.files.folder_check import check_folder
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.files.header import Headers
from diffstudio.models.files.weights_reader import TORCH_DTYPES
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_dtype, free_bytes
from diffstudio.models.model import Model
from diffstudio.models.nonfinite import check_finite, named_modules

_FILES = {
    "sd1": "stable_diffusion",
    "sd2": "stable_diffusion",
    "sdxl": "stable_diffusion_xl",
    "sdxl_refiner": "stable_diffusion_xl",
    "sd3": "sd3",
    "flux": "flux",
    "z_image": "z_image",
    "qwen_image": "qwen_image",
    "diffusers": "diffusers_pipeline",
}
_DENSE_SHARE = (
    0.5  # of the free memory, up to which a network's packed weights are unpacked at once: faster than in each step
)
_SHARES = {
    "unet": 6,
    "transformer": 6,
    "vae": 1,
    "text_encoder": 2,
    "text_encoder_2": 3,
    "text_encoder_3": 4,
}  # of the time, about


def load(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    library: Library | None = None,
    vae: Checkpoint | None = None,
) -> Model:
    """The checkpoint's weights in memory; `on_progress` hears fractions from 0 to 1.

    What its file lacks is looked for in the `library`; `vae` takes the place of its own autoencoder. The model's `loaded_with` says,
    in sentences, what came from elsewhere. The file's hash is worked out beside the loading, which also has it read from the
    disk once only. Raises CheckpointMissing, CheckpointDamaged, CheckpointUnknown for what makes no pictures, and Interrupted
    soon after `cancelled()` becomes true.
    """
    progress, stop = on_progress or _nobody, cancelled or _never
    _check_draws(checkpoint)
    headers = Headers((*checkpoint.headers, *(vae.headers if vae is not None else ())))
    if checkpoint.layout is Layout.FOLDER:
        check_folder(checkpoint.path, headers)
    else:
        headers.of(checkpoint.path).check()  # that the file is complete, before anything relies on it
    checkpoint, vae = replace(checkpoint, headers=()), replace(vae, headers=()) if vae is not None else None
    progress(0.0)
    over = threading.Event()
    with ThreadPoolExecutor(1, "hash") as beside:
        hashed = _hashed(checkpoint, beside, lambda: over.is_set() or stop())
        try:
            _stop_if(stop)
            model = _read(
                checkpoint,
                device,
                dtype or choose_dtype(device, checkpoint.parameters),
                progress,
                stop,
                library,
                vae,
                headers,
            )
            for_convolutions(model)
            check_finite(checkpoint, _looked_at(model), lambda: _stop_if(stop))
            model.sha256 = hashed.result() if hashed is not None else ""
        finally:
            over.set()
    progress(1.0)
    return model


def _hashed(checkpoint: Checkpoint, beside: ThreadPoolExecutor, stop: Callable[[], bool]) -> Future[str] | None:
    """Of the whole file, which is what other programs call a model's hash; a folder has none."""
    return None if checkpoint.layout is Layout.FOLDER else beside.submit(sha256_of, checkpoint.path, None, stop)


def _read(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    progress: Callable[[float], None],
    stop: Callable[[], bool],
    library: Library | None,
    vae: Checkpoint | None,
    headers: Headers,
) -> Model:
    if checkpoint.family == "pixel":
        if vae is not None:
            raise BadRequest(f"{checkpoint.name} has no use for an autoencoder", "it draws in pixels", "Choose none")
        from diffstudio.models.families import pixel

        return pixel.load(checkpoint, device, dtype)
    family: Any = import_module(f"diffstudio.models.families.{_FILES[checkpoint.family]}")
    parts: Any = open_components(
        checkpoint, library, vae=vae, dense_bytes=_DENSE_SHARE * free_bytes(device), headers=headers
    )
    if hasattr(parts, "complete"):
        parts.complete()  # before anything large is read
    model: Any = family.load(checkpoint, _Watched(parts, progress, stop), device, dtype)
    model.loaded_with, model.loaded_vae = tuple(getattr(parts, "notes", ())), vae.path if vae is not None else None
    return cast(Model, model)


def _looked_at(model: Any) -> dict[str, nn.Module]:
    """The parts in which to look for what is no number: all where the weights pass through here anyway.

    Weights that stay in the file as they are stored would be read once more, which takes half as long as to load them. The first
    step of a picture tells as much (see studio/generation/passes.py), except of the autoencoder, which is small.
    """
    parts = named_modules(model)
    stays = model.device.type == "cpu" and TORCH_DTYPES.get(model.checkpoint.dtype) is model.dtype
    return {name: part for name, part in parts.items() if not stays or name == "vae"}


class _Watched:
    """Parts that say how far the loading is while each is read, and that stop within one."""

    def __init__(self, parts: Any, progress: Callable[[float], None], stop: Callable[[], bool]) -> None:
        self._parts, self._progress, self._stop = parts, progress, stop
        self._left = {name: share for name, share in _SHARES.items() if parts.has(name)}
        self._whole = 1 + sum(self._left.values())

    def has(self, name: str) -> bool:
        found: bool = self._parts.has(name)
        return found

    def config(self, name: str) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self._parts.config(name)
        return config

    def module(self, name: str, kind: type[Any], dtype: torch.dtype) -> Any:
        _stop_if(self._stop)
        share, others = self._left.pop(name, 0), 1 + sum(self._left.values())

        def on_tensor(done: float) -> None:
            _stop_if(self._stop)
            self._progress(1 - (others + share * (1 - done)) / self._whole)

        self._parts.on_tensor = on_tensor  # FolderParts reads a part as a whole and never calls it
        module: nn.Module = self._parts.module(name, kind, dtype)
        self._progress(1 - others / self._whole)
        return module

    def tokenizer(self, name: str, kind: type[Any]) -> Any:
        return self._parts.tokenizer(name, kind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts, name)  # what only one kind of Parts can do


_GOES = {
    Role.LORA: ("a LoRA", "Write <lora:{name}:1> into the prompt of a checkpoint that it fits, or choose it there"),
    Role.EMBEDDING: ("a textual inversion", "Write its name into a prompt: {name}"),
    Role.VAE: ("an autoencoder", "Choose a checkpoint that it belongs to"),
    Role.CONTROLNET: ("a ControlNet", "Choose a checkpoint that it belongs to, and it beside that one"),
    Role.UPSCALER: ("an upscaler", "It enlarges finished pictures; choose a checkpoint to make them"),
    Role.TEXT_ENCODER: ("a text encoder", "It reads prompts for a checkpoint; choose that one"),
}


def _check_draws(checkpoint: Checkpoint) -> None:
    if checkpoint.draws:
        return
    if checkpoint.role in _GOES:
        what, remedy = _GOES[checkpoint.role]
        fits = f" for {FAMILIES[checkpoint.family].title}" if checkpoint.family in FAMILIES else ""
        raise CheckpointUnknown(
            f"{checkpoint.name} is {what}{fits} and makes no pictures by itself",
            checkpoint.reason.rstrip("."),
            remedy.format(name=checkpoint.name),
        )
    raise CheckpointUnknown(
        f"{checkpoint.name} is of a kind that cannot be used yet",
        checkpoint.reason.rstrip("."),
        "Choose another checkpoint, or train one; if you know what it is, `diffstudio models set` can say so",
    )


def _stop_if(stop: Callable[[], bool]) -> None:
    if stop():
        raise Interrupted("Stopped while loading")


def _never() -> bool:
    return False


def _nobody(fraction: float) -> None:
    """Hears the progress when nobody asked for it."""
