"""The Generate room: the request on the left, the picture in the middle, what waits and what was made on the right."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QPoint, QSize, Qt, Signal
from PySide6.QtGui import QImage, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QMenu, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.download import fetchable
from diffstudio.studio.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    ImageSaved,
    JobId,
    Loading,
    Noted,
    Paused,
    Picture,
    Resumed,
    Started,
    Stepped,
)
from diffstudio.studio.jobs.queue import QueuedJob
from diffstudio.studio.requests import GenerateRequest, PictureRequest, UpscaleRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.canvas import Canvas
from diffstudio.ui.generate.filmstrip import Filmstrip
from diffstudio.ui.generate.menu import add_shortcuts, picture_menu
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.queue_and_history import RecentPicture, RightColumn
from diffstudio.ui.shell.downloads import button_text
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import Banner, EmptyState, ProgressLine, SecondaryButton
from diffstudio.ui.widgets.formatting import human_duration
from diffstudio.ui.widgets.helpers import ElidedLabel
from diffstudio.ui.widgets.images import image_size, numpy_to_qimage, read_image

_ROOM_FOR_WORDS = 420  # px of the middle: below it a button has its sign alone
_NARROW = 1180  # px: below it the columns are slimmer
_LARGEST_BEFORE = 1024  # px of a picture's side, as it is shown while it is enlarged


class GenerateRoom(QWidget):
    """Shows events and emits intents. `film` asks for all steps of a job, once it has ended."""

    generate_requested = Signal(object)  # GenerateRequest, or UpscaleRequest to be tried again
    enlarge_wanted = Signal(object, object)  # Path; UpscaleRequest as it was asked before, or None
    pause_requested = Signal(object)  # JobId
    resume_requested = Signal(object)
    stop_requested = Signal(object)
    fetch_requested = Signal(
        object
    )  # the pieces that a checkpoint lacks, by their names in models/components/requirements.py
    fetch_stopped = Signal()
    restart_requested = Signal(object, object, object)  # JobId, step, GenerateRequest
    remove_requested = Signal(object)  # JobId
    move_requested = Signal(object, object)  # JobId, -1 or 1
    gallery_wanted = Signal()
    models_wanted = Signal()
    training_wanted = Signal()

    def __init__(self, film: Callable[[JobId], Sequence[tuple[Picture, ...]]] = lambda job: ()) -> None:
        super().__init__()
        self.setObjectName("background")
        self._film = film
        self._job: JobId | None = None  # being made, or the last that was
        self._busy = False
        self._expecting = False  # a job waits for the engine, and nothing else is shown
        self._paused = False
        self._finished = False
        self._live = True  # the canvas shows the job; False while another picture is looked at
        self._missing: list[str] = []  # what a request that is taken over names and is not here
        self._request: PictureRequest | None = None
        self._newest: Stepped | None = None
        self._notes: list[str] = []  # what is not as one would expect of the job that is shown
        self._saved = 0
        self._looking_at: RecentPicture | None = None
        self.panel, self.right = Panel(), RightColumn()
        self.banner = Banner()
        self.banner.hide()
        self.title = ElidedLabel("", pixels=15, bold=True)
        self.status = ElidedLabel("", "dim", mode=Qt.TextElideMode.ElideRight)
        self.canvas, self.filmstrip, self.progress = Canvas(), Filmstrip(), ProgressLine("Progress of the picture")
        self.empty = EmptyState("sparkle", "Looking for checkpoints…", "")
        self.pause_button = SecondaryButton("Pause", "pause-fill", "Pause after the network call in flight (Ctrl+P)")
        self.stop_button = SecondaryButton("Stop", "stop-fill", "Stop after the network call in flight (Ctrl+.)")
        self.restart_button = SecondaryButton("Restart from step 1", "arrow-counter-clockwise")
        self.reuse_button = SecondaryButton(
            "Use settings", "sliders-horizontal", "Put the settings of this picture into the left column"
        )
        self.hint = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._heading_stacked = False
        self._failed_request: PictureRequest | None = None
        self._banner_does: Callable[[], object] = self._try_again
        self._lay_out()
        self._connect()
        self._make_actions()
        self._follow()

    # What the program tells the room

    def set_checkpoints(self, checkpoints: Sequence[Checkpoint], problems: int = 0) -> None:
        self.panel.set_checkpoints(checkpoints, problems)
        if checkpoints:
            self.empty.set_content(
                "sparkle",
                "What shall it be?",
                "Write what the picture shows and press Generate. You can watch it "
                "come out of the noise, step by step.",
                "Generate",
            )
        else:
            self.empty.set_content(
                "cube",
                "No checkpoint yet",
                "A checkpoint is what makes the pictures. Train one on a folder of your "
                "own pictures, or add a folder of models in Settings.",
                "Train one",
            )

    def set_pending(self, pending: Sequence[QueuedJob]) -> None:
        self.right.set_pending(pending)
        self._expecting = bool(pending) and not self._busy and self.canvas.is_empty()
        if self._expecting:  # the engine is still being loaded
            request = pending[0].request
            self.canvas.begin(request.count, self._shape_of(request))
            self.title.setText(labels.title_of(request))
            self._show_status("Getting ready…", None)
        self._follow()

    def set_recent(self, pictures: Sequence[RecentPicture], total: int) -> None:
        self.right.set_recent(pictures, total)

    def set_history(self, prompts: Sequence[str]) -> None:
        self.panel.set_history(prompts)

    def set_machine(self, text: str) -> None:
        self.right.status.setText(text)

    def set_training(self, title: str, about: str, fraction: float | None) -> None:
        """A training run that is under way; an empty title for none."""
        if title:
            self.right.training.set_progress(title, about, fraction)
        self.right.show_training(bool(title))

    def use(self, request: PictureRequest) -> None:
        """Put a request into the left column; one that enlarges a picture goes to where that is asked."""
        if isinstance(request, UpscaleRequest):
            self.enlarge_wanted.emit(request.source, request)
            return
        self._missing = []
        if not self.panel.use(request):
            self._missing.insert(
                0,
                f"The checkpoint “{request.checkpoint}” is not here, so “{self._checkpoint_title()}” stays "
                "chosen. The other settings are taken over.",
            )
        if self._missing:
            self.show_message("warn", " ".join(self._missing))
        self.panel.prompt.setFocus()

    def _tell(self, sentence: str) -> None:
        self._missing.append(sentence)  # of a request that is taken over there may be several
        self.show_message("warn", sentence)

    def start_from(self, path: Path) -> None:
        """Put a picture into the left column, to change, paint on or extend."""
        self.panel.start.set_picture(path)

    def choose_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.panel.choose(checkpoint)

    def show_message(self, kind: str, text: str, action: str = "", does: Callable[[], object] | None = None) -> None:
        """`does` is what the button does; without it the failed request is made again."""
        self._banner_does = does or self._try_again
        self.banner.show_message(kind, text, action)
        self.banner.setVisible(bool(text))

    def take(self, event: Event) -> None:
        """One event of the worker."""
        match event:
            case Started(job=job, request=request):
                self._start(job, request)
            case _ if event.job != self._job:
                return
            case Loading(what=what, fraction=fraction):
                self._show_status(f"{what}…" if fraction is None else f"{what}… {fraction:.0%}", fraction)
            case Noted(text=text):
                self._notes.append(text)
                self.show_message("warn", "\n".join(self._notes))
            case Stepped():
                self._step(event)
            case Paused():
                self._paused = True
                at = f" at step {self._newest.index} of {self._newest.steps}" if self._newest else ""
                self._show_status(f"Paused{at}", self.progress.fraction() or 0.0)
            case Resumed():
                self._paused = False
            case ImageSaved(index=index, path=path, image=picture):
                self._save(index, path, numpy_to_qimage(picture))
            case Finished(seconds=seconds):
                self._finished = True
                self._end(f"{labels.pictures(self._saved)}  ·  {human_duration(seconds)}", 1.0)
            case Cancelled():
                at = f" at step {self._newest.index} of {self._newest.steps}" if self._newest else ""
                kept = f"  ·  {labels.pictures(self._saved)} kept" if self._saved else ""
                self._end(f"Stopped{at}{kept}", self.progress.fraction() or 0.0)
            case Failed(error=error):
                self._fail(error)
        self._follow()

    # Following a job

    def _start(self, job: JobId, request: PictureRequest) -> None:
        self._job, self._request, self._busy, self._paused, self._newest = job, request, True, False, None
        self._expecting = False
        self._saved, self._live, self._looking_at, self._finished = 0, True, None, False
        self._notes.clear()
        self.canvas.begin(request.count, self._shape_of(request))
        self.filmstrip.clear(request.steps)
        if isinstance(request, UpscaleRequest):
            self.canvas.show_saved(0, read_image(request.source, _LARGEST_BEFORE), request.source)
        self.title.setText(labels.title_of(request))
        self._show_status("Starting…", None)
        self.show_message("info", "")

    def _shape_of(self, request: PictureRequest) -> QSize:
        if isinstance(request, UpscaleRequest):
            return image_size(request.source)
        checkpoint = self.panel.checkpoint.current()
        usual = (
            (checkpoint.width, checkpoint.height) if checkpoint and checkpoint.width and checkpoint.height else (1, 1)
        )
        return QSize(request.width or usual[0], request.height or usual[1])

    def _step(self, event: Stepped) -> None:
        self._newest = event
        if self.filmstrip.maximum() != event.steps:
            self.filmstrip.clear(event.steps)
        if event.previews:
            self.filmstrip.put(event.index, event.first, event.previews)
            if self._live:
                self.canvas.show_estimates(event.first, event.previews)
        batch = max(1, len(event.previews))
        self._show_status(
            labels.step_line(event),
            (event.first + batch * event.index / event.steps) / max(1, event.count),
            labels.step_brief(event),
        )

    def _save(self, index: int, path: Path, image: QImage) -> None:
        self._saved += 1
        if self._live:
            self.canvas.show_saved(index, image, path)
        request = self._request
        if request is not None:
            request = labels.one_of(request, index)
        self.right.add_recent(RecentPicture(path, image, request))

    def _end(self, text: str, fraction: float) -> None:
        self._busy = self._paused = False
        self._show_status(text, fraction)
        if self._job is not None and (film := self._film(self._job)):
            self.filmstrip.set_film(film)

    def _fail(self, error: DiffstudioError) -> None:
        self._failed_request = self._request
        self._end("It did not work", self.progress.fraction() or 0.0)
        if pieces := fetchable(getattr(error, "missing_components", ())):
            self.show_message("bad", str(error), f"{button_text(pieces)}…", lambda: self.fetch_requested.emit(pieces))
        else:
            self.show_message("bad", str(error), "Try again" if self._request is not None else "")

    def show_fetching(self, text: str) -> None:
        """Something that the failed request lacks is on its way."""
        self.show_message("info", text, "Stop", self.fetch_stopped.emit)

    def show_fetched(self, text: str) -> None:
        self.show_message("good", text, "Try again" if self._failed_request is not None else "")

    def show_not_fetched(self, text: str) -> None:
        """`text` says why; it is empty where a person stopped it."""
        self.show_message(
            "bad" if text else "info", text or "What came of it is kept; the next time goes on from there.", "Try again"
        )

    def _show_status(self, text: str, fraction: float | None, brief: str = "") -> None:
        self._status_text = text
        self.progress.set_fraction(fraction)
        self.right.running.set_progress(
            self.title.text() if self._live else labels.title_of(self._request or GenerateRequest()),
            brief or text,
            fraction,
        )
        if self._live:
            self.status.setText(text)

    def _follow(self) -> None:
        """Buttons and texts after the state."""
        film = self.filmstrip.last() > 0 and self._live
        self.panel.set_busy(self._busy)
        self.right.show_running(self._busy)
        steering = self.pause_button.hasFocus() or self.stop_button.hasFocus()
        self.pause_button.setVisible(self._busy)
        self.stop_button.setVisible(self._busy)
        self.pause_button.setText("Resume" if self._paused else "Pause")
        self.pause_button.set_icon("play-fill" if self._paused else "pause-fill")
        self.pause_button.setAccessibleName(self.pause_button.text())
        self.pause_button.setToolTip(
            "Go on (Ctrl+P)" if self._paused else "Pause after the network call in flight (Ctrl+P)"
        )
        self._follow_restart(film and not self._busy)
        self.reuse_button.setVisible(self._request_shown() is not None and not self._busy)
        only_enlarged = isinstance(self._request, UpscaleRequest) and not self._request.checkpoint
        self.filmstrip.setVisible(film or (self._busy and self._live and not only_enlarged))
        self.filmstrip.setEnabled(film)
        self.progress.setVisible((self._busy and self._live) or self._expecting)
        nothing = not self._busy and not self._expecting and self.canvas.is_empty()
        self.middle.setCurrentIndex(0 if nothing else 1)
        self.header.setVisible(not nothing)
        self._follow_hint()
        self.foot.setVisible(not nothing)
        self._note()
        if steering and not self._busy:  # Qt would give the focus of a hidden button to whatever comes next
            self.canvas.setFocus()

    def _follow_hint(self) -> None:
        shown = self._live and self.filmstrip.last() > 0 and not self.canvas.scrubbing() and not self._heading_stacked
        self.hint.setText("drag the filmstrip to look through the steps" if shown else "")
        self.hint.setVisible(not self._heading_stacked)

    def _restart_step(self) -> int:
        """Where restarting would begin: the step looked at, or the one after the last where the job was stopped."""
        step, last = self.filmstrip.value(), self.filmstrip.last()
        return min(step + 1, self.filmstrip.maximum()) if step >= last and not self._finished else step

    def _follow_restart(self, possible: bool) -> None:
        step, button = self._restart_step(), self.restart_button
        onwards = step > self.filmstrip.last()
        button.setVisible(possible and (not self._finished or step < self.filmstrip.maximum()))
        button.setText(f"Go on from step {step}" if onwards else f"Restart from step {step}")
        button.set_icon("play-fill" if onwards else "arrow-counter-clockwise")
        button.setAccessibleName(button.text())
        kept = {1: "Make it again", 2: "Keep the first step and go on from there"}.get(
            step, f"Keep the first {step - 1} steps and go on from there"
        )
        by = ", with the prompt and guidance of the left column" if isinstance(self._request, GenerateRequest) else ""
        button.setToolTip(f"{kept}{by}")

    def _note(self) -> None:
        step, steps = self.filmstrip.value(), self.filmstrip.maximum()
        if self.canvas.scrubbing():
            self.canvas.set_note(f"Estimate after step {step} of {steps}")
        elif self._live and not self._busy and not self.canvas.is_empty() and self.canvas.path() is None:
            self.canvas.set_note(f"Stopped after step {step} of {steps}: not saved")
        else:
            self.canvas.set_note("")

    # What a person does

    def _scrubbed(self, step: int) -> None:
        if not self._live or not self.filmstrip.last():
            return
        back = step >= self.filmstrip.last()
        estimates = self.filmstrip.at(step)
        self.canvas.scrub(None if back or not estimates else estimates)
        self._follow()

    def _look_at(self, picture: RecentPicture) -> None:
        image = read_image(picture.path, 2048)
        if image.isNull():
            self.show_message(
                "warn", f"{picture.path.name} is no longer where it was: it may have been moved or deleted."
            )
            return
        self._live, self._looking_at = False, picture
        self.canvas.scrub(None)
        self.canvas.show_one(image, picture.path)
        self.title.setText(labels.title_of(picture.request) if picture.request else picture.path.name)
        self.status.setText(
            labels.settings_line(picture.request) if picture.request else f"{image.width()} × {image.height()}"
        )
        self._follow()

    def _back_to_live(self) -> None:
        if self._live or self._request is None:
            return
        self._live, self._looking_at = True, None
        self.canvas.begin(self._request.count, self._shape_of(self._request))
        self.canvas.show_estimates(0, self.filmstrip.at(self.filmstrip.last()))
        self.title.setText(labels.title_of(self._request))
        self.status.setText(self._status_text)
        self._follow()

    def _pause_or_resume(self) -> None:
        if self._busy and self._job is not None:
            (self.resume_requested if self._paused else self.pause_requested).emit(self._job)

    def _stop(self) -> None:
        if self._busy and self._job is not None:
            self.stop_requested.emit(self._job)
            self._show_status("Stopping…", self.progress.fraction())

    def _restart(self) -> None:
        if self._busy or self._job is None or self._request is None:
            return
        told = self._request
        if isinstance(told, GenerateRequest):
            with contextlib.suppress(DiffstudioError):  # where the column says something impossible it stays as it was
                now = self.panel.request()
                told = dataclasses.replace(told, prompt=now.prompt, negative=now.negative, guidance=now.guidance)
        self.restart_requested.emit(self._job, self._restart_step(), told)

    def _accept_invitation(self) -> None:
        if self.panel.checkpoint.current() is None:
            self.training_wanted.emit()
        elif self.panel.button.isEnabled():
            self.panel.submit()

    def _try_again(self) -> None:
        if self._failed_request is not None:
            self.show_message("info", "")
            self.generate_requested.emit(self._failed_request)

    def _request_shown(self) -> PictureRequest | None:
        """The request of the picture the menu is about."""
        if not self._live:
            return self._looking_at.request if self._looking_at else None
        if self._request is None or self.canvas.is_empty():
            return None
        return labels.one_of(self._request, self.canvas.chosen())

    def _reuse(self) -> None:
        if (request := self._request_shown()) is not None:
            self.use(request)

    def _enlarge(self) -> None:
        if (path := self.canvas.path()) is not None:
            self.enlarge_wanted.emit(path, None)

    def menu(self, image: QImage, path: Path | None, request: PictureRequest | None) -> QMenu:
        return picture_menu(
            self,
            image,
            path,
            request,
            use=self.use,
            start=self.start_from,
            failed=self._not_saved,
            enlarge=lambda path: self.enlarge_wanted.emit(path, None),
        )

    def _open_menu(self, place: QPoint) -> None:
        self.menu(self.canvas.image(), self.canvas.path(), self._request_shown()).popup(place)

    def _open_recent_menu(self, picture: RecentPicture, place: QPoint) -> None:
        self.menu(picture.image, picture.path, picture.request).popup(place)

    def _not_saved(self, error: DiffstudioError) -> None:
        self.show_message("bad", str(error))

    def _checkpoint_title(self) -> str:
        checkpoint = self.panel.checkpoint.current()
        return checkpoint.title if checkpoint else "none"

    # Making it

    def _make_actions(self) -> None:
        for keys, do in (
            ("Ctrl+Return", self.panel.submit),
            ("Ctrl+Enter", self.panel.submit),
            ("Ctrl+P", self._pause_or_resume),
            ("Ctrl+.", self._stop),
            ("Ctrl+E", self._enlarge),
        ):
            QShortcut(QKeySequence(keys), self, do, context=Qt.ShortcutContext.WidgetWithChildrenShortcut)
        add_shortcuts(self.canvas, self._not_saved)

    def _connect(self) -> None:
        self.panel.generate.connect(self.generate_requested)
        for section in (self.panel.start, self.panel.control, self.panel.enlarge):
            section.failed.connect(self._tell)
        self.panel.said.connect(self._tell)
        self.panel.models_wanted.connect(self.models_wanted)
        self.empty.clicked.connect(self._accept_invitation)
        self.pause_button.clicked.connect(self._pause_or_resume)
        self.stop_button.clicked.connect(self._stop)
        self.restart_button.clicked.connect(self._restart)
        self.reuse_button.clicked.connect(self._reuse)
        self.banner.acted.connect(lambda: self._banner_does())
        self.filmstrip.valueChanged.connect(self._scrubbed)
        self.canvas.menu_wanted.connect(self._open_menu)
        self.canvas.selected.connect(lambda: self.filmstrip.set_image(self.canvas.chosen()))
        self.right.move_wanted.connect(self.move_requested)
        self.right.remove_wanted.connect(self.remove_requested)
        self.right.live_wanted.connect(self._back_to_live)
        self.right.training_wanted.connect(self.training_wanted)
        self.right.picture_chosen.connect(self._look_at)
        self.right.menu_wanted.connect(self._open_recent_menu)
        self.right.gallery_wanted.connect(self.gallery_wanted)

    def _lay_out(self) -> None:
        self.header = QWidget()
        self._heading = QBoxLayout(QBoxLayout.Direction.LeftToRight, self.header)
        self._heading.setContentsMargins(0, 0, 0, 0)
        self._heading.setSpacing(4)
        self._heading.addWidget(self.title, 1)
        self._heading.addWidget(self.status, 1)
        self.foot = QWidget()
        buttons = QHBoxLayout(self.foot)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.setSpacing(8)
        for button in (self.pause_button, self.stop_button, self.reuse_button, self.restart_button):
            buttons.addWidget(button)
        buttons.addWidget(self.hint, 1)
        buttons.addStretch(0)
        self.foot.setFixedHeight(34)
        self.middle = QStackedWidget()
        self.middle.addWidget(self.empty)
        self.middle.addWidget(self.canvas)
        column = self._column = QVBoxLayout()
        column.setSpacing(12)
        column.addWidget(self.banner)
        column.addWidget(self.header)
        column.addWidget(self.middle, 1)
        column.addWidget(self.progress)
        column.addWidget(self.filmstrip)
        column.addWidget(self.foot)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.panel)
        row.addLayout(column, 1)
        row.addWidget(self.right)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        narrow = self.width() < _NARROW
        self.panel.setFixedWidth(288 if narrow else 328)
        self.right.setFixedWidth(216 if narrow else 260)
        middle = self.width() - self.panel.width() - self.right.width()
        stacked = middle < 640
        self._heading.setDirection(QBoxLayout.Direction.TopToBottom if stacked else QBoxLayout.Direction.LeftToRight)
        self.status.setAlignment(Qt.AlignmentFlag.AlignLeft if stacked else Qt.AlignmentFlag.AlignRight)
        self._heading_stacked = stacked
        self.reuse_button.setText("" if middle < _ROOM_FOR_WORDS else "Use settings")
        self._column.setContentsMargins(*((16, 12, 16, 12) if stacked else (24, 16, 24, 16)))
        self._follow_hint()
