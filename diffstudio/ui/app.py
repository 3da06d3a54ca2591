"""main(): the only place where things are wired together.

The window is painted first; then, one after the other, come the folders of pictures and models, the queue and its worker,
and the heavy imports in the worker's own thread. The other rooms are made when they are first shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Qt, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QWidget

from diffstudio import paths
from diffstudio.errors import DiffstudioError, StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library import Library
from diffstudio.studio.events import Cancelled, Event, Failed, Finished, ImageSaved, JobId, Picture, Started
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.settings import Settings, Theme, read_settings, save
from diffstudio.ui import assets, theme
from diffstudio.ui.awake import awake
from diffstudio.ui.bridge import Bridge
from diffstudio.ui.generate.recent import MOST_RECENT, RecentPicture
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.pictures import read_image
from diffstudio.ui.single import SingleInstance
from diffstudio.ui.system import close_on_signals, machine
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.troubles import Troubles
from diffstudio.ui.window import MainWindow, RoomEntry

if TYPE_CHECKING:  # read after the first paint
    from diffstudio.studio.gallery import Gallery
    from diffstudio.studio.runs import Runs, RunSummary
    from diffstudio.studio.worker import Worker

_LOOK_MS = 3000     # between two looks at the training runs and the memory
GENERATE, GALLERY, MODELS, TRAIN = "Generate", "Gallery", "Models", "Train"


class Desktop(QObject):
    """The application: owns everything, connects every intent to the one who can do it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.bridge, self.tasks, self.awake = Bridge(), Tasks(), awake()
        self.library = Library(settings.folders)
        self.checkpoints: list[Checkpoint] = []
        self.gallery: Gallery | None = None
        self.worker: Worker | None = None
        self.runs: Runs | None = None
        self._looking = self._closed = self._training = False
        self._trained: set[tuple[Path, float]] | None = None   # what runs had learnt at the last look
        self._waiting: list[GenerateRequest] = []      # asked for before the worker was there
        self.generate_room = GenerateRoom(self.film)
        self.window = MainWindow()
        self.timer = QTimer(self)
        self.timer.setInterval(_LOOK_MS)
        self.timer.timeout.connect(self.look)
        for entry in (RoomEntry(GENERATE, "sparkle", "Make pictures", lambda: self.generate_room),
                      RoomEntry(GALLERY, "squares-four", "All pictures made here", self._make_gallery_room),
                      RoomEntry(MODELS, "stack", "The checkpoints on this machine", self._make_models_room),
                      RoomEntry(TRAIN, "chart-line-up", "Train on a folder of pictures", self._make_train_room)):
            self.window.add_room(entry)
        self.window.show_room(GENERATE)
        self._connect()
        self.generate_room.set_history(settings.prompt_history)
        self.generate_room.panel.prompt.setFocus()

    def _connect(self) -> None:
        room, window = self.generate_room, self.window
        self.bridge.arrived.connect(self.take)
        room.generate_requested.connect(self.generate)
        room.pause_requested.connect(lambda job: self._tell(lambda worker: worker.pause(job)))
        room.resume_requested.connect(lambda job: self._tell(lambda worker: worker.resume(job)))
        room.stop_requested.connect(lambda job: self._tell(lambda worker: worker.stop(job)))
        room.remove_requested.connect(lambda job: self._tell(lambda worker: worker.cancel_pending(job)))
        room.restart_requested.connect(self.restart)
        room.move_requested.connect(self.move)
        room.gallery_wanted.connect(lambda: window.show_room(GALLERY))
        room.models_wanted.connect(lambda: window.show_room(MODELS))
        room.training_wanted.connect(lambda: window.show_room(TRAIN))
        window.settings_wanted.connect(self.open_settings)
        window.picture_dropped.connect(self.open_picture)
        window.folder_dropped.connect(self.open_folder)
        window.shown.connect(self.begin, Qt.ConnectionType.QueuedConnection)

    # After the first paint

    def begin(self) -> None:
        """Everything that the first picture of the window did not need."""
        if self._closed or self.worker is not None:
            return
        self.rescan()
        try:
            from diffstudio.studio.gallery import Gallery
            from diffstudio.studio.queue import Queue
            from diffstudio.studio.runs import Runs
            from diffstudio.studio.worker import Worker

            self.runs = Runs(paths.runs())
            self.gallery = Gallery(self.settings.images, paths.data() / "gallery.sqlite")
            self.worker = Worker(Queue(paths.data() / "queue.sqlite"), self.library, self.gallery, self.settings,
                                 self.bridge.emit_from_thread)
        except DiffstudioError as error:
            self.window.say("bad", str(error))
            return
        self.worker.start()
        for request in self._waiting:
            self.generate(request)
        self._waiting.clear()
        self.show_pending()
        if self.gallery.needs_rescan:
            self.tasks.run(self.gallery.rescan, lambda _: self.show_recent())
        self.show_recent()
        self.look()
        self.timer.start()
        self.worker.warm_up()

    def rescan(self) -> None:
        """Read the folders of models again, beside the window."""
        def done(found: list[Checkpoint]) -> None:
            first = not self.checkpoints
            self.checkpoints = found
            self.generate_room.set_checkpoints(found, len(self.library.problems))
            if self.window.has_made(MODELS):
                self._models_room().set_checkpoints(found, self.library.problems)
            chosen = self.generate_room.panel.checkpoint.current()
            if first and chosen is not None and self.worker is not None:
                self.worker.warm_up(chosen.name)

        self.tasks.run(self.library.scan, done)

    def look(self) -> None:
        """At the training runs and the memory, beside the window."""
        if self._looking or self.runs is None:
            return
        self._looking = True
        runs, settings = self.runs, self.settings

        def done(seen: tuple[list[RunSummary], str]) -> None:
            self._looking = False
            self._show_runs(seen[0])
            self.generate_room.set_machine(seen[1])

        def failed(error: BaseException) -> None:
            self._looking = False

        self.tasks.run(lambda: (runs.list(), machine(settings)), done, failed)

    def _show_runs(self, summaries: Sequence[RunSummary]) -> None:
        from diffstudio.ui.controls import human_duration

        alive = next((summary for summary in summaries if summary.alive), None)
        if alive is None:
            self.generate_room.set_training("", "", None)
        else:
            left = f"{human_duration(alive.left_seconds)} left" if alive.left_seconds is not None else "pauses for pictures"
            self.generate_room.set_training(alive.name, f"{alive.status} · {left}", alive.fraction if alive.steps else None)
        trained = {(summary.checkpoint, summary.checkpoint.stat().st_mtime) for summary in summaries
                   if summary.checkpoint is not None and summary.checkpoint.exists()}
        if self._trained is not None and trained != self._trained:
            self.rescan()
        self._trained = trained
        self._stay_awake(bool(alive))

    def _stay_awake(self, training: bool = False) -> None:
        self._training = training
        self.awake.hold(training or (self.worker is not None and self.worker.running() is not None))

    # Making pictures

    def generate(self, request: GenerateRequest) -> None:
        if self.worker is None:
            self._waiting.append(request)
            return
        self._tell(lambda worker: worker.submit(request))
        self.show_pending()
        if request.prompt:
            self.settings = self.settings.with_prompt(request.prompt)
            self.worker.settings = self.settings
            self.generate_room.set_history(self.settings.prompt_history)
            self._save_settings()

    def restart(self, job: JobId, step: int, request: GenerateRequest) -> None:
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
        gallery = self.gallery
        if gallery is None:
            return

        def read() -> tuple[list[RecentPicture], int]:
            images = gallery.images(0, MOST_RECENT)
            return [RecentPicture(image.path, read_image(image.path, 192), image.request) for image in images], gallery.count()

        self.tasks.run(read, lambda found: self.generate_room.set_recent(*found))

    def _tell(self, what: Callable[[Worker], Any]) -> None:
        """Ask the worker for something, and say what it refuses."""
        if self.worker is None:
            return
        try:
            what(self.worker)
        except DiffstudioError as error:
            self.generate_room.say("bad", str(error))

    # The other rooms

    def _make_gallery_room(self) -> QWidget:
        from diffstudio.ui.gallery.room import GalleryRoom

        if self.gallery is None:
            self.begin()
        if self.gallery is None:
            raise StorageProblem("The gallery could not be opened", remedy="Free some space or choose another folder in Settings")
        room = GalleryRoom(self.gallery)
        room.reuse_requested.connect(self.use)
        room.generate_requested.connect(lambda: self.window.show_room(GENERATE))
        room.changed.connect(self.show_recent)
        return room

    def _make_models_room(self) -> QWidget:
        from diffstudio.ui.models.room import ModelsRoom

        room = ModelsRoom()
        room.generate_requested.connect(self.generate_with)
        room.rescan_requested.connect(self.rescan)
        room.delete_requested.connect(self.delete_checkpoint)
        room.set_checkpoints(self.checkpoints, self.library.problems)
        return room

    def _make_train_room(self) -> QWidget:
        from diffstudio.ui.train.room import TrainRoom

        if self.runs is None:
            self.begin()
        if self.runs is None:
            raise StorageProblem("The training runs could not be opened", remedy="Free some space and start diffstudio again")
        room = TrainRoom(self.runs)
        room.checkpoint_ready.connect(lambda path: self.rescan())
        room.generate_requested.connect(self.generate_with_file)
        return room

    def _gallery_room(self) -> Any:
        return self.window.room(GALLERY)

    def _models_room(self) -> Any:
        return self.window.room(MODELS)

    def use(self, request: GenerateRequest) -> None:
        self.window.show_room(GENERATE)
        self.generate_room.use(request)

    def generate_with(self, checkpoint: Checkpoint) -> None:
        self.window.show_room(GENERATE)
        self.generate_room.choose_checkpoint(checkpoint)

    def generate_with_file(self, path: Path) -> None:
        """From what a run has learnt, which may be newer than the last scan."""
        def done(found: list[Checkpoint]) -> None:
            self.checkpoints = found
            self.generate_room.set_checkpoints(found, len(self.library.problems))
            made = next((checkpoint for checkpoint in found if checkpoint.path == path.absolute()), None)
            if made is None:
                self.window.say("warn", f"There is no checkpoint at {path} yet.")
            else:
                self.generate_with(made)

        self.tasks.run(self.library.scan, done)

    def delete_checkpoint(self, checkpoint: Checkpoint) -> None:
        """To the system's trash."""
        def work() -> None:
            from send2trash import send2trash

            send2trash(checkpoint.path)

        def failed(error: BaseException) -> None:
            self.window.say("bad", f"{checkpoint.title} could not be put into the trash: {error}. "
                                   f"Delete {checkpoint.path} yourself.")

        self.tasks.run(work, lambda _: self.rescan(), failed)

    def open_folder(self, folder: Path) -> None:
        """A folder dropped on the window is one to train on."""
        room: Any = self.window.show_room(TRAIN)
        room.inspect(folder)

    def open_picture(self, path: Path) -> None:
        """A picture dropped on the window: show how it was made."""
        from diffstudio.studio import metadata

        def done(read: tuple[Any, Any]) -> None:
            from diffstudio.ui.generate.dropped import PictureSettingsDialog

            settings, image = read
            dialog = PictureSettingsDialog(path, image, settings, self.window)
            dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            dialog.use_requested.connect(self.use)
            dialog.open()

        def failed(error: BaseException) -> None:
            said = str(error) if isinstance(error, DiffstudioError) else f"{path.name} could not be read: {error}."
            self.window.say("warn", said)

        self.tasks.run(lambda: (metadata.read(path), read_image(path, 512)), done, failed)

    # Settings

    def open_settings(self) -> None:
        from diffstudio.ui.settings_dialog import SettingsDialog

        dialog = SettingsDialog(self.settings, self.awake.how, self.window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.changed.connect(self.set_settings)
        dialog.open()

    def set_settings(self, settings: Settings) -> None:
        before, self.settings = self.settings, settings
        if settings.theme != before.theme:
            self.dress()
        if self.worker is not None:
            self.worker.settings = settings
        if settings.folders != before.folders:
            self.library.folders = settings.folders
            self.rescan()
        if settings.images != before.images:
            self.window.say("info", f"Pictures are kept in {settings.images} from the next start of diffstudio on.")
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
            self.window.say("bad", str(error))

    # The end

    def close(self) -> None:
        """Leave nothing behind: no thread, no socket. A job in the middle waits in the queue for the next start."""
        if self._closed:
            return
        self._closed = True
        self.timer.stop()
        self.bridge.close()
        for name in (GALLERY, TRAIN):
            if self.window.has_made(name) and hasattr(room := self.window.room(name), "shut_down"):
                room.shut_down()
        self.tasks.close()
        if self.worker is not None:
            self.worker.close()
        if self.gallery is not None:
            self.gallery.close()
        self.awake.hold(False)


def main(argv: Sequence[str]) -> int:
    """The desktop application, until its window is closed. Where one is open already, that one comes forward."""
    app = QApplication([sys.argv[0], *argv])
    app.setApplicationName("diffstudio")
    app.setApplicationDisplayName("diffstudio")
    QGuiApplication.setDesktopFileName("diffstudio")
    instance = SingleInstance(paths.data())
    if instance.hand_over():
        return 0
    instance.listen()
    troubles = Troubles(paths.data() / "log.txt")
    troubles.install()
    loaded = read_settings()
    assets.load_fonts()
    theme.apply(app, loaded.settings.theme)
    desktop = Desktop(loaded.settings)
    if loaded.problem:
        desktop.window.say("warn", loaded.problem)
    troubles.told.connect(lambda sentence: desktop.window.say("bad", sentence))
    instance.called.connect(desktop.window.come_forward)
    app.styleHints().colorSchemeChanged.connect(desktop.system_theme_changed)
    undo_signals = close_on_signals(desktop.window)
    desktop.window.show()
    try:
        return app.exec()
    finally:
        instance.stop_listening()
        desktop.close()
        instance.close()  # now the next one may open: the queue and the accelerator are free
        undo_signals()
        troubles.remove()
