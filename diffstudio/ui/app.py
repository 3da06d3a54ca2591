"""main(): the only place where things are wired together.

The window is painted first; then, one after the other, come the folders of pictures and models, the queue and its worker,
and the heavy imports in the worker's own thread. The other rooms are made when they are first shown.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qasync
from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.events import Cancelled, Event, Failed, Finished, ImageSaved, JobId, Picture, Started
from diffstudio.studio.jobs.memory_forecast import Wanted, needs
from diffstudio.studio.prompts.token_count import count
from diffstudio.studio.requests import GenerateRequest, PictureRequest, UpscaleRequest
from diffstudio.studio.settings import Settings, Theme, read_settings, save
from diffstudio.ui.bridge import Bridge
from diffstudio.ui.generate.queue_and_history import MOST_RECENT, RecentPicture
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.shell import desktop_environment
from diffstudio.ui.shell.downloads import Downloads
from diffstudio.ui.shell.dropped_models import DroppedModels
from diffstudio.ui.shell.exception_hooks import ExceptionHooks
from diffstudio.ui.shell.model_library import ModelLibrary
from diffstudio.ui.shell.run_monitor import RunMonitor
from diffstudio.ui.shell.single_instance import SingleInstance
from diffstudio.ui.shell.sleep_inhibitor import awake
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.images import image_size, read_image, unreadable_reason
from diffstudio.ui.window import MainWindow, RoomEntry

if TYPE_CHECKING:  # read after the first paint
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.runs.runs import Runs, RunSummary
    from diffstudio.studio.worker import Worker

GENERATE, GALLERY, MODELS, TRAIN = "Generate", "Gallery", "Models", "Train"


class Desktop(QObject):
    """The application: owns everything, connects every intent to the one who can do it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.bridge, self.tasks, self.awake = Bridge(), Tasks(), awake()
        self.shelf, self.lookout = ModelLibrary(settings.folders, self.tasks), RunMonitor(self.tasks, settings)
        self.fetcher = Downloads(self.tasks)
        self.gallery: Gallery | None = None
        self.worker: Worker | None = None
        self.runs: Runs | None = None
        self._closed = self._training = self._warm = False
        self._waiting: list[PictureRequest] = []  # asked for before the worker was there
        self.generate_room = GenerateRoom(self.film)
        self.window = MainWindow()
        for entry in (
            RoomEntry(GENERATE, "sparkle", "Make pictures", lambda: self.generate_room),
            RoomEntry(GALLERY, "squares-four", "All pictures made here", self._make_gallery_room),
            RoomEntry(MODELS, "stack", "The checkpoints on this machine", self._make_models_room),
            RoomEntry(TRAIN, "chart-line-up", "Train on a folder of pictures", self._make_train_room),
        ):
            self.window.add_room(entry)
        self.window.show_room(GENERATE)
        self._connect()
        self.generate_room.set_history(settings.prompt_history)
        self.generate_room.panel.prompt.setFocus()

    def _connect(self) -> None:
        room, window = self.generate_room, self.window
        self.bridge.arrived.connect(self.take)
        self.arrivals = DroppedModels(self.shelf)
        self.shelf.changed.connect(self.show_checkpoints)
        self.shelf.failed.connect(lambda sentence: window.show_message("bad", sentence))
        self.lookout.runs_seen.connect(self.show_runs)
        self.lookout.machine_seen.connect(room.set_machine)
        self.lookout.learnt.connect(self.shelf.rescan)
        room.generate_requested.connect(self.generate)
        room.panel.count_wanted.connect(lambda checkpoint, text: self.tasks.start(self._count(checkpoint, text)))
        room.panel.needs_wanted.connect(lambda wanted: self.tasks.start(self._needs(wanted)))
        room.panel.beside_wanted.connect(lambda work, answer: self.tasks.start(self._beside(work, answer)))
        self.lookout.machine_seen.connect(room.panel.ask_needs)
        room.pause_requested.connect(lambda job: self._tell(lambda worker: worker.pause(job)))
        room.resume_requested.connect(lambda job: self._tell(lambda worker: worker.resume(job)))
        room.stop_requested.connect(lambda job: self._tell(lambda worker: worker.stop(job)))
        room.remove_requested.connect(lambda job: self._tell(lambda worker: worker.cancel_pending(job)))
        room.restart_requested.connect(self.restart)
        room.enlarge_wanted.connect(self.enlarge)
        room.fetch_requested.connect(lambda pieces: self.fetcher.ask(window, pieces, self.shelf.library.folders[0]))
        room.fetch_stopped.connect(self.fetcher.stop)
        self.fetcher.coming.connect(room.show_fetching)
        self.fetcher.failed.connect(room.show_not_fetched)
        self.fetcher.fetched.connect(room.show_fetched)
        self.fetcher.fetched.connect(self.shelf.rescan)
        room.move_requested.connect(self.move)
        room.gallery_wanted.connect(lambda: window.show_room(GALLERY))
        room.models_wanted.connect(lambda: window.show_room(MODELS))
        room.training_wanted.connect(lambda: window.show_room(TRAIN))
        window.settings_wanted.connect(self.open_settings)
        window.image_dropped.connect(self.open_picture)
        window.folder_dropped.connect(self.open_folder)
        window.model_dropped.connect(self.arrivals.bring)
        self.arrivals.prompted.connect(self.use_lora)
        self.arrivals.drawing.connect(self.generate_with)
        self.arrivals.said.connect(window.show_message)
        window.shown.connect(self.begin, Qt.ConnectionType.QueuedConnection)

    # After the first paint

    def begin(self) -> None:
        """Everything that the first picture of the window did not need."""
        if self._closed or self.worker is not None:
            return
        self.shelf.rescan()
        try:
            from diffstudio.studio.gallery.gallery import Gallery
            from diffstudio.studio.jobs.queue import Queue
            from diffstudio.studio.runs.runs import Runs
            from diffstudio.studio.worker import Worker

            self.runs = self.runs or Runs(paths.runs())  # what failed is tried again when a room asks for it
            self.gallery = self.gallery or Gallery(self.settings.images, paths.data() / "gallery.sqlite")
            self.worker = Worker(
                Queue(paths.data() / "queue.sqlite"),
                self.shelf.library,
                self.gallery,
                self.settings,
                self.bridge.emit_from_thread,
            )
        except DiffstudioError as error:
            self.window.show_message("bad", str(error))
            return
        self.worker.start()
        for request in self._waiting:
            self.generate(request)
        self._waiting.clear()
        self.show_pending()
        if self.gallery.needs_rescan:
            self.tasks.start(self._recover(self.gallery))
        self.show_recent()
        self.lookout.begin(self.runs)
        self.worker.warm_up()

    async def _recover(self, gallery: Gallery) -> None:
        """The gallery's records were lost: its pictures are still there."""
        await self.tasks.to_thread(gallery.rescan)
        self.show_recent()

    async def _count(self, checkpoint: Checkpoint, text: str) -> None:
        self.generate_room.panel.show_count(checkpoint, text, await self.tasks.to_thread(count, checkpoint, text))

    async def _needs(self, wanted: Wanted) -> None:
        """Of memory, by the job that the panel describes."""
        if self.worker is not None:
            machine = await self.tasks.to_thread(self.worker.machine)
            self.generate_room.panel.show_needs(wanted, needs(wanted, machine) if machine is not None else None)

    async def _beside(self, work: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        answer(await self.tasks.to_thread(work))

    @property
    def checkpoints(self) -> list[Checkpoint]:
        return self.shelf.checkpoints

    def show_checkpoints(self) -> None:
        """What a scan of the folders of models has found."""
        self.generate_room.set_checkpoints(self.checkpoints, len(self.shelf.problems))
        if self.window.has_made(MODELS):
            models_room: Any = self.window.room(MODELS)
            models_room.set_checkpoints(self.checkpoints, self.shelf.problems)
        chosen = self.generate_room.panel.checkpoint.current()
        if not self._warm and chosen is not None and self.worker is not None:
            self._warm = True
            self.worker.warm_up(chosen.name)

    def show_runs(self, summaries: Sequence[RunSummary]) -> None:
        from diffstudio.ui.widgets.formatting import human_duration

        alive = next((summary for summary in summaries if summary.alive), None)
        if alive is None:
            self.generate_room.set_training("", "", None)
        else:
            left = (
                f"{human_duration(alive.left_seconds)} left"
                if alive.left_seconds is not None
                else "pauses for pictures"
            )
            self.generate_room.set_training(
                alive.name, f"{alive.status} · {left}", alive.fraction if alive.steps else None
            )
        self._stay_awake(bool(alive))

    def _stay_awake(self, training: bool = False) -> None:
        self._training = training
        self.awake.hold(training or (self.worker is not None and self.worker.running() is not None))

    # Making pictures

    def generate(self, request: PictureRequest) -> None:
        if self.worker is None:
            self._waiting.append(request)
            return
        self._tell(lambda worker: worker.submit(request))
        self.show_pending()
        if request.prompt and isinstance(request, GenerateRequest):
            self.settings = self.settings.with_prompt(request.prompt)
            self.worker.settings = self.settings
            self.generate_room.set_history(self.settings.prompt_history)
            self._save_settings()

    def restart(self, job: JobId, step: int, request: PictureRequest) -> None:
        self._tell(lambda worker: worker.restart(job, step, request))
        self.show_pending()

    def move(self, job: JobId, way: int) -> None:
        if self.worker is None:
            return
        jobs = [queued.job for queued in self.worker.pending()]
        if job in jobs:
            place = jobs.index(job)
            jobs.insert(min(max(place + way, 0), len(jobs) - 1), jobs.pop(place))
            self._tell(lambda worker: worker.reorder(jobs))
        self.show_pending()

    def film(self, job: JobId) -> list[tuple[Picture, ...]]:
        return self.worker.filmstrip(job) if self.worker is not None else []

    def take(self, event: Event) -> None:
        """What the worker says, on the window's thread."""
        self.generate_room.take(event)
        match event:
            case ImageSaved(path=path):
                if self.window.has_made(GALLERY):
                    self._gallery_room().image_added(path)
            case Started():
                self.show_pending()
                self._stay_awake(self._training)
            case Finished() | Cancelled() | Failed():
                self.show_pending()
                self._stay_awake(self._training)

    def show_pending(self) -> None:
        if self.worker is not None:
            self.generate_room.set_pending(self.worker.pending())

    def show_recent(self) -> None:
        """The newest pictures, small, read beside the window."""
        if self.gallery is not None:
            self.tasks.start(self._show_recent(self.gallery))

    async def _show_recent(self, gallery: Gallery) -> None:
        def read() -> tuple[list[RecentPicture], int]:
            images = gallery.images(0, MOST_RECENT)
            return [
                RecentPicture(image.path, read_image(image.path, 192), image.request) for image in images
            ], gallery.count()

        self.generate_room.set_recent(*await self.tasks.to_thread(read))

    def _tell(self, what: Callable[[Worker], Any]) -> None:
        """Ask the worker for something, and say what it refuses."""
        if self.worker is None:
            return
        try:
            what(self.worker)
        except DiffstudioError as error:
            self.generate_room.show_message("bad", str(error))

    # The other rooms

    def _make_gallery_room(self) -> QWidget:
        from diffstudio.ui.gallery.room import GalleryRoom

        if self.gallery is None:
            self.begin()
        if self.gallery is None:
            raise StorageProblem(
                "The gallery could not be opened", remedy="Free some space or choose another folder in Settings"
            )
        room = GalleryRoom(self.gallery)
        room.reuse_requested.connect(self.use)
        room.enlarge_wanted.connect(self.enlarge)
        room.generate_requested.connect(lambda: self.window.show_room(GENERATE))
        room.changed.connect(self.show_recent)
        return room

    def _make_models_room(self) -> QWidget:
        from diffstudio.ui.models.room import ModelsRoom

        if self.gallery is None:
            self.begin()
        room = ModelsRoom(self.gallery, home=lambda: self.shelf.library.folders[0])
        room.generate_requested.connect(self.generate_with)
        room.lora_wanted.connect(self.use_lora)
        room.words_wanted.connect(self.generate_room.panel.add_words)
        room.rescan_requested.connect(self.shelf.rescan)
        room.delete_requested.connect(
            lambda entry: self.shelf.delete(entry.path)
        )  # a Checkpoint, or what cannot be used
        room.import_requested.connect(self.shelf.bring)
        self.shelf.bringing.connect(room.show_bringing)
        self.shelf.brought.connect(room.show_brought)
        room.set_checkpoints(self.checkpoints, self.shelf.problems)
        return room

    def _make_train_room(self) -> QWidget:
        from diffstudio.ui.train.room import TrainRoom

        if self.runs is None:
            self.begin()
        if self.runs is None:
            raise StorageProblem(
                "The training runs could not be opened", remedy="Free some space and start diffstudio again"
            )
        room = TrainRoom(self.runs)
        room.checkpoint_ready.connect(lambda path: self.shelf.rescan())
        room.run_removed.connect(lambda path: self.shelf.rescan())
        room.generate_requested.connect(self.generate_with_file)
        return room

    def _gallery_room(self) -> Any:
        return self.window.room(GALLERY)

    def use(self, request: PictureRequest) -> None:
        if isinstance(request, GenerateRequest):
            self.window.show_room(GENERATE)
        self.generate_room.use(request)

    def enlarge(self, path: Path, before: UpscaleRequest | None = None) -> None:
        """Ask how a picture is to be enlarged: as it was `before`, or by what the picture says of itself."""
        self.tasks.start(self._enlarge(path, before))

    async def _enlarge(self, path: Path, before: UpscaleRequest | None) -> None:
        from diffstudio.studio.generation.upscaler_lookup import upscale_from
        from diffstudio.ui.generate.upscale_dialog import UpscaleDialog

        image = await self.tasks.to_thread(read_image, path, 256)
        if image.isNull():
            self.window.show_message("warn", f"{path.name} cannot be read as a picture, so it cannot be enlarged.")
            return
        base = before if before is not None else await self.tasks.to_thread(upscale_from, path)
        chosen = self.generate_room.panel.checkpoint.current()
        dialog = UpscaleDialog(
            base,
            image,
            image_size(path),
            self.checkpoints,
            chosen.name if chosen is not None else "",
            self.window,
            sampled=before is not None and bool(before.checkpoint),
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.enlarge_requested.connect(self.generate)
        dialog.enlarge_requested.connect(lambda: self.window.show_room(GENERATE))
        dialog.open()

    def generate_with(self, checkpoint: Checkpoint) -> None:
        self.window.show_room(GENERATE)
        self.generate_room.choose_checkpoint(checkpoint)

    def use_lora(self, model: Checkpoint) -> None:
        """Show the Generate room with a LoRA, or a textual inversion, in its prompt."""
        self.window.show_room(GENERATE)
        self.generate_room.panel.use_lora(model)
        self.generate_room.panel.prompt.setFocus()

    def generate_with_file(self, path: Path) -> None:
        """From what a run has learnt, which may be newer than the last scan."""
        self.tasks.start(self._generate_with_file(path))

    async def _generate_with_file(self, path: Path) -> None:
        made = await self.shelf.find(path)
        if made is None:
            self.window.show_message("warn", f"There is no checkpoint at {path} yet.")
        else:
            self.generate_with(made)

    def open_folder(self, folder: Path) -> None:
        """A folder dropped on the window is one to train on."""
        room: Any = self.window.show_room(TRAIN)
        room.inspect(folder)

    def open_picture(self, path: Path) -> None:
        """A picture dropped on the window: show how it was made."""
        self.tasks.start(self._open_picture(path))

    async def _open_picture(self, path: Path) -> None:
        from diffstudio.studio.metadata import metadata
        from diffstudio.ui.generate.image_settings_dialog import PictureSettingsDialog

        try:
            settings = await self.tasks.to_thread(metadata.read, path)
        except DiffstudioError as error:
            if (await self.tasks.to_thread(read_image, path, 64)).isNull():
                why = await self.tasks.to_thread(unreadable_reason, path)
                self.window.show_message(
                    "warn", f"{path.name} cannot be opened: {why}. Choose another picture." if why else str(error)
                )
            else:  # a picture that says nothing about itself is one to start from
                self.start_from(path)
            return
        except OSError as error:
            self.window.show_message("warn", f"{path.name} could not be read: {error}.")
            return
        dialog = PictureSettingsDialog(path, await self.tasks.to_thread(read_image, path, 512), settings, self.window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.use_requested.connect(self.use)
        dialog.start_requested.connect(lambda: self.start_from(path))
        dialog.enlarge_requested.connect(lambda: self.enlarge(path))
        dialog.open()

    def start_from(self, path: Path) -> None:
        """Show the Generate room with this picture to start from."""
        self.window.show_room(GENERATE)
        self.generate_room.start_from(path)

    # Settings

    def open_settings(self) -> None:
        from diffstudio.ui.settings_dialog import SettingsDialog

        dialog = SettingsDialog(self.settings, self.awake.how, self.window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.changed.connect(self.set_settings)
        dialog.open()

    def set_settings(self, settings: Settings) -> None:
        before, self.settings = self.settings, settings
        self.lookout.settings = settings
        if settings.theme != before.theme:
            self.dress()
        if self.worker is not None:
            self.worker.settings = settings
        if settings.folders != before.folders:
            self.shelf.set_folders(settings.folders)
        if settings.images != before.images:
            self.window.show_message(
                "info", f"Pictures are kept in {settings.images} from the next start of diffstudio on."
            )
        self._save_settings()

    def dress(self) -> None:
        """In the theme of the settings; again when the system changes its own."""
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        if theme.resolve(self.settings.theme) != theme.name():
            theme.apply(app, self.settings.theme)

    def system_theme_changed(self) -> None:
        if self.settings.theme is Theme.SYSTEM:
            self.dress()

    def _save_settings(self) -> None:
        try:
            save(self.settings)
        except DiffstudioError as error:
            self.window.show_message("bad", str(error))

    # The end

    def close(self) -> None:
        """Leave nothing behind: no thread, no socket. A job in the middle waits in the queue for the next start."""
        if self._closed:
            return
        self._closed = True
        self.lookout.end()
        self.bridge.close()
        for name in (GALLERY, MODELS, TRAIN):
            if self.window.has_made(name):
                room: Any = self.window.room(name)
                room.shut_down()
        self.shelf.close()
        self.fetcher.stop()
        self.tasks.close()
        if self.worker is not None:
            self.worker.close()
        if self.gallery is not None:
            self.gallery.close()
        self.awake.hold(False)


def _raised_in_the_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio would write it to its own log: show it in the window, as everything that nobody caught."""
    error = context.get("exception") or RuntimeError(context["message"])
    sys.excepthook(type(error), error, error.__traceback__)


def main(argv: Sequence[str]) -> int:
    """The desktop application, until its window is closed. Where one is open already, that one comes forward."""
    app = desktop_environment.application(argv)
    app.setApplicationName("diffstudio")
    app.setApplicationDisplayName("diffstudio")
    QGuiApplication.setDesktopFileName("diffstudio")
    instance = SingleInstance(paths.data())
    if instance.hand_over():
        return 0
    instance.listen()
    troubles = ExceptionHooks(paths.data() / "log.txt")
    troubles.install()
    loaded = read_settings()
    icons.load_fonts()
    theme.apply(app, loaded.settings.theme)
    loop = qasync.QEventLoop(app)
    loop.set_exception_handler(_raised_in_the_loop)
    desktop = Desktop(loaded.settings)
    if loaded.problem:
        desktop.window.show_message("warn", loaded.problem)
    troubles.told.connect(lambda sentence: desktop.window.show_message("bad", sentence))
    instance.called.connect(desktop.window.come_forward)
    app.styleHints().colorSchemeChanged.connect(desktop.system_theme_changed)
    undo_signals = desktop_environment.close_on_signals(desktop.window)
    app.aboutToQuit.connect(instance.stop_listening)
    app.aboutToQuit.connect(desktop.close)  # while the loop runs: what waits is cancelled in it
    desktop.window.show()
    try:
        return loop.run_forever()
    finally:
        desktop.close()
        loop.close()
        instance.close()  # now the next one may open: the queue and the accelerator are free
        undo_signals()
        troubles.remove()
