"""The main window: a rail of rooms, the rooms, and a banner for messages that belong to no room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QByteArray, QEvent, QMimeData, QSettings, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeySequence, QPaintEvent, QShortcut
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QMainWindow,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from diffstudio import paths
from diffstudio.ui.widgets import icons, theme
from diffstudio.ui.widgets.controls import Banner
from diffstudio.ui.widgets.drag_and_drop import DroppedItem, DroppedKind, parse_drop
from diffstudio.ui.widgets.helpers import describe

RAIL_WIDTH = 80
SMALLEST = QSize(960, 620)


@dataclass(frozen=True, slots=True)
class RoomEntry:
    """A room on the rail; `make` is called when it is shown for the first time."""

    name: str
    icon: str
    tooltip: str
    make: Callable[[], QWidget]


class RailButton(QToolButton):
    """A button of the rail: an icon above a label."""

    def __init__(self, text: str, icon: str, tooltip: str, *, checkable: bool = True) -> None:
        super().__init__()
        self.setText(text)
        self.setIcon(icons.icon(icon, "dim", on="text"))
        self.setIconSize(QSize(22, 22))
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        self.setCheckable(checkable)
        self.setFixedSize(64, 58)
        self.setFont(theme.font(theme.TINY_PIXELS))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        describe(self, text, tooltip)


class MainWindow(QMainWindow):
    """Rooms are made when they are first shown. `closing` is emitted once, before the window closes."""

    image_dropped = Signal(object)  # Path
    folder_dropped = Signal(object)  # Path
    model_dropped = Signal(object)  # Path of a model file
    settings_requested = Signal()
    first_painted = Signal()
    closing = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("diffstudio")
        self.setWindowIcon(icons.application_icon())
        self.setMinimumSize(SMALLEST)
        self.setAcceptDrops(True)
        self._entries: list[RoomEntry] = []
        self._rooms: dict[str, QWidget] = {}
        self._painted = self._closed = False
        self.banner = Banner()
        self.banner.hide()
        self.stack = QStackedWidget()
        self.rail = QFrame()
        self.rail.setObjectName("background")
        self.rail.setFixedWidth(RAIL_WIDTH)
        describe(self.rail, "Rooms", " ")
        self._buttons = QButtonGroup(self)
        self._rail = QVBoxLayout(self.rail)
        self._rail.setContentsMargins(8, 16, 8, 16)
        self._rail.setSpacing(8)
        self._rail.addStretch(1)
        self.settings_button = RailButton("Settings", "gear-six", "Folders, theme and device (Ctrl+,)", checkable=False)
        self.settings_button.clicked.connect(self.settings_requested)
        self._rail.addWidget(self.settings_button, 0, Qt.AlignmentFlag.AlignHCenter)
        messages = QWidget()
        self._messages = QVBoxLayout(messages)
        self._messages.setContentsMargins(16, 12, 16, 0)
        self._messages.addWidget(self.banner)
        messages.hide()
        self._message_box = messages
        right, whole = QVBoxLayout(), QHBoxLayout()
        right.setSpacing(0)
        right.addWidget(messages)
        right.addWidget(self.stack, 1)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self.rail)
        whole.addLayout(right, 1)
        centre = QWidget()
        centre.setObjectName("background")
        centre.setLayout(whole)
        self.setCentralWidget(centre)
        self.banner.dismissed.connect(messages.hide)
        QShortcut(QKeySequence("Ctrl+,"), self, self.settings_requested.emit)
        QShortcut(QKeySequence(QKeySequence.StandardKey.Quit), self, self.close)
        self._restore_geometry()

    # Rooms

    def add_room(self, entry: RoomEntry) -> None:
        index = len(self._entries)
        self._entries.append(entry)
        button = RailButton(entry.name, entry.icon, f"{entry.tooltip} (Ctrl+{index + 1})")
        self._buttons.addButton(button, index)
        self._rail.insertWidget(index, button, 0, Qt.AlignmentFlag.AlignHCenter)
        button.clicked.connect(lambda: self._enter(entry.name))
        QShortcut(QKeySequence(f"Ctrl+{index + 1}"), self, lambda: self.show_room(entry.name))

    def _enter(self, name: str) -> None:
        """Show a room and give it the focus, so that its shortcuts work."""
        room = self.show_room(name)
        (room.focusWidget() or room).setFocus()

    def show_room(self, name: str) -> QWidget:
        """Bring a room to the front, making it if necessary."""
        room = self.room(name)
        self.stack.setCurrentWidget(room)
        names = [entry.name for entry in self._entries]
        self._buttons.button(names.index(name)).setChecked(True)
        return room

    def room(self, name: str) -> QWidget:
        if name not in self._rooms:
            entry = next(entry for entry in self._entries if entry.name == name)
            self._rooms[name] = entry.make()
            self.stack.addWidget(self._rooms[name])
        return self._rooms[name]

    def has_made(self, name: str) -> bool:
        return name in self._rooms

    def current_room(self) -> str:
        shown = self.stack.currentWidget()
        return next((name for name, room in self._rooms.items() if room is shown), "")

    # Messages

    def show_message(self, kind: str, text: str, action: str = "") -> None:
        """Show a message that belongs to no room; an empty text hides it."""
        self.banner.show_message(kind, text, action)
        self.banner.setVisible(bool(text))
        self._message_box.setVisible(bool(text))

    def bring_to_front(self) -> None:
        """Raise the window above those of other programs, as far as the system allows."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized | Qt.WindowState.WindowActive)
        self.show()
        self.raise_()
        self.activateWindow()

    # Drag and drop

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.source() is None and _first_usable(event.mimeData()) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        item = _first_usable(event.mimeData())
        if item is None:
            return
        event.acceptProposedAction()
        signals = {
            DroppedKind.FOLDER: self.folder_dropped,
            DroppedKind.MODEL: self.model_dropped,
            DroppedKind.IMAGE: self.image_dropped,
        }
        # after the drop has returned: until then the other program waits
        QTimer.singleShot(0, self, lambda: signals[item.kind].emit(item.path))

    # Opening and closing

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            QTimer.singleShot(0, self, self.first_painted.emit)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self.update()

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self._closed:
            self._closed = True
            self._save_geometry()
            self.closing.emit()
        super().closeEvent(event)

    def _settings(self) -> QSettings:
        return QSettings(str(paths.settings_file().parent / "window.ini"), QSettings.Format.IniFormat)

    def _save_geometry(self) -> None:
        settings = self._settings()
        settings.setValue("format", 1)
        settings.setValue("geometry", self.saveGeometry())

    def _restore_geometry(self) -> None:
        geometry = self._settings().value("geometry")
        if not isinstance(geometry, QByteArray) or not self.restoreGeometry(geometry):
            screen = self.screen().availableGeometry()
            self.resize(min(1440, screen.width() - 40), min(900, screen.height() - 60))


def _first_usable(data: QMimeData) -> DroppedItem | None:
    return next((item for item in parse_drop(data) if item.kind is not DroppedKind.UNUSABLE), None)
