"""Models for jobs: taken from the cache or loaded, within the memory that the settings allow.

No torch is imported before the first model is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from diffstudio.errors import BadRequest, Interrupted
from diffstudio.models.library.library import Library
from diffstudio.models.memory.model_cache import ModelCache
from diffstudio.studio.generation.controlnets import load_controlnets
from diffstudio.studio.generation.resolve import Resolved
from diffstudio.studio.jobs.device_guess import seems_accelerated
from diffstudio.studio.jobs.memory_forecast import DeviceMemory
from diffstudio.studio.settings import Settings

if TYPE_CHECKING:
    import torch

    from diffstudio.models.checkpoint import Checkpoint
    from diffstudio.models.model import Model

OnProgress = Callable[[str, float | None], None]  # what is being loaded; the fraction done, None if unknown


class ModelLoader:
    """Holds the models in memory and loads what a job needs. Only `device_memory` may be called from any thread."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.cache = ModelCache()
        self._cached_bytes = 0  # read by other threads
        self._default_threads = 0  # torch's own choice; 0 until it is imported

    def model_for(
        self, resolved: Resolved, settings: Settings, cancelled: Callable[[], bool], on_progress: OnProgress
    ) -> Model | None:
        """The model of a resolved request with its VAE and ControlNets; None where only an upscaler runs.

        Raises Interrupted when cancelled, and what loading raises.
        """
        if resolved.checkpoint is None:
            return None
        model = self.load(resolved.checkpoint, settings, cancelled, on_progress, resolved.vae)

        def make_room_keeping(model: Model, needed_bytes: int) -> bool:
            """Drop the least recently used models until a ControlNet of this size fits; returns whether it does."""
            from diffstudio.models.memory import devices

            budget = devices.budget_bytes(model.device, settings.kept_gib)
            fits = self.cache.make_room_keeping(model, needed_bytes, budget)
            devices.free_unused()
            return fits

        load_controlnets(resolved.controlnets, model, on_progress, cancelled, make_room_keeping)
        self._cached_bytes = self.cache.weights_bytes()
        return model

    def weak_model_for(
        self,
        resolved: Resolved,
        model: Model,
        settings: Settings,
        cancelled: Callable[[], bool],
        on_progress: OnProgress,
    ) -> Model | None:
        """The weaker model for autoguidance, loaded in addition to `model`; None if it is off. Raises like `model_for`."""
        if resolved.weak is None:
            return None
        weak = self.load(resolved.weak, settings, cancelled, on_progress)
        if model.checkpoint is not None:
            self.cache.get(
                model.checkpoint, model.device, resolved.vae
            )  # most recently used again, so that others are dropped first
        return weak

    def load(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        cancelled: Callable[[], bool],
        on_progress: OnProgress,
        vae: Checkpoint | None = None,
    ) -> Model:
        """The model of this checkpoint: from the cache if its files are unchanged, else loaded after making room."""
        if "torch" not in sys.modules:
            on_progress("Starting the engine", None)
        import torch

        from diffstudio.models import loading
        from diffstudio.models.memory import devices, offload
        from diffstudio.models.memory.estimate import loaded_bytes

        if cancelled():
            raise Interrupted("Stopped while loading")
        self._default_threads = self._default_threads or torch.get_num_threads()
        torch.set_num_threads(settings.threads or self._default_threads)
        device = devices.choose_device(settings.device)
        budget = devices.budget_bytes(device, settings.kept_gib)
        cached = self.cache.get(checkpoint, device, vae)
        if cached is not None:
            self.cache.keep_within(budget)
            self._cached_bytes = self.cache.weights_bytes()
            return cached
        dtype = devices.choose_dtype(device, checkpoint.parameters)
        weights_bytes = loaded_bytes(checkpoint, str(dtype).removeprefix("torch."), devices.free_bytes(device))
        self.cache.make_room(weights_bytes, budget)
        devices.free_unused()
        title = f"Loading {checkpoint.title or checkpoint.name}"

        def load_on(device: torch.device) -> Model:
            return loading.load(
                checkpoint,
                device,
                dtype,
                lambda fraction: on_progress(title, fraction),
                cancelled,
                library=self._library,
                vae=vae,
            )

        model, offload_note = offload.load_within(load_on, device, weights_bytes)
        if offload_note:
            model.load_notes = (*model.load_notes, offload_note)
        self.cache.put(model)
        self._cached_bytes = self.cache.weights_bytes()
        return model

    def drop_others(self) -> int:
        """Drop all models but the newest from memory; returns how many those were."""
        dropped = self.cache.drop_others()
        self._cached_bytes = self.cache.weights_bytes()
        return dropped

    def clear(self) -> None:
        self.cache.clear()
        self._cached_bytes = 0

    def device_memory(self, settings: Settings) -> DeviceMemory | None:
        """The memory of the device that the next job runs on; None for an accelerator until torch is loaded.

        May be called from any thread.
        """
        if self._default_threads:
            from diffstudio.models.memory import devices

            try:
                device = devices.choose_device(settings.device)
            except BadRequest:
                return None  # the job will fail with this error
            free_bytes = devices.free_bytes(device) + self._cached_bytes
            return DeviceMemory(device.type, devices.device_bytes(device), free_bytes)
        if settings.device == "cpu" or settings.device == "auto" and not seems_accelerated():
            memory = psutil.virtual_memory()
            return DeviceMemory("cpu", int(memory.total), int(memory.available))
        return None
