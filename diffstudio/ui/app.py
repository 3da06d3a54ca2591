"""main(): the only place where the application is put together.

The window is painted first; then come, one after the other, the image and model folders, the queue with its worker, and
the slow imports in the worker's own thread. Rooms other than Generate are made when they are first shown.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import qasync
from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QWidget

from diffstudio import paths
from diffstudio.errors import FREE_SPACE_OR_FOLDER, DiffstudioError, StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.settings import Settings, read_settings
from diffstudio.ui.bridge import Bridge
from diffstudio.ui.shell import desktop_environment
from diffstudio.ui.shell.downloads import Downloads
from diffstudio.ui.shell.dropped_models import DroppedModels
from diffstudio.ui.shell.exception_hooks import ExceptionHooks
from diffstudio.ui.shell.garbage_collector import GarbageCollector
from diffstudio.ui.shell.model_library import ModelLibrary
from diffstudio.ui.shell.run_monitor import RunMonitor
from diffstudio.ui.shell.single_instance import Claim, SingleInstance
from diffstudio.ui.shell.sleep_inhibitor import make_sleep_inhibitor
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.images.image_menu import ImageActions
from diffstudio.ui.window import MainWindow, RoomEntry
from diffstudio.ui.wiring.file_writer import FileWriter
from diffstudio.ui.wiring.gallery import GalleryController
from diffstudio.ui.wiring.help import HelpController
from diffstudio.ui.wiring.image_menus import ImageMenus
from diffstudio.ui.wiring.images import ImageController
from diffstudio.ui.wiring.jobs import JobController
from diffstudio.ui.wiring.kept_steps import KeptStepsController
from diffstudio.ui.wiring.lab import LabController
from diffstudio.ui.wiring.model_files import ModelFilesController
from diffstudio.ui.wiring.navigation import GALLERY, GENERATE, LAB, MODELS, TRAIN, Navigation
from diffstudio.ui.wiring.notifications import NotificationController
from diffstudio.ui.wiring.panel_state import PanelStateController
from diffstudio.ui.wiring.preferences import PreferencesController
from diffstudio.ui.wiring.queue import QueueController
from diffstudio.ui.wiring.storage import Storage, open_storage

if TYPE_CHECKING:  # imported after the first paint
    from diffstudio.studio.gallery.gallery import Gallery
    from diffstudio.studio.runs.runs import Runs
    from diffstudio.studio.worker import Worker


class Desktop(QObject):
    """The application: owns every service and room, and connects them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.garbage_collector = GarbageCollector()
        self.bridge, self.tasks, self.sleep_inhibitor = Bridge(), Tasks(), make_sleep_inhibitor()
        self.model_library = ModelLibrary(settings.folders, self.tasks)
        self.run_monitor = RunMonitor(self.tasks, settings)
        self.downloads = Downloads(self.tasks)
        self.dropped_models = DroppedModels(self.model_library)
        self.gallery: Gallery | None = None
        self.runs: Runs | None = None
        self._closed = self._warmed_up = False
        self._opening: Future[Storage] | None = None  # the gallery and the queue, which are opened in a thread
        self.jobs = JobController(self.tasks, self.sleep_inhibitor)
        self.kept_steps = KeptStepsController(self.tasks)
        self.generate_room = self.jobs.room
        self.window = MainWindow()
        self.navigation = Navigation(
            self.window, self.generate_room, self.model_library, self.tasks, lambda: self.gallery
        )
        self.images = ImageController(self.tasks, self.window, self._models)
        self.image_menus = ImageMenus(self.tasks, self.window, lambda: self.gallery)
        self.file_writer = FileWriter()
        self.gallery_controller = GalleryController(
            self.window, self.jobs, self.tasks, self.file_writer, lambda: self.gallery
        )
        self.preferences = PreferencesController(settings, self.window, self.sleep_inhibitor, self.file_writer)
        self.panel_state = PanelStateController(self.generate_room, self.file_writer)
        self.queue = QueueController(
            self.jobs, self.panel_state, self.images, self.model_library, self.tasks, lambda: self.gallery
        )
        self.notifications = NotificationController(self.jobs, self.preferences.notifier, lambda: self.settings)
        self.lab = LabController(self.window, self.jobs, self.model_library, self.tasks, self.notifications)
        self.model_files = ModelFilesController(
            self.model_library, self.preferences, self.jobs, self.panel_state, self.queue, self.lab, self.tasks
        )
        self.help = HelpController(self.window, self.tasks, lambda: self.settings)
        for entry in (
            RoomEntry(GENERATE, "sparkle", "Generate images", lambda: self.generate_room),
            RoomEntry(GALLERY, "squares-four", "All images made here", self._make_gallery_room),
            RoomEntry(MODELS, "stack", "Checkpoints, LoRAs and other models", self._make_models_room),
            RoomEntry(TRAIN, "chart-line-up", "Train a model on a folder of images", self._make_train_room),
            RoomEntry(LAB, "flask", "Measure models and folders of images", self._make_lab_room),
        ):
            self.window.add_room(entry)
        self.window.show_room(GENERATE)
        self._connect_services()
        self._connect_generate_room()
        self.generate_room.set_history(settings.prompt_history)
        self.panel_state.restore()
        self.generate_room.panel.prompt.setFocus()

    @property
    def settings(self) -> Settings:
        return self.preferences.settings

    @property
    def worker(self) -> Worker | None:
        return self.jobs.worker

    @property
    def checkpoints(self) -> list[Checkpoint]:
        return self.model_library.checkpoints

    def _models(self) -> tuple[Sequence[Checkpoint], Checkpoint | None]:
        return self.checkpoints, self.generate_room.panel.checkpoint.current()

    def _connect_services(self) -> None:
        window = self.window
        window.first_painted.connect(self.start_services, Qt.ConnectionType.QueuedConnection)
        window.settings_requested.connect(self.preferences.open_dialog)
        window.image_dropped.connect(self.images.open)
        window.folder_dropped.connect(self.navigation.inspect_training_folder)
        window.models_dropped.connect(self.dropped_models.import_files)
        self.bridge.arrived.connect(self.notifications.handle_event)
        self.bridge.arrived.connect(self.jobs.handle_event)
        self.kept_steps.failed.connect(lambda sentence: window.show_message("warn", sentence))
        self.preferences.changed.connect(self.kept_steps.apply)
        self.preferences.dialog_opened.connect(self.kept_steps.serve)
        self.jobs.prompt_used.connect(self.preferences.add_prompt)
        self.preferences.changed.connect(self._settings_changed)
        self.images.upscale_requested.connect(self.jobs.submit)
        self.images.upscale_requested.connect(lambda: window.show_room(GENERATE))
        self.images.settings_chosen.connect(self.navigation.use_settings)
        self.image_menus.changed.connect(self.gallery_controller.show_changed)
        self.image_menus.deleted.connect(self.gallery_controller.show_deleted)
        self.image_menus.restored.connect(lambda _: self.gallery_controller.refresh())
        self.images.start_requested.connect(self.navigation.start_from)
        self.model_library.changed.connect(self.show_checkpoints)
        self.file_writer.failed.connect(lambda message: window.show_message("bad", message))
        self.model_library.failed.connect(lambda message: window.show_message("bad", message))
        self.run_monitor.runs_updated.connect(self.jobs.show_training)
        self.run_monitor.runs_updated.connect(self.notifications.runs_updated)
        self.run_monitor.checkpoints_changed.connect(self.model_library.rescan)
        self.dropped_models.prompt_model_imported.connect(self.navigation.use_lora)
        self.dropped_models.checkpoint_imported.connect(self.navigation.generate_with)
        self.dropped_models.message.connect(window.show_message)

    def _connect_generate_room(self) -> None:
        room, window = self.generate_room, self.window
        self._attach(room.image_actions)
        self.run_monitor.device_status_changed.connect(room.set_device_status)
        self.run_monitor.device_status_changed.connect(room.panel.request_memory_forecast)
        room.upscale_requested.connect(self.images.upscale)
        failed_jobs = room.failed_jobs
        failed_jobs.download_requested.connect(
            lambda missing: self.downloads.confirm(window, missing, self.model_library.library.folders[0])
        )
        failed_jobs.download_stopped.connect(self.downloads.stop)
        self.downloads.progress.connect(failed_jobs.show_download_progress)
        self.downloads.failed.connect(failed_jobs.show_download_failed)
        self.downloads.finished.connect(failed_jobs.show_download_finished)
        self.downloads.finished.connect(self.model_library.rescan)
        self.downloads.finished.connect(lambda text: self.notifications.notify("Download finished", text))
        room.gallery_requested.connect(lambda: window.show_room(GALLERY))
        room.models_room_requested.connect(lambda: window.show_room(MODELS))
        room.rescan_requested.connect(self.model_library.rescan)
        room.train_room_requested.connect(lambda: window.show_room(TRAIN))

    def _attach(self, actions: ImageActions) -> None:
        """Answer the menu of an image in a room other than the gallery."""
        self.image_menus.attach(actions)
        actions.compare_requested.connect(self.navigation.compare)

    # After the first paint

    def start_services(self) -> None:
        """Start everything that the first paint of the window did not need."""
        if self._closed or self.worker is not None or self._opening is not None:
            return
        self.model_library.rescan()
        self._opening = self.tasks.submit(open_storage, self.settings.images, self.gallery)
        self.tasks.start(self._start_when_open(self._opening))

    async def _start_when_open(self, opening: Future[Storage]) -> None:
        await asyncio.wait([asyncio.wrap_future(opening)])
        self._finish_start()

    def _start_now(self) -> None:
        """For a room that needs the databases: wait until they are open."""
        self.start_services()
        self._finish_start()

    def _finish_start(self) -> None:
        if (opening := self._opening) is None:
            return
        self._opening = None
        storage = opening.result()
        self.gallery = storage.gallery
        try:
            from diffstudio.studio.runs.runs import Runs
            from diffstudio.studio.worker import Worker

            self.runs = self.runs or Runs(paths.runs())  # what failed is tried again when a room asks for it
            if storage.problem is not None:
                raise storage.problem
            assert self.gallery is not None and storage.queue is not None
            if storage.queue.damage:
                self.window.show_message("warn", f"{storage.queue.damage}.")
            step_store = self.kept_steps.start(self.settings, self.gallery)
            worker = Worker(
                storage.queue,
                self.model_library.library,
                self.gallery,
                self.settings,
                self.bridge.emit_from_thread,
                step_store=step_store,
            )
        except DiffstudioError as error:
            self.window.show_message("bad", str(error))
            return
        self.jobs.start(worker, self.gallery, step_store)
        self.gallery_controller.start(self.gallery)
        self.jobs.show_recent()
        self.run_monitor.start(self.runs)
        self.lab.start(worker.live)
        worker.warm_up()

    def show_checkpoints(self) -> None:
        """Show what a scan of the model folders has found."""
        self.generate_room.set_checkpoints(self.checkpoints, len(self.model_library.problems))
        self.model_files.show_checkpoints()
        self.lab.show_checkpoints()
        chosen = self.generate_room.panel.checkpoint.current()
        if not self._warmed_up and chosen is not None and self.worker is not None:
            self._warmed_up = True
            self.worker.warm_up(chosen.name)

    def _settings_changed(self, before: Settings, settings: Settings) -> None:
        self.run_monitor.settings = settings
        if self.worker is not None:
            self.worker.settings = settings
        if settings.folders != before.folders:
            self.model_library.set_folders(settings.folders)
        if settings.prompt_history != before.prompt_history:
            self.generate_room.set_history(settings.prompt_history)

    # The other rooms

    def _make_gallery_room(self) -> QWidget:
        if self.gallery is None:
            self._start_now()
        if self.gallery is None:
            raise StorageProblem("The gallery could not be opened", remedy=f"{FREE_SPACE_OR_FOLDER} in Settings")
        return self.gallery_controller.make_room(self.gallery, self.navigation, self.images)

    def _make_models_room(self) -> QWidget:
        if self.gallery is None:
            self._start_now()
        room = self.model_files.make_room(self.gallery, self.navigation)
        self._attach(room.image_actions)
        room.image_actions.upscale_requested.connect(self.images.upscale)
        self.image_menus.deleted.connect(room.refresh_images)
        self.image_menus.restored.connect(room.refresh_images)
        return room

    def _make_train_room(self) -> QWidget:
        from diffstudio.ui.train.room import TrainRoom

        if self.runs is None:
            self._start_now()
        if self.runs is None:
            raise StorageProblem(
                "The training runs could not be opened", remedy="Free some space and start diffstudio again"
            )
        room = TrainRoom(self.runs, self.file_writer.write)
        room.checkpoint_ready.connect(lambda path: self.model_library.rescan())
        room.run_removed.connect(lambda path: self.model_library.rescan())
        room.generate_requested.connect(self.navigation.generate_with_file)
        self._attach(room.image_actions)
        room.image_actions.start_requested.connect(self.navigation.start_from)
        room.image_actions.paint_requested.connect(self.navigation.paint_on)
        room.image_actions.upscale_requested.connect(self.images.upscale)
        return room

    def _make_lab_room(self) -> QWidget:
        room = self.lab.make_room(self.navigation, self.images)
        self._attach(room.image_actions)
        return room

    def close(self) -> None:
        """Stop every thread and close every file. A job under way is kept in the queue for the next start."""
        if self._closed:
            return
        self._closed = True
        self.gallery_controller.stop()
        self.panel_state.close()
        self.file_writer.close()
        self.run_monitor.stop()
        self.bridge.close()
        for name in (GALLERY, MODELS, TRAIN):
            if self.window.has_made(name):
                room: Any = self.window.room(name)
                room.shut_down()
        self.lab.close()
        self.model_library.close()
        self.downloads.stop()
        self.tasks.close()
        if (opening := self._opening) is not None and not opening.cancelled() and opening.exception() is None:
            opening.result().close()
        self.jobs.close()
        if self.worker is not None:
            self.worker.close()
        self.kept_steps.close()
        if self.gallery is not None:
            self.gallery.on_damage = None
            self.gallery.close()
        self.preferences.notifier.close()
        self.sleep_inhibitor.hold(False)
        self.garbage_collector.close()


def _report_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Show an exception that asyncio would only log in the window, like every other uncaught one."""
    error = context.get("exception") or RuntimeError(context["message"])
    sys.excepthook(type(error), error, error.__traceback__)


def _unresponsive(pid: int | None) -> str:
    process = f"its process, {pid}," if pid is not None else "its process"
    return (
        f"diffstudio is already open with the data folder {paths.data()}, but its window does not respond. "
        f"Wait until it has finished, or end {process} and start again."
    )


def main(argv: Sequence[str]) -> int:
    """Run the desktop application until its window is closed; if one is open already, bring that one to the front.

    Returns 1 when that one does not respond: two windows must not share a data folder.
    """
    app = desktop_environment.application(argv)
    app.setApplicationName("diffstudio")
    app.setApplicationDisplayName("diffstudio")
    QGuiApplication.setDesktopFileName("diffstudio")
    instance = SingleInstance(paths.data())
    claim = instance.claim()
    if claim is Claim.UNRESPONSIVE:
        desktop_environment.show_error(_unresponsive(instance.holder_pid()))
    if claim is not Claim.FIRST:
        return 1 if claim is Claim.UNRESPONSIVE else 0
    instance.listen()
    exception_hooks = ExceptionHooks(paths.data() / "log.txt")
    exception_hooks.install()
    loaded = read_settings()
    icons.load_fonts()
    theme.apply(app, loaded.state.theme, loaded.state.text_size)
    loop = qasync.QEventLoop(app)
    loop.set_exception_handler(_report_loop_exception)
    desktop = Desktop(loaded.state)
    if loaded.problem:
        desktop.window.show_message("warn", f"{loaded.problem} {desktop.window.problem}".strip())
    exception_hooks.reported.connect(lambda sentence: desktop.window.show_message("bad", sentence))
    instance.activation_requested.connect(desktop.window.bring_to_front)
    app.styleHints().colorSchemeChanged.connect(desktop.preferences.system_theme_changed)
    undo_signals = desktop_environment.close_on_signals(desktop.window)
    app.aboutToQuit.connect(instance.stop_listening)
    app.aboutToQuit.connect(desktop.close)  # while the loop runs: pending tasks are cancelled in it
    desktop.window.show()
    try:
        exit_code: int = loop.run_forever()
        return exit_code
    finally:
        desktop.close()
        desktop_environment.empty_own_clipboard()
        loop.close()
        instance.close()  # the queue and the accelerator are free now: the next instance may open
        undo_signals()
        exception_hooks.remove()
