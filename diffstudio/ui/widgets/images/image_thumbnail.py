"""A thumbnail of an image that can be dragged out and has the menu of an image."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QMouseEvent

from diffstudio.ui.widgets.activation import PRESSING
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.thumbnail import Thumbnail


class ImageThumbnail(Thumbnail):
    """Drag it out, right-click for actions. `clickable`: a click, Enter or Space chooses it (`clicked`).

    Where a click chooses nothing, Enter and Space open the menu.
    """

    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(
        self, target: ImageTarget, side: int, radius: int = 6, *, name: str, tooltip: str = "", clickable: bool = False
    ) -> None:
        super().__init__(side, radius, name=name, tooltip=tooltip, clickable=clickable)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
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
        self._open_menu(self.mapToGlobal(self.rect().center()) if keyboard else event.globalPos())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not self._clickable and event.key() in PRESSING:
            self._open_menu(self.mapToGlobal(self.rect().center()))
        else:
            super().keyPressEvent(event)

    def _open_menu(self, place: QPoint) -> None:
        self.menu_requested.emit(self.target, place)
