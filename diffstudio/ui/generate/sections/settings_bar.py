"""The head of the panel: undo and redo of settings, and the menu with the defaults and the presets."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QWidget

from diffstudio.ui.widgets import icons, terms
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.menus import add_entry

UNDO, REDO = "Undo settings", "Redo settings"
RESET = "Reset to checkpoint defaults"
SAVE_PRESET = "Save as preset…"
EDIT_PRESETS = "Rename or delete presets…"
_RESET_TIP = "Steps, CFG scale, sampler, scheduler, clip skip, VAE and size as the checkpoint recommends"
_OUTSIDE_FIELDS = "outside text fields"


class SettingsBar(QWidget):
    """Emits what the user asks for; shows the names of the presets that it is given."""

    undo_requested = Signal()
    redo_requested = Signal()
    reset_requested = Signal()
    save_requested = Signal()
    edit_requested = Signal()
    preset_chosen = Signal(str)  # its name

    def __init__(self) -> None:
        super().__init__()
        self._presets: tuple[str, ...] = ()
        self.undo_button = SecondaryButton(
            "", "arrow-u-up-left", f"{UNDO} (Ctrl+Z {_OUTSIDE_FIELDS})", name=UNDO, role="dim"
        )
        self.redo_button = SecondaryButton(
            "", "arrow-u-up-right", f"{REDO} (Ctrl+Shift+Z {_OUTSIDE_FIELDS})", name=REDO, role="dim"
        )
        self.menu_button = SecondaryButton(
            "", "dots-three", "Presets, and the checkpoint's defaults", name="Settings menu", role="dim"
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(SectionLabel(terms.CHECKPOINT), 1)
        for button in (self.undo_button, self.redo_button, self.menu_button):
            row.addWidget(button)
        self.undo_button.clicked.connect(self.undo_requested)
        self.redo_button.clicked.connect(self.redo_requested)
        self.menu_button.clicked.connect(self.open_menu)
        self.set_history(can_undo=False, can_redo=False)

    def set_history(self, *, can_undo: bool, can_redo: bool) -> None:
        self.undo_button.setEnabled(can_undo)
        self.redo_button.setEnabled(can_redo)

    def set_presets(self, names: Sequence[str]) -> None:
        self._presets = tuple(names)

    def menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setAccessibleName("Settings")
        menu.setToolTipsVisible(True)
        for name in self._presets:
            entry = add_entry(menu, name, icons.icon("sliders-horizontal", "dim"), f"Apply the preset {name}")
            entry.triggered.connect(lambda _=False, name=name: self.preset_chosen.emit(name))
        if not self._presets:
            add_entry(menu, "No presets yet").setEnabled(False)
        menu.addSeparator()
        add_entry(menu, SAVE_PRESET, icons.icon("floppy-disk", "dim")).triggered.connect(self.save_requested)
        edit = add_entry(menu, EDIT_PRESETS, icons.icon("pencil-simple", "dim"))
        edit.setEnabled(bool(self._presets))
        edit.triggered.connect(self.edit_requested)
        menu.addSeparator()
        reset = add_entry(menu, RESET, icons.icon("arrow-counter-clockwise", "dim"), _RESET_TIP)
        reset.triggered.connect(self.reset_requested)
        return menu

    def open_menu(self) -> None:
        menu = self.menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        corner = self.menu_button.mapToGlobal(QPoint(self.menu_button.width(), self.menu_button.height() + 4))
        menu.popup(corner - QPoint(menu.sizeHint().width(), 0))
