"""The real window, measured from inside: `python -m tests.benchmarks.window WHAT [CHECKPOINT [PICTURES RECIPE]]`.

launch      from the start of the process to a window that is painted and takes a key
picture     from there on to the first image on screen, asked for by keys as soon as they are taken
generating  the time between two frames that the window could draw, while images are generated
training    the same while a run trains and its room is shown
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from PySide6.QtCore import QObject, Qt, QTimer
from PySide6.QtTest import QTest

from diffstudio.studio.events import ENDINGS, Failed, ImageSaved, Stepped
from diffstudio.studio.requests import GenerateRequest, TrainRequest
from diffstudio.ui import app

FRAME_MS = 16
WATCH_SECONDS = 12.0
GIVE_UP_SECONDS = 300.0


class Probe(QObject):
    """Waits for the window, does what was asked, prints what it found as JSON, and closes the window."""

    def __init__(self, desktop: app.Desktop, what: str, arguments: list[str]) -> None:
        super().__init__(desktop)
        self._desktop, self._what, self._arguments = desktop, what, arguments
        self._frames: list[float] = []
        self._last = 0.0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._frame)
        self._run: Any = None
        desktop.window.first_painted.connect(self._shown, Qt.ConnectionType.QueuedConnection)
        desktop.bridge.arrived.connect(self._heard)
        QTimer.singleShot(int(GIVE_UP_SECONDS * 1000), self, self._give_up)

    def _shown(self) -> None:
        prompt = self._desktop.generate_room.panel.prompt
        prompt.set_text("")
        QTest.keyClicks(prompt, "red apple")
        assert prompt.text() == "red apple", "the window does not take keys"
        if self._what == "launch":
            self._done({"seconds": since_start()})
        elif self._what == "picture":
            self._desktop.jobs.submit(self._request())  # waits for the worker inside, as Ctrl+Enter does
        elif self._what == "generating":
            self._desktop.jobs.submit(self._request(steps=1000, count=64))
        else:
            self._when_ready(self._train)

    def _request(self, **values: Any) -> GenerateRequest:
        return GenerateRequest("red apple", checkpoint=self._arguments[0], **values)

    def _when_ready(self, what: Any) -> None:
        if self._desktop.runs is None:
            QTimer.singleShot(50, self, lambda: self._when_ready(what))
        else:
            what()

    def _train(self) -> None:
        self._desktop.window.show_room(app.TRAIN)
        assert self._desktop.runs is not None
        self._run = self._desktop.runs.start(
            TrainRequest(Path(self._arguments[1]), recipe=self._arguments[2], steps=100_000)
        )
        self._when_training()

    def _when_training(self) -> None:
        """Begin to watch when the run steps: before that it imports and prepares."""
        if any(event.event == "step" for event in self._run.events()[0]):
            self._watch()
        else:
            QTimer.singleShot(200, self, self._when_training)

    def _heard(self, event: object) -> None:
        if isinstance(event, Failed):
            raise SystemExit(str(event.error))
        if isinstance(event, ImageSaved) and self._what == "picture":
            self._desktop.window.repaint()
            self._done({"seconds": since_start()})
        if isinstance(event, Stepped) and self._what == "generating" and not self._timer.isActive():
            self._watch()
        if isinstance(event, ENDINGS) and self._what == "generating" and self._timer.isActive():
            self._tell()

    def _watch(self) -> None:
        self._last = time.perf_counter()
        self._timer.start(FRAME_MS)
        QTimer.singleShot(int(WATCH_SECONDS * 1000), self, self._tell)

    def _frame(self) -> None:
        now = time.perf_counter()
        self._frames.append(1000 * (now - self._last))
        self._last = now

    def _tell(self) -> None:
        if not self._timer.isActive():
            return
        self._timer.stop()
        frames = sorted(self._frames)
        self._done({"median": frames[len(frames) // 2], "p95": frames[int(0.95 * len(frames))], "worst": frames[-1]})

    def _done(self, figures: dict[str, float]) -> None:
        print(json.dumps(figures), flush=True)
        if self._run is not None and self._desktop.runs is not None:
            self._desktop.runs.stop(self._run)
        self._close_when_alone()

    def _close_when_alone(self) -> None:
        """A run goes on when the window is closed; this one must not, for its folder is about to go."""
        runs = self._desktop.runs
        if self._run is not None and runs is not None and runs.summary(self._run).alive:
            QTimer.singleShot(200, self, self._close_when_alone)
        else:
            self._desktop.window.close()

    def _give_up(self) -> None:
        print(f"Nothing came within {GIVE_UP_SECONDS:.0f} s.", file=sys.stderr, flush=True)
        if self._run is not None and self._desktop.runs is not None:
            pid = self._desktop.runs.summary(self._run).pid
            if pid is not None:
                psutil.Process(pid).kill()
        os._exit(1)


def since_start() -> float:
    """Seconds since whoever measures started this process."""
    return time.time() - float(os.environ["BENCHMARK_STARTED"])


def main(argv: list[str]) -> int:
    class Probed(app.Desktop):
        def __init__(self, settings: Any) -> None:
            super().__init__(settings)
            Probe(self, argv[0], argv[1:])

    app.Desktop = Probed  # type: ignore[misc]
    return app.main([])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
