"""Files held over a room, and let go."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QDropEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.helpers import describe


class DropOverlay(QWidget):
    """Lies over a room while something it takes is held above it, and says what letting go would do."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._text = text
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        describe(self, text)
        self.hide()

    def appear(self) -> None:
        parent = self.parentWidget()
        if parent is not None:
            self.setGeometry(parent.rect())
        self.raise_()
        self.show()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ground = QColor(theme.colour("background"))
        ground.setAlphaF(0.86)
        painter.fillRect(self.rect(), ground)
        painter.setPen(QPen(theme.colour("accent"), 2, Qt.PenStyle.DashLine))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(16, 16, -16, -16), theme.RADIUS, theme.RADIUS)
        painter.setPen(theme.colour("text"))
        painter.setFont(theme.font(16, bold=True))
        painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter), self._text)


def dropped_paths(event: QDropEvent) -> list[Path]:
    """The files and folders of this machine that are held."""
    urls = event.mimeData().urls() if event.mimeData().hasUrls() else []
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]


def dropped_folder(event: QDropEvent) -> Path | None:
    """The first folder among them."""
    return next((path for path in dropped_paths(event) if path.is_dir()), None)
