"""Walking over everything that a person can touch: a name, a tooltip, and a way there by keyboard."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QScrollBar,
    QWidget,
)

from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.widgets.images.roving_focus import RovingFocus

_TOUCHED = (QAbstractButton, QComboBox, QAbstractSlider, QAbstractSpinBox, QLineEdit, QPlainTextEdit, QAbstractItemView)
_WHOLE = (QComboBox, QAbstractSpinBox, QAbstractItemView, QLineEdit)  # what is in these is a part of them


def controls(place: QWidget) -> list[QWidget]:
    """Those in it, hidden ones too."""
    found = []
    for widget in place.findChildren(QWidget):
        inner = isinstance(widget.parentWidget(), _WHOLE) or (
            type(widget).__name__.startswith("QComboBoxPrivate") or widget.objectName().startswith("qt_")
        )
        listed = isinstance(widget, QAbstractItemView) and isinstance(widget.window().parentWidget(), QComboBox)
        inner |= isinstance(widget.window(), QMenu)  # that of pyqtgraph, which is switched off
        if isinstance(widget, _TOUCHED) and not isinstance(widget, QScrollBar) and not inner and not listed:
            found.append(widget)
    return found


def accessibility_problems(place: QWidget) -> list[str]:
    """What is wrong with which."""
    wrong = []
    for widget in controls(place):
        if not widget.accessibleName().strip():
            wrong.append(f"{type(widget).__name__} {widget.objectName()} has no name")
        if not widget.toolTip().strip() and not isinstance(widget, QAbstractItemView):  # its items have their own
            wrong.append(f"{widget.accessibleName()} has no tooltip")
        if not widget.focusPolicy() & Qt.FocusPolicy.TabFocus and not _by_arrows(widget):
            wrong.append(f"{widget.accessibleName()} cannot be reached by keyboard")
    in_grids = {image for grid in place.findChildren(RovingFocus) for image in grid.images()}
    for image in place.findChildren(ImageThumbnail):
        if image.isVisible() and image not in in_grids:
            wrong.append(f"{image.accessibleName()} is in no grid that Tab passes in one step")
    return wrong


def _by_arrows(widget: QWidget) -> bool:
    """Whether it is one of a group in which arrow keys go from the chosen one to the others."""
    group = widget.group() if isinstance(widget, QAbstractButton) else None
    chosen = group.checkedButton() if group is not None and group.exclusive() else None
    return chosen is not None and bool(chosen.focusPolicy() & Qt.FocusPolicy.TabFocus)
