"""The middle of the Generate room: the running job, or an image that was chosen, with its steps and settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PySide6.QtGui import QImage

from diffstudio.errors import DiffstudioError
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
from diffstudio.studio.jobs.image_steps import ImageSteps
from diffstudio.studio.library.references import ModelRenamed, RenamedModels, followed
from diffstudio.studio.metadata.gaps import NO_GAPS, Gaps
from diffstudio.studio.requests import GenerateRequest, PictureRequest, UpscaleRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.canvas.channel_picker import ChannelPicker
from diffstudio.ui.generate.canvas.filmstrip import StepPreviews
from diffstudio.ui.generate.canvas.full_screen import FullScreen
from diffstudio.ui.generate.failed_jobs import FailedJobs
from diffstudio.ui.generate.job_state import JobState, Restart, shape_of
from diffstudio.ui.generate.layout import GenerateLayout
from diffstudio.ui.generate.queue_and_history import RecentImage
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage, read_image, read_or_reason

ReadFilmstrip = Callable[[JobId], Sequence[tuple[Picture, ...]]]  # every step of a job that has ended
ReadSteps = Callable[[Path], ImageSteps | None]  # of an image file, in a thread; DiffstudioError when they are damaged
_MAX_SOURCE_SIDE = 1024  # px of an image shown while it is upscaled
_MAX_SIDE = 8192  # px of an image shown; larger ones are reduced


def no_filmstrip(job: JobId) -> Sequence[tuple[Picture, ...]]:
    return ()


def no_steps(path: Path) -> ImageSteps | None:
    return None


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image that was chosen, as it was read."""

    image: QImage
    reason: str = ""  # why there is no image
    steps: ImageSteps | None = None  # None where none are kept
    problem: str = ""  # a sentence when they are damaged


def _read_found(read_steps: ReadSteps, path: Path) -> FoundImage:
    """In a thread, which must not be the last to hold a QObject."""
    image, reason = read_or_reason(path, _MAX_SIDE)
    if reason:
        return FoundImage(image, reason)
    try:
        return FoundImage(image, steps=read_steps(path))
    except DiffstudioError as error:
        return FoundImage(image, problem=str(error))


class Viewer(GenerateLayout):
    """Shows the worker's events as they arrive, and the images that are chosen, each with its own steps."""

    def __init__(self, read_filmstrip: ReadFilmstrip, read_steps: ReadSteps) -> None:
        super().__init__()
        self._read_filmstrip, self._read_steps = read_filmstrip, read_steps
        self._state = JobState()
        self._queue_paused = False
        self._job_previews = StepPreviews(1)  # the job's steps, also while another image is shown
        self._waiting_for_engine = False  # a job waits for torch to load, and nothing else is shown
        self._live = True  # the canvas shows the job; False while it shows another image
        self._shown: tuple[RecentImage, FoundImage] | None = None  # the other image
        self._chosen_recent: RecentImage | None = None  # chosen last; shown once it is read
        self._status_text = ""
        self.renamed = RenamedModels()
        self.failed_jobs = FailedJobs(self.show_message, self.withdraw_message)
        self.full_screen = FullScreen(self.canvas, self.canvas_place, self)
        self.channels = ChannelPicker(self.canvas, self.panel.background_work_requested.emit)
        self.filmstrip.valueChanged.connect(self._scrubbed)
        self.canvas.selected.connect(self._image_selected)
        self.canvas.alone_changed.connect(self._update_state)
        self.canvas.full_image_requested.connect(self._read_full_image)
        self.canvas.full_screen_requested.connect(self.full_screen.toggle)
        self.canvas.closed.connect(self._leave_image)
        self.seed.clicked.connect(self._copy_seed)
        self.panel.prompt.textChanged.connect(self._update_hint)

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
                if self._state.request is not None:
                    self.failed_jobs.add(self._state.request, error)
        self._update_state()

    def follow_renamed(self, change: ModelRenamed) -> None:
        """Put the new name of a model into what can be restarted or tried again, and into what will be shown."""
        self.renamed.add(change)
        if self._state.request is not None:
            self._state.request = followed(self._state.request, change)
        if self._shown is not None:
            self._shown = _renamed(*self._shown, lambda request: followed(request, change))
        self.failed_jobs.change_requests(lambda request: followed(request, change))
        self._update_state()

    # The running job

    def running_request(self) -> PictureRequest | None:
        """The request of the job under way, or None."""
        return self._state.request if self._state.busy else None

    def _start(self, job: JobId, request: PictureRequest) -> None:
        self._state = JobState(job, request, busy=True)
        self._waiting_for_engine, self._live, self._shown = False, True, None
        self.canvas.begin(request.count, shape_of(request, self.panel.checkpoint.current()))
        self._job_previews = StepPreviews(request.steps)
        self.filmstrip.show_steps(self._job_previews)
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
        if self._job_previews.steps != event.steps:
            self._job_previews = StepPreviews(event.steps)
            if self._live:
                self.filmstrip.show_steps(self._job_previews, self.canvas.chosen())
        if event.previews and self._live:
            self.filmstrip.set_step(event.index, event.first, event.previews)
            self.canvas.show_previews(event.first, event.previews)
        elif event.previews:
            self._job_previews.put(event.index, event.first, event.previews)
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
            self._job_previews.replace(steps)
            if self._live:
                self.filmstrip.show_steps(self._job_previews, self.canvas.chosen())

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
        self.channels.follow()
        state, busy = self._state, self._state.busy
        has_steps = self.filmstrip.last_step() > 0
        nothing = not busy and not self._waiting_for_engine and self.canvas.is_empty()
        had_focus = self.controls.job_button_has_focus()
        self.panel.set_busy(busy or self._queue_paused)
        self.right.show_running(busy)
        self.controls.show_job(busy=busy, paused=state.paused)
        reusable = self._request_shown() is not None and not (busy and self._live)
        self.controls.use_settings.setVisible(reusable)  # before the restart, which fits all of them
        self.controls.show_restart(self.restart_shown())
        self.filmstrip.setVisible(has_steps or (busy and self._live and not state.only_resizes()))
        self.filmstrip.setEnabled(has_steps)
        self.progress.setVisible((busy and self._live) or self._waiting_for_engine)
        self.middle.setCurrentIndex(0 if nothing else 1)
        for part in (self.header, self.controls):
            part.setVisible(not nothing)
        self.show_seed(self._seed_shown())
        self.diversity.show_batch(self._batch_shown())
        self._update_hint()
        self._update_note()
        if had_focus and not busy:  # otherwise Qt moves the focus of a hidden button to an arbitrary widget
            self.canvas.setFocus()

    def _batch_shown(self) -> list[Path]:
        """The images of the shown job once it has finished; empty for an upscaled image."""
        state = self._state
        if not self._live or state.busy or not isinstance(state.request, GenerateRequest):
            return []
        return [path for _, (_, path) in sorted(state.saved_images.items())]

    def _update_hint(self) -> None:
        text, restart = "", self.restart_shown()
        if restart is not None and restart.takes_prompt and not self._heading_stacked and self._prompt_differs(restart):
            text = "Continues with the prompt in the panel"
        elif self.filmstrip.last_step() > 0:
            browse = not self.canvas.scrubbing() and not self._heading_stacked
            text = "Drag the filmstrip to browse the steps" if browse else ""
        elif self._shown is not None and self._shown[1].steps is None:
            text = "The steps of this image are not kept"
        self.controls.hint.setText(text)
        self.controls.hint.setVisible(bool(text) or not self._heading_stacked)

    def restart_shown(self) -> Restart | None:
        """What a restart from the step that is shown makes; None where there is nothing to restart."""
        step, last, steps = self.filmstrip.value(), self.filmstrip.last_step(), self.filmstrip.maximum()
        if self._shown is not None:
            kept = self._shown[1].steps
            if kept is None or not kept.calls_after or step >= steps:
                return None
            return Restart(step, kept.request, self._shown[0].path, takes_prompt=self._takes_prompt(kept.request))
        request = self._state.request
        if self._state.busy or last == 0 or request is None:
            return None
        if step >= last and not self._state.finished:
            step = min(step + 1, steps)
        elif self._state.finished and step >= steps:
            return None
        takes_prompt = self._takes_prompt(request)
        saved = self._state.saved_images.get(self.canvas.chosen())
        if request.count > 1 and saved is not None and self.canvas.is_alone() and step <= last:
            return Restart(step, labels.one_of(request, self.canvas.chosen()), saved[1], takes_prompt=takes_prompt)
        return Restart(step, request, resumes=step > last, takes_prompt=takes_prompt)

    def _prompt_differs(self, restart: Restart) -> bool:
        return restart.request is not None and self.panel.prompt.text().strip() != restart.request.prompt.strip()

    def _takes_prompt(self, request: PictureRequest) -> bool:
        """Whether the prompt in the panel is one for the checkpoint that made the image."""
        checkpoint = self.panel.checkpoint.current()
        name = checkpoint.name if checkpoint is not None else ""
        return isinstance(request, GenerateRequest) and request.checkpoint in ("", name)

    def _update_note(self) -> None:
        step, steps = self.filmstrip.value(), self.filmstrip.maximum()
        if self.canvas.scrubbing():
            self.canvas.set_note(f"Preview after step {step} of {steps}")
        elif self._live and not self._state.busy and not self.canvas.is_empty() and self.canvas.path() is None:
            self.canvas.set_note(f"Stopped after step {step} of {steps}: not saved")
        else:
            self.canvas.set_note("")

    # The image that is shown

    def _scrubbed(self, step: int) -> None:
        if not self.filmstrip.last_step():
            return
        back = step >= self.filmstrip.last_step()
        estimates = self.filmstrip.previews_at(step)
        self.canvas.scrub(None if back or not estimates else estimates)
        self._update_state()

    def _image_selected(self) -> None:
        self.filmstrip.set_image(self.canvas.chosen())
        self._update_state()

    def show_image(self, recent: RecentImage) -> None:
        """Show another image, with its steps where they are kept."""
        self._chosen_recent = recent
        read = partial(_read_found, self._read_steps, recent.path)
        self.panel.background_work_requested.emit(read, lambda found: self._show_read(recent, found))

    def _show_read(self, recent: RecentImage, found: FoundImage) -> None:
        """Show an image that has been read, unless another one was chosen meanwhile."""
        if recent is not self._chosen_recent:
            return
        if found.reason or found.problem:
            self.show_message("warn", found.reason or found.problem)
        if found.reason:
            return
        self._live, self._shown = False, _renamed(recent, found, self.renamed.current)
        self.canvas.scrub(None)
        self.canvas.show_one(found.image, recent.path)
        previews = StepPreviews(found.steps.steps if found.steps is not None else 1)
        if found.steps is not None:
            previews.replace([() if preview is None else (preview,) for preview in found.steps.previews])
        self.filmstrip.show_steps(previews)
        self.title.setText(labels.title_of(recent.request) if recent.request else recent.path.name)
        size = f"{found.image.width()} × {found.image.height()}"
        self.status.setText(
            labels.settings_line(recent.request, with_seed=False, not_held=recent.gaps.fields)
            if recent.request
            else size
        )
        self._update_state()

    def _read_full_image(self, path: Path) -> None:
        read = partial(read_image, path, _MAX_SIDE)
        self.panel.background_work_requested.emit(read, lambda image: self.canvas.set_full_image(path, image))

    def back_to_job(self) -> None:
        """Show the running job again, or the last one that ran."""
        self._chosen_recent = None
        if self._live or self._state.request is None:
            return
        self._live, self._shown = True, None
        self.canvas.scrub(None)
        self.canvas.begin(self._state.request.count, shape_of(self._state.request, self.panel.checkpoint.current()))
        self._job_previews.chosen = max(1, len(self._job_previews.history))
        self.filmstrip.show_steps(self._job_previews)
        self.canvas.show_previews(0, self.filmstrip.previews_at(self.filmstrip.last_step()))
        for index, (image, path) in self._state.saved_images.items():
            self.canvas.show_saved(index, image, path)
        self.title.setText(labels.title_of(self._state.request))
        self.status.setText(self._status_text)
        self._update_state()

    def _leave_image(self) -> None:
        if self.full_screen.is_on():
            self.full_screen.leave()
        else:
            self.back_to_job()

    def _seed_shown(self) -> int | None:
        """The seed of the finished image that is shown."""
        request = self._request_shown()
        sampled = isinstance(request, GenerateRequest) or (request is not None and bool(request.checkpoint))
        finished = self.canvas.file() is not None and (self._shown is not None or not self._showing_source())
        return request.seed if request is not None and sampled and finished else None

    def _showing_source(self) -> bool:
        """Whether the canvas shows the image that is being upscaled."""
        return self._live and not self._state.saved

    def _copy_seed(self) -> None:
        if (seed := self._seed_shown()) is not None:
            copy_and_drag.copy_text(str(seed))

    def _gaps_shown(self) -> Gaps:
        """What the settings of that image leave open: those of an image from elsewhere."""
        return self._shown[0].gaps if self._shown is not None and not self._live else NO_GAPS

    def _request_shown(self) -> PictureRequest | None:
        """The request of the image that the menu refers to."""
        if not self._live:
            return self._shown[0].request if self._shown is not None else None
        if self._state.request is None or self.canvas.is_empty():
            return None
        return labels.one_of(self._state.request, self.canvas.chosen())


def _renamed(
    recent: RecentImage, found: FoundImage, now: Callable[[PictureRequest], PictureRequest]
) -> tuple[RecentImage, FoundImage]:
    """An image whose request, and that of its steps, name models by the names that `now` returns."""
    return (
        replace(recent, request=now(recent.request) if recent.request is not None else None),
        replace(
            found, steps=replace(steps, request=now(steps.request)) if (steps := found.steps) is not None else None
        ),
    )
