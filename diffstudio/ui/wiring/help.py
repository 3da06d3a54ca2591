"""Opens the manual at the page of a room, the list of shortcuts, and what the program is made of."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject, Qt, QTimer, qVersion
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QDialog

from diffstudio import paths
from diffstudio.errors import DiffstudioError
from diffstudio.studio.settings import Settings
from diffstudio.ui.generate.mask.dialog import MaskDialog
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from diffstudio.ui.help.about_dialog import AboutDialog
from diffstudio.ui.help.manual_window import ManualWindow
from diffstudio.ui.help.shortcuts_dialog import ShortcutsDialog
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.window import MainWindow

PAGES = {
    "Generate": "generate.md",
    "Gallery": "gallery.md",
    "Models": "models.md",
    "Train": "train.md",
    "Lab": "lab.md",
}
CONTENTS = "README.md"
OF_DIALOGS = {UpscaleDialog: "upscale.md", MaskDialog: "inpaint.md"}  # the others show the page of the room


_BOUND = "diffstudioHelp"  # a property of dialogs in which F1 works already


class HelpController(QObject):
    """The manual has one window, which stays open beside the program's."""

    def __init__(self, window: MainWindow, tasks: Tasks, settings: Callable[[], Settings]) -> None:
        super().__init__()
        self._window, self._tasks, self._settings = window, tasks, settings
        self.manual: ManualWindow | None = None
        window.manual_requested.connect(lambda: self.open_manual())
        window.shortcuts_requested.connect(self.open_shortcuts)
        window.about_requested.connect(self.open_about)
        window.closing.connect(self.close)
        self._dialog_timer = QTimer(self, singleShot=True, interval=0)  # until the window that has the focus is active
        self._dialog_timer.timeout.connect(self._bind_in_dialog)
        self._focus_moved = _application().focusWindowChanged.connect(self._dialog_timer.start)

    def _bind_in_dialog(self) -> None:
        """Let F1 work in a dialog too: it keeps the shortcuts of the window behind it from working."""
        dialog = QApplication.activeWindow()
        if isinstance(dialog, QDialog) and not dialog.property(_BOUND):
            dialog.setProperty(_BOUND, True)
            page = next((page for kind, page in OF_DIALOGS.items() if isinstance(dialog, kind)), "")
            shortcuts.bind_in_window(shortcuts.MANUAL, dialog, lambda: self.open_manual(page))

    def open_manual(self, page: str = "") -> ManualWindow:
        """Show a page, or else that of the room that is shown."""
        if self.manual is None:
            self.manual = ManualWindow(paths.resources() / "manual")
        self.manual.show_page(page or PAGES.get(self._window.current_room(), CONTENTS))
        self.manual.bring_to_front()
        return self.manual

    def open_shortcuts(self) -> ShortcutsDialog:
        dialog = ShortcutsDialog(self._window.current_room(), self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()
        return dialog

    def open_about(self) -> AboutDialog:
        dialog = AboutDialog(self._window)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        self._tasks.start(self._fill(dialog))
        return dialog

    async def _fill(self, dialog: AboutDialog) -> None:
        """Read versions and licences in a thread, and the device last: it imports torch."""
        from diffstudio.studio import third_party_software

        known = [*await self._tasks.to_thread(third_party_software.versions), ("Qt", qVersion())]
        if dialog.is_closed():
            return
        dialog.show_facts([*known, ("Device", "Looking…"), ("Data folder", str(paths.data()))])
        software = await self._tasks.to_thread(third_party_software.all_software)
        if dialog.is_closed():
            return
        dialog.show_software(software)
        try:
            device = await self._tasks.to_thread(third_party_software.device_name, self._settings().device)
        except DiffstudioError as error:
            device = str(error)
        if not dialog.is_closed():
            dialog.show_facts([*known, ("Device", device), ("Data folder", str(paths.data()))])

    def close(self) -> None:
        self._dialog_timer.stop()
        _application().focusWindowChanged.disconnect(self._focus_moved)
        if self.manual is not None:
            self.manual.close()
            self.manual.deleteLater()
            self.manual = None


def _application() -> QGuiApplication:
    app = QGuiApplication.instance()
    assert isinstance(app, QGuiApplication)
    return app
