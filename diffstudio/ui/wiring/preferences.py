"""Opens the settings dialog, applies changes to the window at once, and saves them."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QApplication

from diffstudio import paths
from diffstudio.studio.settings import Settings, Theme, save
from diffstudio.ui.shell.notifier import make_notifier
from diffstudio.ui.shell.sleep_inhibitor import SleepInhibitor
from diffstudio.ui.widgets import text_size, theme
from diffstudio.ui.window import MainWindow
from diffstudio.ui.wiring.file_writer import FileWriter


class PreferencesController(QObject):
    """Holds the settings that are in use. `changed` carries the settings before and after."""

    changed = Signal(object, object)  # Settings before, Settings now
    dialog_opened = Signal(object)  # SettingsDialog

    def __init__(
        self, settings: Settings, window: MainWindow, sleep_inhibitor: SleepInhibitor, writer: FileWriter
    ) -> None:
        super().__init__()
        self.settings, self._writer = settings, writer
        self._window, self._sleep_inhibitor = window, sleep_inhibitor
        self.notifier = make_notifier(window.windowIcon(), window.bring_to_front)

    def open_dialog(self) -> None:
        from diffstudio.ui.settings_dialog import SettingsDialog

        dialog = SettingsDialog(
            self.settings, self._sleep_inhibitor.description, self._window, notifications=self.notifier.description
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.changed.connect(self.set_settings)
        self.dialog_opened.emit(dialog)
        dialog.open()

    def set_settings(self, settings: Settings) -> None:
        """Apply and save."""
        before, self.settings = self.settings, settings
        if settings.theme != before.theme:
            self.apply_theme()
        if settings.text_size != before.text_size:
            text_size.apply(_application(), settings.text_size)
        self.changed.emit(before, settings)
        if settings.images != before.images:
            self._window.show_message(
                "info", f"Images will be saved in {settings.images} after you restart diffstudio."
            )
        self._save()

    def add_prompt(self, prompt: str) -> None:
        """Remember a prompt in the history."""
        before, self.settings = self.settings, self.settings.with_prompt(prompt)
        self.changed.emit(before, self.settings)
        self._save()

    def apply_theme(self) -> None:
        """Apply the theme of the settings if it is not the current one."""
        if theme.resolve(self.settings.theme) != theme.name():
            theme.apply(_application(), self.settings.theme)

    def system_theme_changed(self) -> None:
        if self.settings.theme is Theme.SYSTEM:
            self.apply_theme()

    def _save(self) -> None:
        self._writer.write(paths.settings_file(), partial(save, self.settings))


def _application() -> QApplication:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    return app
