"""The Generate room: settings on the left, the image in the middle, queue and recent images on the right."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QPoint, Signal
from PySide6.QtGui import QImage, QResizeEvent
from PySide6.QtWidgets import QMenu

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
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
from diffstudio.studio.jobs.job_records import PendingJobs
from diffstudio.studio.prompts.prompt_hints import example_prompts
from diffstudio.studio.requests import GenerateRequest, PictureRequest, UpscaleRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.failed_job import FailedJob
from diffstudio.ui.generate.image_menu import add_shortcuts, image_menu
from diffstudio.ui.generate.job_state import JobState, shape_of
from diffstudio.ui.generate.layout import GenerateLayout
from diffstudio.ui.generate.loading import SettingsLoader
from diffstudio.ui.generate.queue_and_history import RecentImage
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.widgets.images import numpy_to_qimage, read_image, read_or_reason

_EXAMPLES = 4  # prompts that the empty room offers
_MAX_SOURCE_SIDE = 1024  # px of an image shown while it is upscaled
_MAX_RECENT_SIDE = 2048  # px of a recent image


class GenerateRoom(GenerateLayout):
    """Shows the worker's events and emits what the user asks for. `read_filmstrip` returns every step of an ended job."""

    generate_requested = Signal(object)  # GenerateRequest, or an UpscaleRequest that is tried again
    upscale_requested = Signal(object, object)  # Path; the UpscaleRequest to start from, or None
    pause_requested = Signal(object)  # JobId
    resume_requested = Signal(object)
    stop_requested = Signal(object)
    restart_requested = Signal(object, object, object)  # JobId, step, GenerateRequest
    remove_requested = Signal(object)  # JobId
    move_requested = Signal(object, object)  # JobId, -1 or 1
    gallery_requested = Signal()
    models_room_requested = Signal()
    rescan_requested = Signal()  # of the model folders
    train_room_requested = Signal()

    def __init__(self, read_filmstrip: Callable[[JobId], Sequence[tuple[Picture, ...]]] = lambda job: ()) -> None:
        super().__init__()
        self._read_filmstrip = read_filmstrip
        self._state = JobState()
        self._queue_paused = False
        self._waiting_for_engine = False  # a job waits for torch to load, and nothing else is shown
        self._live = True  # the canvas shows the job; False while it shows another image
        self._shown_recent: RecentImage | None = None
        self._chosen_recent: RecentImage | None = None  # chosen last; shown once it is read
        self.failed_job = FailedJob(self.show_message)
        self.loader = SettingsLoader(
            self.panel,
            lambda text: self.show_message("warn", text),
            lambda request: self.upscale_requested.emit(request.source, request),
        )
        self._connect()
        self._make_actions()
        self._update_state()

    # Updates from the application

    def set_checkpoints(self, checkpoints: Sequence[Checkpoint], problems: int = 0) -> None:
        self.panel.set_checkpoints(checkpoints, problems)
        self._show_empty_state()

    def _show_empty_state(self) -> None:
        checkpoint = self.panel.checkpoint.current()
        examples = example_prompts(checkpoint, _EXAMPLES) if checkpoint is not None else ()
        self.show_empty_state(has_checkpoint=checkpoint is not None, examples=examples)

    def set_pending(self, pending: PendingJobs) -> None:
        self.right.set_pending(pending)
        self._queue_paused = pending.paused
        waits = bool(pending.jobs) and not pending.paused
        self._waiting_for_engine = waits and not self._state.busy and self.canvas.is_empty()
        if self._waiting_for_engine:  # torch is still loading
            request = pending.jobs[0].request
            self.canvas.begin(request.count, shape_of(request, self.panel.checkpoint.current()))
            self.title.setText(labels.title_of(request))
            self._show_status("Loading…", None)
        self._update_state()

    def set_recent(self, images: Sequence[RecentImage], total: int) -> None:
        self.right.set_recent(images, total)

    def set_history(self, prompts: Sequence[str]) -> None:
        self.panel.set_history(prompts)

    def set_device_status(self, text: str) -> None:
        self.right.status.setText(text)

    def set_training(self, title: str, about: str, fraction: float | None) -> None:
        """Show the active training run; an empty title hides it."""
        if title:
            self.right.training.set_progress(title, about, fraction)
        self.right.show_training(bool(title))

    def use_settings(self, request: PictureRequest) -> None:
        """Load a request into the panel; an UpscaleRequest opens the Upscale dialog."""
        self.loader.load(request)

    def start_from(self, path: Path) -> None:
        """Set the init image for img2img, inpaint or outpaint."""
        self.panel.init_image.set_image(path)

    def choose_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.panel.choose(checkpoint)
        self._show_empty_state()

    def handle_event(self, event: Event) -> None:
        """Show one event of the worker."""
        match event:
            case Started(job=job, request=request):
                self._start(job, request)
            case _ if event.job != self._state.job:
                return
            case Loading(what=what, fraction=fraction):
                self._show_status(f"{what}…" if fraction is None else f"{what}… {fraction:.0%}", fraction)
            case Noted(text=text):
                self._state.notes.append(text)
                self.show_message("warn", "\n".join(self._state.notes))
            case Stepped():
                self._step(event)
            case Paused():
                self._state.paused = True
                self._show_status(self._state.paused_text(), self.progress.fraction() or 0.0)
            case Resumed():
                self._state.paused = False
            case ImageSaved(index=index, path=path, image=pixels):
                self._save(index, path, numpy_to_qimage(pixels))
            case Finished(seconds=seconds):
                self._state.end(finished=True)
                self._show_end(self._state.finished_text(seconds), 1.0)
            case Cancelled():
                self._state.end()
                self._show_end(self._state.stopped_text(), self.progress.fraction() or 0.0)
            case Failed(error=error):
                self._state.end()
                self._show_end("Failed", self.progress.fraction() or 0.0)
                self.failed_job.show(self._state.request, error)
        self._update_state()

    # The running job

    def running_request(self) -> PictureRequest | None:
        """The request of the job under way; None if there is none."""
        return self._state.request if self._state.busy else None

    def _start(self, job: JobId, request: PictureRequest) -> None:
        self._state = JobState(job, request, busy=True)
        self._waiting_for_engine, self._live, self._shown_recent = False, True, None
        self.canvas.begin(request.count, shape_of(request, self.panel.checkpoint.current()))
        self.filmstrip.clear(request.steps)
        self._chosen_recent = None
        if isinstance(request, UpscaleRequest):
            source = request.source
            read = partial(read_image, source, _MAX_SOURCE_SIDE)
            self.panel.background_work_requested.emit(read, lambda image: self._show_source(job, image, source))
        self.title.setText(labels.title_of(request))
        self._show_status("Starting…", None)
        self.show_message("info", "")

    def _show_source(self, job: JobId, image: QImage, path: Path) -> None:
        """Show the image that is being upscaled, unless there is something newer to show."""
        if self._live and self._state.job == job and self._state.newest is None and not self._state.saved:
            self.canvas.show_saved(0, image, path)
            self._update_state()

    def _step(self, event: Stepped) -> None:
        self._state.newest = event
        if self.filmstrip.maximum() != event.steps:
            self.filmstrip.clear(event.steps)
        if event.previews:
            self.filmstrip.set_step(event.index, event.first, event.previews)
            if self._live:
                self.canvas.show_previews(event.first, event.previews)
        self._show_status(labels.step_line(event), self._state.fraction(event), labels.step_brief(event))

    def _save(self, index: int, path: Path, image: QImage) -> None:
        self._state.saved_images[index] = image, path
        if self._live:
            self.canvas.show_saved(index, image, path)
        request = self._state.request
        if request is not None:
            request = labels.one_of(request, index)
        self.right.add_recent(RecentImage(path, image, request))

    def _show_end(self, text: str, fraction: float) -> None:
        self._show_status(text, fraction)
        if self._state.job is not None and (steps := self._read_filmstrip(self._state.job)):
            self.filmstrip.set_previews(steps)

    def _show_status(self, text: str, fraction: float | None, brief: str = "") -> None:
        self._status_text = text
        self.progress.set_fraction(fraction)
        self.right.running.set_progress(
            self.title.text() if self._live else labels.title_of(self._state.request or GenerateRequest()),
            brief or text,
            fraction,
        )
        if self._live:
            self.status.setText(text)

    def _update_state(self) -> None:
        """Update buttons and texts from the state."""
        state, busy = self._state, self._state.busy
        has_steps = self.filmstrip.last_step() > 0 and self._live
        nothing = not busy and not self._waiting_for_engine and self.canvas.is_empty()
        had_focus = self.controls.job_button_has_focus()
        self.panel.set_busy(busy or self._queue_paused)
        self.right.show_running(busy)
        self.controls.show_job(busy=busy, paused=state.paused)
        self.controls.use_settings.setVisible(self._request_shown() is not None and not busy)
        self._update_restart_button(has_steps and not busy)
        self.filmstrip.setVisible(has_steps or (busy and self._live and not state.only_resizes()))
        self.filmstrip.setEnabled(has_steps)
        self.progress.setVisible((busy and self._live) or self._waiting_for_engine)
        self.middle.setCurrentIndex(0 if nothing else 1)
        for part in (self.header, self.controls):
            part.setVisible(not nothing)
        self._update_hint()
        self._update_note()
        if had_focus and not busy:  # otherwise Qt moves the focus of a hidden button to an arbitrary widget
            self.canvas.setFocus()

    def _update_hint(self) -> None:
        shown = (
            self._live and self.filmstrip.last_step() > 0 and not self.canvas.scrubbing() and not self._heading_stacked
        )
        self.controls.hint.setText("Drag the filmstrip to browse the steps" if shown else "")
        self.controls.hint.setVisible(not self._heading_stacked)

    def _restart_step(self) -> int:
        """The step that a restart begins with: the one shown, or the one after the last of a stopped job."""
        step, last = self.filmstrip.value(), self.filmstrip.last_step()
        return min(step + 1, self.filmstrip.maximum()) if step >= last and not self._state.finished else step

    def _update_restart_button(self, possible: bool) -> None:
        step, finished = self._restart_step(), self._state.finished
        self.controls.show_restart(
            step if possible and (not finished or step < self.filmstrip.maximum()) else None,
            resumes=step > self.filmstrip.last_step(),
            takes_prompt=isinstance(self._state.request, GenerateRequest),
        )

    def _update_note(self) -> None:
        step, steps = self.filmstrip.value(), self.filmstrip.maximum()
        if self.canvas.scrubbing():
            self.canvas.set_note(f"Preview after step {step} of {steps}")
        elif self._live and not self._state.busy and not self.canvas.is_empty() and self.canvas.path() is None:
            self.canvas.set_note(f"Stopped after step {step} of {steps}: not saved")
        else:
            self.canvas.set_note("")

    # User input

    def _scrubbed(self, step: int) -> None:
        if not self._live or not self.filmstrip.last_step():
            return
        back = step >= self.filmstrip.last_step()
        estimates = self.filmstrip.previews_at(step)
        self.canvas.scrub(None if back or not estimates else estimates)
        self._update_state()

    def _show_recent(self, recent: RecentImage) -> None:
        self._chosen_recent = recent
        read = partial(read_or_reason, recent.path, _MAX_RECENT_SIDE)
        self.panel.background_work_requested.emit(read, lambda found: self._show_read(recent, *found))

    def _show_read(self, recent: RecentImage, image: QImage, reason: str) -> None:
        """Show a recent image that has been read, unless another one was chosen meanwhile."""
        if recent is not self._chosen_recent:
            return
        if reason:
            self.show_message("warn", reason)
            return
        self._live, self._shown_recent = False, recent
        self.canvas.scrub(None)
        self.canvas.show_one(image, recent.path)
        self.title.setText(labels.title_of(recent.request) if recent.request else recent.path.name)
        self.status.setText(
            labels.settings_line(recent.request) if recent.request else f"{image.width()} × {image.height()}"
        )
        self._update_state()

    def _back_to_live(self) -> None:
        self._chosen_recent = None
        if self._live or self._state.request is None:
            return
        self._live, self._shown_recent = True, None
        self.canvas.begin(self._state.request.count, shape_of(self._state.request, self.panel.checkpoint.current()))
        self.canvas.show_previews(0, self.filmstrip.previews_at(self.filmstrip.last_step()))
        for index, (image, path) in self._state.saved_images.items():
            self.canvas.show_saved(index, image, path)
        self.title.setText(labels.title_of(self._state.request))
        self.status.setText(self._status_text)
        self._update_state()

    def _pause_or_resume(self) -> None:
        if self._state.busy and self._state.job is not None:
            (self.resume_requested if self._state.paused else self.pause_requested).emit(self._state.job)

    def _stop(self) -> None:
        if self._state.busy and self._state.job is not None:
            self.stop_requested.emit(self._state.job)
            self._show_status("Stopping…", self.progress.fraction())

    def _restart(self) -> None:
        if self._state.busy or self._state.job is None or self._state.request is None:
            return
        request = self._state.request
        if isinstance(request, GenerateRequest):
            with contextlib.suppress(DiffstudioError):  # an invalid panel leaves the request unchanged
                now = self.panel.request()
                request = dataclasses.replace(request, prompt=now.prompt, negative=now.negative, guidance=now.guidance)
        self.restart_requested.emit(self._state.job, self._restart_step(), request)

    def _empty_state_clicked(self) -> None:
        if self.panel.checkpoint.current() is None:
            self.train_room_requested.emit()
        elif self.panel.button.isEnabled():
            self.panel.submit()

    def _request_shown(self) -> PictureRequest | None:
        """The request of the image that the menu refers to."""
        if not self._live:
            return self._shown_recent.request if self._shown_recent else None
        if self._state.request is None or self.canvas.is_empty():
            return None
        return labels.one_of(self._state.request, self.canvas.chosen())

    def _reuse(self) -> None:
        if (request := self._request_shown()) is not None:
            self.use_settings(request)

    def _upscale(self) -> None:
        if (path := self.canvas.path()) is not None:
            self.upscale_requested.emit(path, None)

    def menu(self, image: QImage, path: Path | None, request: PictureRequest | None) -> QMenu:
        return image_menu(
            self,
            image,
            path,
            request,
            use=self.use_settings,
            start=self.start_from,
            failed=self._not_saved,
            warn=lambda text: self.show_message("warn", text),
            upscale=lambda path: self.upscale_requested.emit(path, None),
        )

    def _open_menu(self, position: QPoint) -> None:
        self.menu(self.canvas.image(), self.canvas.path(), self._request_shown()).popup(position)

    def _open_recent_menu(self, recent: RecentImage, position: QPoint) -> None:
        self.menu(recent.image, recent.path, recent.request).popup(position)

    def _not_saved(self, error: DiffstudioError) -> None:
        self.show_message("bad", str(error))

    # Construction

    def _make_actions(self) -> None:
        for shortcut, do in (
            (shortcuts.GENERATE, self.panel.submit),
            (shortcuts.PAUSE, self._pause_or_resume),
            (shortcuts.STOP, self._stop),
            (shortcuts.UPSCALE, self._upscale),
        ):
            shortcuts.bind(shortcut, self, do)
        add_shortcuts(self.canvas, self._not_saved)

    def _connect(self) -> None:
        self.panel.generate_requested.connect(self.generate_requested)
        for section in (self.panel.init_image, self.panel.controlnets, self.panel.hires_fix):
            section.failed.connect(self.loader.add_warning)
        self.panel.init_image.overlay_changed.connect(self.canvas.set_init_overlay)
        self.panel.message.connect(self.loader.add_warning)
        self.panel.models_room_requested.connect(self.models_room_requested)
        self.panel.rescan_requested.connect(self.rescan_requested)
        self.empty.clicked.connect(self._empty_state_clicked)
        self.empty.example_chosen.connect(self.panel.use_example)
        self.panel.checkpoint.chosen.connect(self._show_empty_state)
        self.controls.pause.clicked.connect(self._pause_or_resume)
        self.controls.stop.clicked.connect(self._stop)
        self.controls.restart.clicked.connect(self._restart)
        self.controls.use_settings.clicked.connect(self._reuse)
        self.failed_job.retry_requested.connect(self.generate_requested)
        self.filmstrip.valueChanged.connect(self._scrubbed)
        self.canvas.context_menu_requested.connect(self._open_menu)
        self.canvas.selected.connect(lambda: self.filmstrip.set_image(self.canvas.chosen()))
        self.right.jobs.move_requested.connect(self.move_requested)
        self.right.jobs.remove_requested.connect(self.remove_requested)
        self.right.jobs.live_view_requested.connect(self._back_to_live)
        self.right.jobs.train_room_requested.connect(self.train_room_requested)
        self.right.image_selected.connect(self._show_recent)
        self.right.context_menu_requested.connect(self._open_recent_menu)
        self.right.gallery_requested.connect(self.gallery_requested)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._update_hint()
