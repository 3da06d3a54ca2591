"""The size of all text, which the settings choose. A change takes effect at once, in every widget that exists.

Fonts made by `theme.font` are scaled. A size in px that was chosen for a text is set by `fix_size`, or computed again
in `TextSized.fit_text`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from PySide6.QtWidgets import QAbstractItemView, QApplication, QWidget

from diffstudio.ui.widgets import theme

_FIXED = "diffstudioFixedSize"  # a property: width and height in px at 100%; 0 leaves one free


@runtime_checkable
class TextSized(Protocol):
    """A widget that computes a size from its font: `fit_text` is called whenever the text size changes."""

    def fit_text(self) -> None: ...


def fix_size(widget: QWidget, width: int = 0, height: int = 0) -> None:
    """Fix the width or the height of a widget, in px at 100%: it grows with the text. 0 leaves one free."""
    widget.setProperty(_FIXED, [width, height])
    _fix(widget)


def apply(app: QApplication, percent: int) -> None:
    """Set the text size of all widgets, those that are made later among them."""
    theme.apply(app, theme.name(), percent)
    for widget in app.allWidgets():
        if widget.property(_FIXED):
            _fix(widget)
        if isinstance(widget, TextSized):
            widget.fit_text()
        if isinstance(widget, QAbstractItemView):
            widget.scheduleDelayedItemsLayout()
        widget.updateGeometry()


def _fix(widget: QWidget) -> None:
    width, height = widget.property(_FIXED)
    if width:
        widget.setFixedWidth(theme.scaled(width))
    if height:
        widget.setFixedHeight(theme.scaled(height))
