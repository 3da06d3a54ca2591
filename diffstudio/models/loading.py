"""Load a checkpoint into memory: import its family's module, open its components, check and hash the weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import nn

from diffstudio.errors import BadRequest, CheckpointUnknown, Interrupted
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.compile import for_convolutions
from diffstudio.models.components.components import Components
from diffstudio.models.components.open_components import open_components
from diffstudio.models.components.tiny_decoder import find_preview_decoder
from diffstudio.models.detection.families_table import FAMILIES, is_trained_here
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.files.folder_check import check_folder
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.files.header import Headers
from diffstudio.models.files.weights_reader import TORCH_DTYPES
from diffstudio.models.library.library import Library
from diffstudio.models.memory.devices import choose_dtype, free_bytes
from diffstudio.models.memory.limits import UNPACKED_SHARE
from diffstudio.models.model import Model
from diffstudio.models.nonfinite import check_finite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_M = TypeVar("_M", bound=nn.Module)
_T = TypeVar("_T", bound="PreTrainedTokenizerBase")
_FamilyLoader: TypeAlias = Callable[[Checkpoint, Components, torch.device, torch.dtype], Model]
# Rough shares of the loading time.
_SHARES = {"unet": 6, "transformer": 6, "vae": 1, "text_encoder": 2, "text_encoder_2": 3, "text_encoder_3": 4}


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
    """Load the checkpoint's weights. `on_progress` is called with fractions from 0 to 1.

    Components that its file lacks are searched in the `library`; `vae` replaces its own VAE. The model's `load_notes`
    name the components from other files. The file is hashed in parallel, so that it is read from disk only once, and
    each header is read once. CheckpointMissing, CheckpointDamaged, CheckpointUnknown for a file that cannot generate
    images, Interrupted once `cancelled()` returns true.
    """
    progress, stop = on_progress or _ignore, cancelled or _never
    _check_can_generate(checkpoint)
    headers = Headers((*checkpoint.headers, *(vae.headers if vae is not None else ())))
    if checkpoint.layout is Layout.FOLDER:
        check_folder(checkpoint.path, headers)
    else:
        headers.of(checkpoint.path).check()  # damage is reported before anything is loaded
    checkpoint, vae = replace(checkpoint, headers=()), replace(vae, headers=()) if vae is not None else None
    progress(0.0)
    finished = threading.Event()
    with ThreadPoolExecutor(1, "hash") as executor:
        hashed = _start_hashing(checkpoint, executor, lambda: finished.is_set() or stop())
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
            check_finite(checkpoint, _modules_to_check(model, checkpoint), lambda: _stop_if(stop))
            model.sha256 = hashed.result() if hashed is not None else ""
        finally:
            finished.set()
    progress(1.0)
    return model


def _start_hashing(
    checkpoint: Checkpoint, executor: ThreadPoolExecutor, stop: Callable[[], bool]
) -> Future[str] | None:
    """The SHA-256 of the file, as other programs use it; None for a folder."""
    return None if checkpoint.layout is Layout.FOLDER else executor.submit(sha256_of, checkpoint.path, None, stop)


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
    if is_trained_here(checkpoint.family):
        if vae is not None:
            raise BadRequest(f"{checkpoint.name} cannot use a VAE", "it generates pixels, not latents", "Choose no VAE")
        if FAMILIES[checkpoint.family].one_call:
            from diffstudio.models.families import one_call

            return one_call.load(checkpoint, device, dtype)
        from diffstudio.models.families import pixel

        return pixel.load(checkpoint, device, dtype)
    load_family = _family_loader(checkpoint.family)
    components = open_components(
        checkpoint, library, vae=vae, dense_bytes=UNPACKED_SHARE * free_bytes(device), headers=headers
    )
    components.complete()  # before anything large is read
    model = load_family(checkpoint, _WithProgress(components, progress, stop), device, dtype)
    notes = (*model.load_notes, *components.notes)
    if model.is_latent:
        channels, _, _ = model.state_shape(*model.default_size)
        model.preview_decoder, note = find_preview_decoder(checkpoint.family, channels, library, device, model.dtype)
        notes = (*notes, note) if note else notes
    model.load_notes, model.vae_path = notes, vae.path if vae is not None else None
    return model


def _family_loader(family: str) -> _FamilyLoader:
    """The function that loads checkpoints of a latent family, whose module alone is imported."""
    match family:
        case "sd1" | "sd2":
            from diffstudio.models.families import stable_diffusion

            return stable_diffusion.load
        case "sdxl" | "sdxl_refiner":
            from diffstudio.models.families import stable_diffusion_xl

            return stable_diffusion_xl.load
        case "sd3":
            from diffstudio.models.families import sd3

            return sd3.load
        case "flux":
            from diffstudio.models.families import flux

            return flux.load
        case "z_image":
            from diffstudio.models.families import z_image

            return z_image.load
        case "qwen_image":
            from diffstudio.models.families import qwen_image

            return qwen_image.load
        case "ddpm":
            from diffstudio.models.families import ddpm

            return ddpm.load
        case "diffusers":
            from diffstudio.models.families.pipelines import diffusers_pipeline

            return diffusers_pipeline.load
    raise KeyError(family)


def _modules_to_check(model: Model, checkpoint: Checkpoint) -> dict[str, nn.Module]:
    """The modules to check for NaN and Inf values: all, if their weights were copied anyway.

    Memory-mapped weights would be read a second time, which takes half as long as loading. The first step of an image
    finds such values too (studio/generation/passes.py), except in the VAE, which is small and always checked.
    """
    is_mapped = model.device.type == "cpu" and TORCH_DTYPES.get(checkpoint.dtype) is model.dtype
    return {name: module for name, module in model.modules.items() if not is_mapped or name == "vae"}


class _WithProgress(Components):
    """Components that report the progress of loading, and stop loading when cancelled."""

    def __init__(self, components: Components, progress: Callable[[float], None], stop: Callable[[], bool]) -> None:
        self._components, self._progress, self._stop = components, progress, stop
        self.on_tensor = progress  # not called: `module` sets that of the components
        self._left = {name: share for name, share in _SHARES.items() if components.has(name)}
        self._whole = 1 + sum(self._left.values())

    @property
    def notes(self) -> tuple[str, ...]:
        return self._components.notes

    def complete(self) -> None:
        self._components.complete()

    def has(self, name: str) -> bool:
        return self._components.has(name)

    def config(self, name: str) -> Mapping[str, Any]:
        return self._components.config(name)

    def module(self, name: str, kind: type[_M], dtype: torch.dtype) -> _M:
        _stop_if(self._stop)
        share, others = self._left.pop(name, 0), 1 + sum(self._left.values())

        def on_tensor(done: float) -> None:
            _stop_if(self._stop)
            self._progress(1 - (others + share * (1 - done)) / self._whole)

        self._components.on_tensor = on_tensor  # FolderComponents loads a component as a whole and never calls it
        module = self._components.module(name, kind, dtype)
        self._progress(1 - others / self._whole)
        return module

    def tokenizer(self, name: str, kind: type[_T]) -> _T:
        return self._components.tokenizer(name, kind)


_HOW_TO_USE = {
    Role.LORA: ("a LoRA", "Choose a checkpoint that it fits, and write <lora:{name}:1> into the prompt"),
    Role.EMBEDDING: ("an embedding", "Choose a checkpoint, and write its name into the prompt: {name}"),
    Role.VAE: ("a VAE", "Choose a checkpoint that it fits, and this file as its VAE"),
    Role.CONTROLNET: ("a ControlNet", "Choose a checkpoint that it fits, and add it as a ControlNet"),
    Role.UPSCALER: ("an upscaler", "Choose a checkpoint to generate images, and this to upscale them"),
    Role.TEXT_ENCODER: ("a text encoder", "Choose the checkpoint that it belongs to"),
}


def _check_can_generate(checkpoint: Checkpoint) -> None:
    if checkpoint.can_generate:
        return
    if checkpoint.role in _HOW_TO_USE:
        what, remedy = _HOW_TO_USE[checkpoint.role]
        fits = f" for {FAMILIES[checkpoint.family].title}" if checkpoint.family in FAMILIES else ""
        raise CheckpointUnknown(
            f"{checkpoint.name} is {what}{fits} and cannot generate images by itself",
            checkpoint.reason.rstrip("."),
            remedy.format(name=checkpoint.name),
        )
    raise CheckpointUnknown(
        f"{checkpoint.name} is not of a supported type",
        checkpoint.reason.rstrip("."),
        "Choose another checkpoint, or set its type with `diffstudio models set`",
    )


def _stop_if(stop: Callable[[], bool]) -> None:
    if stop():
        raise Interrupted("Stopped while loading")


def _never() -> bool:
    return False


def _ignore(fraction: float) -> None:
    """The default for `on_progress`."""
