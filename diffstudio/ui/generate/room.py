"""The Generate room: settings on the left, the image in the middle, queue and recent images on the right."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QPoint, Signal
from PySide6.QtGui import QAction, QImage, QResizeEvent
from PySide6.QtWidgets import QMenu

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.jobs.job_records import PendingJobs
from diffstudio.studio.metadata.gaps import NO_GAPS, Gaps
from diffstudio.studio.prompts.prompt_hints import example_prompts
from diffstudio.studio.requests import GenerateRequest, PictureRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.job_state import shape_of
from diffstudio.ui.generate.loading import SettingsLoader
from diffstudio.ui.generate.queue_and_history import RecentImage
from diffstudio.ui.generate.viewer import ReadFilmstrip, ReadSteps, Viewer, no_filmstrip, no_steps
from diffstudio.ui.widgets import actions, shortcuts
from diffstudio.ui.widgets.images.image_menu import ImageActions, ImageTarget

_EXAMPLES = 4  # prompts that the empty room offers


class GenerateRoom(Viewer):
    """Shows the worker's events and emits what the user asks for."""

    generate_requested = Signal(object)  # GenerateRequest, or an UpscaleRequest that is tried again
    upscale_requested = Signal(object, object)  # Path; the UpscaleRequest to start from, or None
    pause_requested = Signal(object)  # JobId
    resume_requested = Signal(object)
    stop_requested = Signal(object)
    restart_requested = Signal(object, object, object)  # JobId, step, PictureRequest
    image_restart_requested = Signal(object, object, object)  # Path of an image alone, step, PictureRequest
    remove_requested = Signal(object)  # JobId
    move_requested = Signal(object, object)  # JobId, -1 or 1
    gallery_requested = Signal()
    models_room_requested = Signal()
    rescan_requested = Signal()  # of the model folders
    train_room_requested = Signal()
    lab_job_requested = Signal(int)  # its index among the Lab jobs in the queue's list

    def __init__(self, read_filmstrip: ReadFilmstrip = no_filmstrip, read_steps: ReadSteps = no_steps) -> None:
        super().__init__(read_filmstrip, read_steps)
        self.image_actions = ImageActions(self)
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
        self.renamed.set_models(checkpoints)
        self.panel.set_checkpoints(checkpoints, problems)
        self._show_empty_state()

    def _show_empty_state(self) -> None:
        checkpoint = self.panel.checkpoint.current()
        examples = example_prompts(checkpoint, _EXAMPLES) if checkpoint is not None else ()
        self.show_empty_state(checkpoint.conditioning if checkpoint is not None else None, examples)

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

    def use_settings(self, request: PictureRequest, gaps: Gaps = NO_GAPS) -> None:
        """Load a request into the panel, without what an image leaves open; an UpscaleRequest opens the Upscale dialog."""
        self.loader.load(self.renamed.current(request), gaps)

    def start_from(self, path: Path) -> None:
        """Set the init image for img2img, inpaint or outpaint."""
        self.panel.init_image.set_image(path)

    def paint_on(self, path: Path) -> None:
        """Set the init image, and open the mask editor on it."""
        if self.panel.init_image.set_image(path):
            self.panel.init_image.open_mask_editor()

    def choose_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.panel.choose(checkpoint)
        self._show_empty_state()

    # User input

    def _pause_or_resume(self) -> None:
        if self._state.busy and self._state.job is not None:
            (self.resume_requested if self._state.paused else self.pause_requested).emit(self._state.job)

    def _stop(self) -> None:
        if self._state.busy and self._state.job is not None:
            self.stop_requested.emit(self._state.job)
            self._show_status("Stopping…", self.progress.fraction())

    def _restart(self) -> None:
        """Restart what is shown: one image that is alone, or the whole job."""
        restart = self.restart_shown()
        if restart is None or restart.request is None:
            return
        if self.controls.restart.hasFocus():
            self.filmstrip.setFocus()  # the button is hidden until another step is shown
        request = restart.request
        if restart.takes_prompt and isinstance(request, GenerateRequest):
            with contextlib.suppress(DiffstudioError):  # an invalid panel leaves the request unchanged
                now = self.panel.request()
                request = dataclasses.replace(request, prompt=now.prompt, negative=now.negative, guidance=now.guidance)
        if restart.path is not None:
            self.image_restart_requested.emit(restart.path, restart.step, request)
        else:
            self.restart_requested.emit(self._state.job, restart.step, request)

    def _empty_state_clicked(self) -> None:
        if self.panel.checkpoint.current() is None:
            self.train_room_requested.emit()
        elif self.panel.button.isEnabled():
            self.panel.submit()

    def _reuse(self) -> None:
        if (request := self._request_shown()) is not None:
            self.use_settings(request, self._gaps_shown())

    def _upscale(self) -> None:
        if (path := self.canvas.path()) is not None:
            self.upscale_requested.emit(path, None)

    def _target(self) -> ImageTarget:
        """The image on the canvas that the menu refers to."""
        path = self.canvas.path()
        return ImageTarget(
            path, self.canvas.image(), self._request_shown(), is_preview=path is None, gaps=self._gaps_shown()
        )

    def menu(self, image: QImage, path: Path | None, request: PictureRequest | None) -> QMenu:
        """The menu of an image that is not known to be in the gallery."""
        return self.image_actions.menu([ImageTarget(path, image, request, is_preview=path is None)])

    def _open_menu(self, position: QPoint) -> None:
        self.image_actions.open_menu(self._target(), position)

    def _open_recent_menu(self, recent: RecentImage, position: QPoint) -> None:
        self.image_actions.open_menu(ImageTarget(recent.path, recent.image, recent.request, gaps=recent.gaps), position)

    def _copy(self) -> None:
        if not self.canvas.image().isNull():
            self.image_actions.copy([self._target()])

    def _save_as(self) -> None:
        if not self.canvas.image().isNull():
            self.image_actions.save_as([self._target()])

    # Construction

    def _make_actions(self) -> None:
        for shortcut, do in (
            (shortcuts.GENERATE, self.panel.submit),
            (shortcuts.PAUSE, self._pause_or_resume),
            (shortcuts.STOP, self._stop),
            (shortcuts.UPSCALE, self._upscale),
            (shortcuts.FULL_SCREEN, self.full_screen.toggle),
        ):
            shortcuts.bind(shortcut, self, do)
        for shortcut, text, do in (
            (shortcuts.COPY_IMAGE, actions.COPY_IMAGE, self._copy),
            (shortcuts.SAVE_IMAGE, actions.SAVE_AS, self._save_as),
        ):
            action = QAction(text, self.canvas)
            shortcuts.bind_action(shortcut, action)
            action.triggered.connect(lambda _=False, do=do: do())
            self.canvas.addAction(action)

    def _connect(self) -> None:
        do = self.image_actions
        do.use_settings_requested.connect(lambda target: self.use_settings(target.request, target.gaps))
        do.start_requested.connect(self.start_from)
        do.paint_requested.connect(self.paint_on)
        do.upscale_requested.connect(lambda path: self.upscale_requested.emit(path, None))
        do.message.connect(self.show_message)
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
        self._connect_failed_jobs()
        self.canvas.context_menu_requested.connect(self._open_menu)
        self.right.jobs.move_requested.connect(self.move_requested)
        self.right.jobs.remove_requested.connect(self.remove_requested)
        self.right.jobs.live_view_requested.connect(self.back_to_job)
        self.right.jobs.train_room_requested.connect(self.train_room_requested)
        self.right.jobs.lab_job_requested.connect(self.lab_job_requested)
        self.right.image_selected.connect(self.show_image)
        self.right.context_menu_requested.connect(self._open_recent_menu)
        self.right.gallery_requested.connect(self.gallery_requested)

    def _connect_failed_jobs(self) -> None:
        failed, shown = self.failed_jobs, self.right.failed
        failed.retry_requested.connect(self.generate_requested)
        failed.changed.connect(lambda: self.right.show_failed(failed.jobs))
        shown.act_requested.connect(failed.act)
        shown.dismiss_requested.connect(failed.dismiss)
        shown.act_on_all_requested.connect(failed.act_on_all)
        shown.dismiss_all_requested.connect(failed.dismiss_all)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._update_hint()
