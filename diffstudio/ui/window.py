"""The main window: a rail of rooms, the rooms, and a banner for messages that belong to no room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QMimeData, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QCloseEvent,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QFontMetrics,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QMainWindow,
    QMenu,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from diffstudio.errors import StorageProblem
from diffstudio.ui.widgets import actions, icons, shortcuts, theme
from diffstudio.ui.widgets.activation import click_on_enter
from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.dialogs import available_size, within_screen
from diffstudio.ui.widgets.helpers import describe
from diffstudio.ui.widgets.images.drag_and_drop import DropOverlay, DroppedItem, DroppedKind, parse_drop, with_files
from diffstudio.ui.widgets.layout.window_state import read_window_state, save_geometry
from diffstudio.ui.widgets.menus import build_menu

_RAIL_MARGINS = 40  # px, above and below its buttons
SMALLEST = QSize(880, 470)  # px: 1366 x 768 at 150%, less the frame of a window and a task bar
SMALLEST_ON_SMALL_SCREENS = QSize(860, 440)
_RAIL_BUTTON = QSize(64, 58)  # px, with its text; only its icon where the rail is too low for all
_NOT_TAKEN = "Nothing takes an image here"
_HOLD = "Hold it over Generate at the left, then drop it on the panel there"
_PANEL = "Drop it on the panel at the left to start from it"
_DROP_TEXTS = {
    DroppedKind.IMAGE: "Drop to load the settings of this image, or to start from it",
    DroppedKind.MODEL: "Drop to add this model to your library",
    DroppedKind.FOLDER: "Drop to train on the images in this folder",
}
HOVER_MS = 600  # for which a drag is held over a room's button until the room is shown
_MOST_REASONS = 3  # named of the dropped items that cannot be opened


@dataclass(frozen=True, slots=True)
class RoomEntry:
    """A room on the rail; `make` is called when it is shown for the first time."""

    name: str
    icon: str
    tooltip: str
    make: Callable[[], QWidget]


def smallest_on(screen: QSize) -> QSize:
    """The minimum size of the window on a screen of this size, in px: never larger than the screen shows."""
    return within_screen(SMALLEST, screen).expandedTo(SMALLEST_ON_SMALL_SCREENS)


class RailButton(QToolButton):
    """A button of the rail: an icon above a label."""

    def __init__(self, text: str, icon: str, tooltip: str, *, checkable: bool = True) -> None:
        super().__init__()
        self.setText(text)
        self.setIcon(icons.icon(icon, "dim", on="text"))
        self.setIconSize(QSize(22, 22))
        self.setCheckable(checkable)
        self.show_text(True)
        self.setFont(theme.font(theme.TINY_PIXELS))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAcceptDrops(checkable)
        self._hover_timer = QTimer(self, singleShot=True, interval=HOVER_MS)
        self._hover_timer.timeout.connect(self.click)
        describe(self, text, tooltip)

    def show_text(self, shown: bool) -> None:
        """Show the text below the icon, or the icon alone."""
        style = Qt.ToolButtonStyle
        self.setToolButtonStyle(style.ToolButtonTextUnderIcon if shown else style.ToolButtonIconOnly)
        height = theme.scaled(18) + 40 if shown else 40
        text = QFontMetrics(theme.font(theme.TINY_PIXELS)).horizontalAdvance(self.text()) if shown else 0
        self.setFixedSize(max(_RAIL_BUTTON.width(), theme.scaled(54) + 10, text + 10), height)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not click_on_enter(self, event):
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Show the room when a drag is held here, so that it can be dropped on a panel there."""
        if parse_drop(event.mimeData()):
            event.acceptProposedAction()
            self._hover_timer.start()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self._hover_timer.stop()

    def dropEvent(self, event: QDropEvent) -> None:
        self._hover_timer.stop()
        self.click()


class MainWindow(QMainWindow):
    """Rooms are made when they are first shown. `closing` is emitted once, before the window closes."""

    image_dropped = Signal(object)  # Path
    folder_dropped = Signal(object)  # Path
    models_dropped = Signal(object)  # list[Path] of model files
    settings_requested = Signal()
    manual_requested = Signal()  # the page of the room that is shown
    shortcuts_requested = Signal()
    about_requested = Signal()
    first_painted = Signal()
    closing = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("diffstudio")
        self.setWindowIcon(icons.application_icon())
        self.setMinimumSize(smallest_on(available_size(self)))
        self.setAcceptDrops(True)
        self._entries: list[RoomEntry] = []
        self._rooms: dict[str, QWidget] = {}
        self._painted = self._closed = False
        self.banner = Banner()
        self.banner.hide()
        self._act: Callable[[], object] = lambda: None  # of the button in the banner
        self._left_out = ""  # of the last drop, in a sentence
        self.banner.acted.connect(lambda: self._act())
        self.stack = QStackedWidget()
        self.rail = QFrame()
        self.rail.setObjectName("background")
        describe(self.rail, "Rooms", " ")
        self._buttons = QButtonGroup(self)
        self._rail = QVBoxLayout(self.rail)
        self._rail.setContentsMargins(8, 16, 8, 16)
        self._rail.setSpacing(8)
        self._rail.addStretch(1)
        self.settings_button = RailButton("Settings", "gear-six", "Folders, theme and device (Ctrl+,)", checkable=False)
        self.settings_button.clicked.connect(self.settings_requested)
        self.help_button = RailButton("Help", "question", "Manual, shortcuts, versions and licences", checkable=False)
        self.help_button.clicked.connect(self._open_help)
        self._rail.addWidget(self.help_button, 0, Qt.AlignmentFlag.AlignHCenter)
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
        self.drop_overlay = DropOverlay("", self.stack)
        self.banner.focus_after = self.stack
        self.banner.dismissed.connect(messages.hide)
        shortcuts.bind_in_window(shortcuts.SETTINGS, self, self.settings_requested.emit)
        shortcuts.bind_in_window(shortcuts.QUIT, self, self.close)
        shortcuts.bind_in_window(shortcuts.MANUAL, self, self.manual_requested.emit)
        shortcuts.bind_in_window(shortcuts.SHORTCUTS, self, self.shortcuts_requested.emit)
        self._restore_geometry()

    def help_menu(self) -> QMenu:
        manual, keys = (f"\t{shortcut.text()}" for shortcut in (shortcuts.MANUAL, shortcuts.SHORTCUTS))
        entries = (
            (actions.MANUAL_PAGE + manual, actions.ICONS[actions.MANUAL_PAGE], self.manual_requested.emit),
            (actions.SHORTCUTS + keys, actions.ICONS[actions.SHORTCUTS], self.shortcuts_requested.emit),
            None,
            (actions.ABOUT, actions.ICONS[actions.ABOUT], self.about_requested.emit),
        )
        return build_menu(self, entries, "Help")

    def _open_help(self) -> None:
        self.help_menu().popup(self.help_button.mapToGlobal(self.help_button.rect().topRight()))

    # The rail

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit_text()

    def fit_text(self) -> None:
        """Show the texts on the rail if there is room for them all."""
        buttons = self.rail.findChildren(RailButton)
        for button in buttons:
            button.show_text(True)
        needed = sum(button.height() + self._rail.spacing() for button in buttons) + _RAIL_MARGINS
        if needed > self.height():
            for button in buttons:
                button.show_text(False)
        self.rail.setFixedWidth(max(button.width() for button in buttons) + 16)

    # Rooms

    def add_room(self, entry: RoomEntry) -> None:
        index = len(self._entries)
        self._entries.append(entry)
        shortcut = shortcuts.ROOMS[index]
        button = RailButton(entry.name, entry.icon, f"{entry.tooltip} ({shortcut.text()})")
        self._buttons.addButton(button, index)
        self._rail.insertWidget(index, button, 0, Qt.AlignmentFlag.AlignHCenter)
        button.clicked.connect(lambda: self._enter(entry.name))
        shortcuts.bind_in_window(shortcut, self, lambda: self.show_room(entry.name))

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

    def show_message(self, kind: str, text: str, action: str = "", act: Callable[[], object] = lambda: None) -> None:
        """Show a message that belongs to no room, with a button that calls `act`; an empty text hides it.

        What was left out of a drop is repeated after what became of the rest, which would replace it otherwise.
        """
        self._act = act
        if text and self._left_out and self.banner.isVisibleTo(self) and self.banner.message == self._left_out:
            kind, text = kind if kind == "bad" else "warn", f"{text} {self._left_out}"
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
        """What no panel takes comes here; what cannot be used is named while it is dragged and when it is dropped."""
        if items := parse_drop(event.mimeData()):
            text, refused = self._drop_text(items, from_here=self._is_own(event))
            self.drop_overlay.appear(text, refused=refused)
            event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.drop_overlay.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self.drop_overlay.hide()
        if items := parse_drop(event.mimeData()):
            event.acceptProposedAction()
            if not self._is_own(event):
                self._open_data(items, event.mimeData())
            elif not self._is_back(event):
                self.show_message("warn", f"{self._not_taken()}.")

    def _is_own(self, event: QDropEvent) -> bool:
        """Whether the drag began in this window."""
        source = event.source()
        return isinstance(source, QWidget) and source.window() is self

    def _is_back(self, event: QDropEvent) -> bool:
        """Whether the drag ends where it began, as after a click that moved."""
        source = event.source()
        if not isinstance(source, QWidget):
            return False
        return source.rect().contains(source.mapFrom(self, event.position().toPoint()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        data = QGuiApplication.clipboard().mimeData()
        if event.matches(QKeySequence.StandardKey.Paste) and (items := parse_drop(data)):
            self._open_data(items, data)
        else:
            super().keyPressEvent(event)

    def _open_data(self, items: Sequence[DroppedItem], data: QMimeData) -> None:
        try:
            files = with_files(items, data)
        except StorageProblem as problem:
            self.show_message("bad", str(problem))
            return
        QTimer.singleShot(0, self, lambda: self._open(files))  # until the drop has returned, its source waits

    def _not_taken(self) -> str:
        return f"{_NOT_TAKEN}. {_PANEL if self.current_room() == 'Generate' else _HOLD}"

    def _drop_text(self, items: Sequence[DroppedItem], *, from_here: bool) -> tuple[str, bool]:
        """What the window says about a drag, and whether it takes none of it."""
        usable = [item.kind for item in items if item.kind is not DroppedKind.UNUSABLE]
        if from_here:
            return self._not_taken(), True
        if not usable:
            return f"Cannot be used: {items[0].reason}", True
        return _DROP_TEXTS[usable[0]], False

    def _open(self, items: Sequence[DroppedItem]) -> None:
        """Open the first usable item, or all models if that is one; name what was not used, and why."""
        usable = [item for item in items if item.kind is not DroppedKind.UNUSABLE]
        models = [item for item in usable if item.kind is DroppedKind.MODEL]
        opened = models if usable and usable[0] in models else usable[:1]
        one_at_a_time = f"one image or folder at a time is opened, and this time {opened[0].name}" if opened else ""
        left = [item for item in items if item not in opened]
        reasons = [item.reason or f"{item.name}: {one_at_a_time}" for item in left[:_MOST_REASONS]]
        if len(left) > _MOST_REASONS:
            reasons.append(f"and {len(left) - _MOST_REASONS:,} more")
        self._left_out, not_opened = "", f"Not opened: {'; '.join(reasons)}." if reasons else ""
        self.show_message("warn", not_opened)
        self._left_out = not_opened
        if opened and opened[0].kind is DroppedKind.MODEL:
            self.models_dropped.emit([item.path for item in opened])
        elif opened:
            opens_folder = opened[0].kind is DroppedKind.FOLDER
            (self.folder_dropped if opens_folder else self.image_dropped).emit(opened[0].path)

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
            save_geometry(self.saveGeometry())
            self.closing.emit()
        super().closeEvent(event)

    def _restore_geometry(self) -> None:
        """Show the window as it was; what of its state could not be read is said in it."""
        loaded = read_window_state()
        geometry, self.problem = loaded.state.geometry, loaded.problem
        if geometry is None or not self.restoreGeometry(geometry):  # Qt declines one of another screen or scale
            self.resize(QSize(1440, 900).boundedTo(available_size(self) - QSize(40, 60)))
        self.show_message("warn", self.problem)
