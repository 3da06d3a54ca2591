"""The step times of a request in the Generate panel: those of a loaded image, or those fitted to the checkpoint."""

from __future__ import annotations

from dataclasses import replace

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.fitted_spacing import fitted_times
from diffstudio.studio.requests import GenerateRequest, SpacingName


class CarriedTimes:
    """Keeps the times of a loaded request until a setting they depend on changes."""

    def __init__(self) -> None:
        self._loaded: GenerateRequest | None = None

    @property
    def are_loaded(self) -> bool:
        return self._loaded is not None

    def load(self, request: GenerateRequest) -> None:
        """Keep the times of a request; forget those of an earlier one."""
        self._loaded = request if request.times else None

    def forget(self) -> None:
        """For another checkpoint."""
        self._loaded = None

    def without_fitted(self, request: GenerateRequest) -> GenerateRequest:
        """The request without times of the checkpoint, which are read again when it is shown: they may be fitted anew."""
        loaded = self._loaded
        return request if loaded is not None and request.times == loaded.times else replace(request, times=())

    def given_to(self, request: GenerateRequest, checkpoint: Checkpoint | None) -> GenerateRequest:
        """The request with times, where its spacing needs some: the loaded ones, if they are for its sampler and steps."""
        loaded = self._loaded
        if request.spacing is not SpacingName.FITTED:
            return request
        if loaded is not None and (loaded.sampler, loaded.steps) == (request.sampler, request.steps):
            return replace(request, times=loaded.times)
        return replace(request, times=fitted_times(request, checkpoint))
