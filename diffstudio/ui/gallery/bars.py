"""What is above the pictures: the search over all of them, and the buttons around one that is shown large."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.ui import assets
from diffstudio.ui.controls import Banner, Chip, QuietButton, describe, label
from diffstudio.ui.gallery.picture_view import STEP, PictureView

SEARCH_DELAY_MS = 150


class TopBar(QWidget):
    """Search, the filter for stars, how many there are, the trash. `changed` when a search is to be made."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search prompts …")
        self.search.setClearButtonEnabled(True)
        self.search.setMaximumWidth(360)
        self.search.setMinimumWidth(80)
        self.search.setMaxLength(1000)
        self.search.addAction(assets.icon("magnifying-glass", "dim"), QLineEdit.ActionPosition.LeadingPosition)
        describe(self.search, "Search", "Words in the prompt or the checkpoint's name (Ctrl+F)")
        self.starred = Chip("Starred", tooltip="Show starred pictures only", icon="star")
        self.count_label = label("", "dim")
        self.trash = QuietButton("", "trash", "Pictures in the gallery's trash", name="Trash")
        self.rescan_button = QuietButton(
            "", "arrows-clockwise", "Look through the folder again, for what other programs added or removed",
            name="Look again")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SEARCH_DELAY_MS)
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 12, 16, 4)
        row.setSpacing(8)
        row.addWidget(self.search, 4)
        row.addWidget(self.starred)
        row.addStretch(1)
        for part in (self.count_label, self.trash, self.rescan_button):
            row.addWidget(part)
        self.search.textChanged.connect(lambda: self._timer.start())
        self.search.returnPressed.connect(self._now)
        self.starred.clicked.connect(self._now)
        self._timer.timeout.connect(self.changed)

    def _now(self) -> None:
        self._timer.stop()
        self.changed.emit()


class FullView(QWidget):
    """One picture with its zoom and its neighbours."""

    closed = Signal()
    step_wanted = Signal(object)         # -1 or 1

    def __init__(self) -> None:
        super().__init__()
        self.picture = PictureView()
        self.back = QuietButton("Gallery", "arrow-left", "Back to all pictures (Esc)")
        self.zoom_label = label("", "dim")
        self.previous = QuietButton("", "caret-left", "The picture before (left arrow)", name="Previous picture")
        self.next = QuietButton("", "caret-right", "The next picture (right arrow)", name="Next picture")
        self.zoom_out = QuietButton("", "minus", "Smaller (-)", name="Zoom out")
        self.zoom_in = QuietButton("", "plus", "Larger (+)", name="Zoom in")
        self.zoom_fit = QuietButton("", "corners-out", "As large as it fits (0)", name="Fit")
        above = QHBoxLayout()
        above.setContentsMargins(16, 12, 16, 4)
        above.setSpacing(4)
        above.addWidget(self.back)
        above.addStretch(1)
        for part in (self.zoom_label, self.zoom_out, self.zoom_fit, self.zoom_in):
            above.addWidget(part)
        above.addSpacing(8)
        above.addWidget(self.previous)
        above.addWidget(self.next)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(above)
        column.addWidget(self.picture, 1)
        self.back.clicked.connect(self.closed)
        self.previous.clicked.connect(lambda: self.step_wanted.emit(-1))
        self.next.clicked.connect(lambda: self.step_wanted.emit(1))
        self.zoom_in.clicked.connect(lambda: self.picture.set_zoom(self.picture.zoom() * STEP))
        self.zoom_out.clicked.connect(lambda: self.picture.set_zoom(self.picture.zoom() / STEP))
        self.zoom_fit.clicked.connect(lambda: self.picture.set_zoom(None))
        self.picture.previous_wanted.connect(lambda: self.step_wanted.emit(-1))
        self.picture.next_wanted.connect(lambda: self.step_wanted.emit(1))
        self.picture.closed.connect(self.closed)
        self.picture.zoomed.connect(lambda zoom: self.zoom_label.setText(f"{zoom:.0%}"))

    def set_neighbours(self, previous: bool, following: bool) -> None:
        """Whether there is a picture on either side."""
        self.previous.setEnabled(previous)
        self.next.setEnabled(following)


class Message(QWidget):
    """A banner with the space around it, which is there only while something is said."""

    def __init__(self) -> None:
        super().__init__()
        self.banner = Banner()
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 4, 20, 12)
        row.addWidget(self.banner)
        self.banner.dismissed.connect(self.hide)
        self.hide()

    def say(self, kind: str, text: str, action: str = "") -> None:
        self.banner.say(kind, text, action)
        self.banner.show()
        self.show()

    def text(self) -> str:
        """What is being said; empty when nothing is."""
        return "" if self.isHidden() else self.banner.text()
