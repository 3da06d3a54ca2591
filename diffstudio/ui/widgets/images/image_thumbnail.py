"""A thumbnail of an image file that can be dragged out and has the menu of an image."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QContextMenuEvent, QMouseEvent

from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.thumbnail import Thumbnail


class ImageThumbnail(Thumbnail):
    """Click to choose it (`clicked`), drag it out, right-click for actions."""

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, target: ImageTarget, side: int, radius: int = 6, *, name: str, tooltip: str = "") -> None:
        super().__init__(side, radius, name=name, tooltip=tooltip, clickable=True)
        self.target = target
        self.set_image(target.image)
        self._click_or_drag = copy_and_drag.ClickOrDrag()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._click_or_drag.begin(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._click_or_drag.becomes_drag(event):
            copy_and_drag.drag(self, self.target.image, self.target.path)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._click_or_drag.end():
            super().mouseReleaseEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        self.menu_requested.emit(self.target, self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos())
