"""DragSource: lets images be dragged out of a widget that shows them, to every panel and to other programs."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QPoint
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QWidget

from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_menu import ImageTarget


class DragSource(QObject):
    """`target_at(point)` is the image at a point of the widget, or None where a press does not begin a drag.

    The image that was pressed is dragged, also when the pointer leaves it before the drag begins: `target_at` is asked
    then. The widget still gets the press, and the moves until then.
    """

    def __init__(self, widget: QWidget, target_at: Callable[[QPoint], ImageTarget | None]) -> None:
        super().__init__(widget)
        self._widget, self._target_at = widget, target_at
        self._pressed = QPoint()
        self._click_or_drag = copy_and_drag.ClickOrDrag()
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        match event.type():
            case QEvent.Type.MouseButtonPress if isinstance(event, QMouseEvent):
                self._pressed = event.position().toPoint()
                self._click_or_drag.begin(event)
            case QEvent.Type.MouseMove if isinstance(event, QMouseEvent) and self._click_or_drag.becomes_drag(event):
                if (target := self._target_at(self._pressed)) is not None:
                    copy_and_drag.drag(self._widget, target.pixels(), target.path)
                    return True
            case QEvent.Type.MouseButtonRelease:
                self._click_or_drag.end()
        return False


def whole(target: ImageTarget) -> ImageTarget | None:
    """The image, if there is one."""
    return target if target.path is not None or not target.image.isNull() else None
