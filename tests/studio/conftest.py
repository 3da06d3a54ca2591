"""Studios for tests of the worker: opened on a tiny checkpoint, closed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diffstudio import paths
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.a_studio import Studio


@pytest.fixture
def tiny() -> Path:
    return write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")


@pytest.fixture
def opened(tiny: Path) -> Iterator[Callable[[], Studio]]:
    """Opens studios, one after the other, and closes them whatever happens."""
    studios: list[Studio] = []

    def open_one() -> Studio:
        studios.append(Studio())
        return studios[-1]

    yield open_one
    for studio in studios:
        studio.close()


@pytest.fixture
def studio(opened: Callable[[], Studio]) -> Studio:
    studio = opened()
    studio.worker.start()
    return studio
