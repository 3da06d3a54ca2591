"""The settings dialog. Every change is applied and saved at once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QListWidget, QMessageBox, QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.studio.settings import LARGEST_TEXT, SMALLEST_TEXT, Settings, Theme
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import FittedDialog, choose_folder, message_box
from diffstudio.ui.widgets.formatting import human_bytes
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, set_tooltip
from diffstudio.ui.widgets.images.copy_and_drag import not_shown, open_folder
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.text_size import fix_size

_DEVICES = (
    ("auto", "Automatic"),
    ("cpu", "CPU"),
    ("cuda", "NVIDIA or AMD GPU (CUDA, ROCm)"),
    ("mps", "Apple GPU (MPS)"),
    ("xpu", "Intel GPU (XPU)"),
)
_TEXT_SIZES = (SMALLEST_TEXT, 100, 110, 125, 150, 175, LARGEST_TEXT)  # percent
_REMOVE_FOLDER_TIP = "Stop searching the selected folder. Its files are kept"


class SettingsDialog(FittedDialog):
    """`changed` carries the new Settings after each change."""

    changed = Signal(object)
    clear_steps_requested = Signal()

    def __init__(
        self, settings: Settings, sleep: str, parent: QWidget | None = None, *, notifications: str = ""
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Settings")
        self.setMinimumWidth(480)
        self.resize(560, 10)
        describe(self, "Settings", " ")
        self.settings = settings
        self.theme = ChipRow(
            [(Theme.SYSTEM, "System"), (Theme.DARK, "Dark"), (Theme.LIGHT, "Light")],
            tooltips=("Follow the system theme", "Dark theme", "Light theme"),
            name="Theme",
        )
        self.text_size = ComboBox(
            "Text size",
            [(percent, f"{percent}%") for percent in sorted({*_TEXT_SIZES, settings.text_size})],
            "The size of all text in the window",
        )
        self.previews = CheckBox(
            "Live preview", "Show an estimate of the image after every step. Without it there is no filmstrip"
        )
        self.notifications = CheckBox(
            "Notify when work ends",
            "Show a desktop notification when the queue or a training run ends and the window is not in front",
        )
        self._make_device_controls(settings)
        self._make_storage_controls(settings)
        self.done_button = PrimaryButton("Done", "", "Close (Escape)")
        self._lay_out(sleep, notifications)
        self._load_settings()
        self._connect()
        self.done_button.setFocus()

    def _make_device_controls(self, settings: Settings) -> None:
        devices = list(_DEVICES)
        if settings.device not in dict(devices):
            devices.append((settings.device, settings.device))
        self.device = ComboBox("Device", devices, "The device that images are computed on")
        cores = os.cpu_count() or 1
        self.threads = ComboBox(
            "Threads",
            [
                (0, f"All {cores} cores" if cores > 1 else "One core"),
                *((count, str(count)) for count in _thread_choices(cores, settings.threads)),
            ],
            "CPU threads for generating one image",
        )
        self.model_cache = ComboBox(
            "Model cache",
            _model_cache_choices(settings.kept_gib),
            "Memory for models that stay loaded after use. The model in use may take more",
        )
        self.compiled = CheckBox(
            "Compile models (torch.compile)",
            "Slower for the first image of each size, then faster. Not used for models trained here or offloaded models",
        )

    def _make_storage_controls(self, settings: Settings) -> None:
        self.kept_steps = ComboBox(
            "Saved steps",
            _kept_steps_choices(settings.kept_steps_gib),
            "Disk space for the filmstrips of finished images, and for restarting them from a step. The oldest are "
            "deleted first",
        )
        self.steps_usage = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.clear_steps = SecondaryButton("Clear", "trash", "Delete the saved steps of all images. The images stay")
        self.clear_steps.setEnabled(False)
        self.folders = QListWidget()
        describe(self.folders, "Model folders", "Searched for models, including subfolders")
        fix_size(self.folders, height=92)
        self.folders.setObjectName("raised")
        self.add_folder = SecondaryButton("Add folder…", "plus", "Search another folder for models")
        self.remove_folder = SecondaryButton(actions.REMOVE, "minus", _REMOVE_FOLDER_TIP)
        self.images = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.choose_images = SecondaryButton(
            "Change…", "", "Save new images to another folder. Existing images stay where they are"
        )
        self.open_images = SecondaryButton("Open", "", "Show the image folder in the file manager")
        self.open_data = SecondaryButton("Open", "", "Show the data folder in the file manager")

    def _load_settings(self) -> None:
        settings = self.settings
        self.theme.set_value(settings.theme)
        self.text_size.set_value(settings.text_size)
        self.device.set_value(settings.device)
        self.threads.set_value(settings.threads)
        self.model_cache.set_value(settings.kept_gib)
        self.kept_steps.set_value(settings.kept_steps_gib)
        self.previews.setChecked(settings.previews)
        self.compiled.setChecked(settings.compiled)
        self.notifications.setChecked(settings.notifications)
        self.images.setText(str(settings.images))
        self.folders.clear()
        for folder in settings.folders:
            self.folders.addItem(str(folder))
        self._update_remove_button()

    def show_steps_usage(self, images: int, size_bytes: int) -> None:
        """Show what the saved steps take on the disk."""
        used = f"{human_bytes(size_bytes)} for {images:,} image{'' if images == 1 else 's'}"
        self.steps_usage.setText(f"Used: {used}" if images else "No steps are kept.")
        self.clear_steps.setEnabled(images > 0)

    def _update_remove_button(self) -> None:
        row = self.folders.currentRow()
        own = row >= 0 and Path(self.folders.item(row).text()) not in self.settings.model_folders
        self.remove_folder.setEnabled(row >= 0 and not own)
        set_tooltip(
            self.remove_folder, "diffstudio's own model folder is always searched" if own else _REMOVE_FOLDER_TIP
        )

    def _change(self, **values: object) -> None:
        self.settings = replace(self.settings, **values)  # type: ignore[arg-type]
        self._load_settings()
        self.changed.emit(self.settings)

    def _connect(self) -> None:
        self.theme.value_changed.connect(lambda value: self._change(theme=value))
        self.text_size.chosen.connect(lambda value: self._change(text_size=value))
        self.device.chosen.connect(lambda value: self._change(device=value))
        self.threads.chosen.connect(lambda value: self._change(threads=value))
        self.model_cache.chosen.connect(lambda value: self._change(kept_gib=value))
        self.kept_steps.chosen.connect(lambda value: self._change(kept_steps_gib=value))
        self.clear_steps.clicked.connect(self.clear_steps_requested)
        self.previews.clicked.connect(lambda on: self._change(previews=on))
        self.notifications.clicked.connect(lambda on: self._change(notifications=on))
        self.compiled.clicked.connect(lambda on: self._change(compiled=on))
        self.folders.currentRowChanged.connect(self._update_remove_button)
        self.add_folder.clicked.connect(lambda: choose_folder(self, "Choose a model folder", "", self._add))
        self.remove_folder.clicked.connect(self._remove)
        self.choose_images.clicked.connect(
            lambda: choose_folder(
                self, "Choose a folder for new images", "", lambda path: self._change(images_folder=path)
            )
        )
        self.open_images.clicked.connect(lambda: self._open_folder(self.settings.images))
        self.open_data.clicked.connect(lambda: self._open_folder(paths.data()))
        self.done_button.clicked.connect(self.accept)

    def _open_folder(self, folder: Path) -> None:
        if not open_folder(folder):
            message_box(QMessageBox.Icon.Warning, self.windowTitle(), not_shown(folder), parent=self).open()

    def _add(self, folder: Path) -> None:
        if folder not in self.settings.folders:
            self._change(model_folders=(*self.settings.model_folders, folder))

    def _remove(self) -> None:
        row = self.folders.currentRow()
        if row >= 0:
            chosen = Path(self.folders.item(row).text())
            self._change(model_folders=tuple(folder for folder in self.settings.model_folders if folder != chosen))

    def _lay_out(self, sleep: str, notifications: str) -> None:
        column = QVBoxLayout()
        column.setContentsMargins(24, 24, 24, 16)
        column.setSpacing(12)
        column.addWidget(SectionLabel("Appearance"))
        column.addLayout(_row("Theme", self.theme))
        column.addLayout(_row("Text size", self.text_size))
        column.addSpacing(8)
        column.addWidget(SectionLabel("Generation"))
        column.addLayout(_row("Device", self.device))
        column.addLayout(_row("Threads", self.threads))
        column.addLayout(_row("Model cache", self.model_cache))
        column.addLayout(_row("Saved steps", self.kept_steps))
        usage = QHBoxLayout()
        usage.addWidget(self.steps_usage, 1)
        usage.addWidget(self.clear_steps)
        column.addLayout(usage)
        column.addWidget(self.previews)
        column.addWidget(self.compiled)
        column.addWidget(self.notifications)
        column.addSpacing(8)
        column.addWidget(SectionLabel("Model folders"))
        column.addWidget(self.folders)
        column.addLayout(_buttons(self.add_folder, self.remove_folder))
        column.addSpacing(8)
        column.addWidget(SectionLabel("Image folder"))
        column.addWidget(self.images)
        column.addLayout(_buttons(self.choose_images, self.open_images))
        column.addSpacing(8)
        column.addWidget(SectionLabel("Data folder"))
        own = ElidedLabel(str(paths.data()), mode=Qt.TextElideMode.ElideMiddle)
        column.addWidget(own)
        column.addLayout(_buttons(self.open_data))
        if notifications:
            column.addWidget(label(f"Notifications: {notifications}", "dim", pixels=theme.SMALL_PIXELS, wrap=True))
        column.addWidget(label(f"Sleep: {sleep}", "dim", pixels=theme.SMALL_PIXELS, wrap=True))
        offline = "diffstudio works offline. It only goes online when you start a download."
        column.addWidget(label(offline, "dim", pixels=theme.SMALL_PIXELS, wrap=True))
        column.addStretch(1)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.done_button)
        self.set_contents(column, buttons)


def _row(text: str, control: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    name = label(text, wrap=True)
    name.setBuddy(control)
    fix_size(name, width=96)
    row.addWidget(name)
    row.addWidget(control, 1)
    return row


def _buttons(*buttons: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(8)
    for button in buttons:
        row.addWidget(button)
    row.addStretch(1)
    return row


def _model_cache_choices(current: float | None) -> list[tuple[float | None, str]]:
    choices: list[tuple[float | None, str]] = [
        (None, "Recently used models, up to half of the memory"),
        (0.0, "Only the model in use"),
    ]
    sizes = {2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0} | ({current} if current else set())
    return choices + [(size, f"Recently used models, up to {size:g} GiB") for size in sorted(sizes)]


def _kept_steps_choices(current: float) -> list[tuple[float, str]]:
    sizes = {0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0} | ({current} if current else set())
    return [(0.0, "Not kept"), *((size, f"Up to {size:g} GiB, the oldest deleted first") for size in sorted(sizes))]


def _thread_choices(cores: int, current: int) -> list[int]:
    choices = {count for count in (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64) if count < cores}
    return sorted(choices | ({current} if current else set()))
