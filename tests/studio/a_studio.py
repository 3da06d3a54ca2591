"""A worker with all that it needs, and a gate that holds up its network call by call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio import paths
from diffstudio.models.library.library import Library
from diffstudio.models.memory.lease import Lease
from diffstudio.studio.events import ENDINGS, Event, Finished, ImageSaved
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.jobs.step_store import StepStore
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.settings import Settings
from diffstudio.studio.worker import Worker

REQUEST = GenerateRequest(prompt="red apple", checkpoint="tiny", steps=4)


class Studio:
    """A worker with all that it needs, whose events can be waited for."""

    def __init__(self, **settings: Any) -> None:
        self.events: list[Event] = []
        self._heard = threading.Condition()
        self.gallery = Gallery(paths.images(), paths.data() / "gallery.sqlite")
        self.lease = Lease()
        self.step_store = StepStore(paths.steps(), 1 << 30)
        self.worker = Worker(
            Queue(paths.data() / "queue.sqlite"),
            Library(),
            self.gallery,
            Settings(**settings),
            self.hear,
            lease=self.lease,
            step_store=self.step_store,
        )

    def hear(self, event: Event) -> None:
        with self._heard:
            self.events.append(event)
            self._heard.notify_all()

    def wait_for(self, is_it: Callable[[Event], bool], seconds: float = 30.0) -> Event:
        def found() -> Event | None:
            return next((event for event in self.events if is_it(event)), None)

        with self._heard:
            assert self._heard.wait_for(lambda: found() is not None, seconds), self.events
            event = found()
        assert event is not None
        return event

    def ending(self, job: int) -> Event:
        return self.wait_for(lambda event: isinstance(event, ENDINGS) and event.job == job)

    def of(self, job: int) -> list[Event]:
        return [event for event in self.events if event.job == job]

    def kinds(self, job: int) -> list[str]:
        return [type(event).__name__ for event in self.of(job)]

    def done(self, request: GenerateRequest) -> int:
        job = self.worker.submit(request)
        ending = self.ending(job)
        assert isinstance(ending, Finished), ending
        return job

    def pixels(self, job: int) -> list[np.ndarray]:
        return [np.array(Image.open(event.path)) for event in self.of(job) if isinstance(event, ImageSaved)]

    def close(self) -> None:
        self.worker.close()
        self.step_store.close()
        self.gallery.close()


class Gate:
    """Holds up the network before its calls, one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, open_for: int = 0) -> None:
        from diffstudio.models.families.pixel import PixelModel

        self.calls = 0
        self.waiting = threading.Event()
        self._open = threading.Semaphore(open_for)
        real = PixelModel._call

        def call(model: PixelModel, *arguments: Any) -> Any:
            self.calls += 1
            if not self._open.acquire(blocking=False):
                self.waiting.set()
                assert self._open.acquire(timeout=30)
            return real(model, *arguments)

        monkeypatch.setattr(PixelModel, "_call", call)

    def let(self, calls: int) -> None:
        self.waiting.clear()
        self._open.release(calls)

    def open(self) -> None:
        self.let(100_000)
