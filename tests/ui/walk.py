"""Walking over everything that is visible in a window: is any text cut off, outside its place, or hard to read?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from PySide6.QtCore import QRect, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QImage, QPalette
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSpinBox,
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QRadioButton,
    QSpinBox,
    QToolButton,
    QWidget,
)

from diffstudio.ui.widgets.controls import Chip, PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel
from diffstudio.ui.widgets.text_size import TextSized
from tests.ui.accessibility import controls

READABLE = 4.5  # WCAG AA: contrast of text
_ICON_ONLY = Qt.ToolButtonStyle.ToolButtonIconOnly
_SLACK = 2  # px: metrics are rounded


def settle() -> None:
    for _ in range(4):
        QApplication.sendPostedEvents()
        QApplication.processEvents()


def visible(place: QWidget) -> list[QWidget]:
    return [each for each in place.findChildren(QWidget) if each.isVisible() and not each.visibleRegion().isEmpty()]


def named(widget: QWidget) -> str:
    text = widget.text() if isinstance(widget, QLabel | QAbstractButton) else ""
    return f"{type(widget).__name__} “{(text or widget.accessibleName())[:60]}”"


# Clipping


def clipped(place: QWidget) -> list[str]:
    """What does not show all of its text, or does not fit into its place: what lasts, as images may just be arriving."""
    return _lasting(lambda: _clipped(place))


def _lasting(look: Callable[[], list[str]], looks: int = 20) -> list[str]:
    """What `look` still finds after a while. A layout is too small for a moment when something in it has grown."""
    found = look()
    while found and (looks := looks - 1):
        time.sleep(0.02)
        settle()
        found = look()
    return found


def _clipped(place: QWidget) -> list[str]:
    found = []
    for widget in visible(place):
        if why := _cut(widget) or _outside(widget, place):
            found.append(f"{named(widget)} {why}")
    return found


def pushed_out(place: QWidget) -> list[str]:
    """Controls that are shown, but of which nothing can be seen, and to which nothing scrolls."""
    found = []
    for widget in controls(place):
        if widget.isVisible() and widget.visibleRegion().isEmpty() and not _scrolls(widget, place):
            found.append(f"{named(widget)} is pushed out of sight")
    return found


def _scrolls(widget: QWidget, place: QWidget) -> bool:
    inside = widget.parentWidget()
    while inside is not None and inside is not place:
        if isinstance(inside, QAbstractScrollArea):
            return True
        inside = inside.parentWidget()
    return False


def _cut(widget: QWidget) -> str:
    metrics, size = QFontMetrics(widget.font()), widget.size()
    if isinstance(widget, ElidedLabel):
        whole = widget.shown_text() == widget.text()
        return "" if whole or widget.toolTip() else "is elided and has no tooltip"
    if isinstance(widget, QLabel) and widget.text():
        inside = widget.contentsRect().size()
        if widget.wordWrap():
            needed = widget.heightForWidth(size.width())
            words = max(widget.text().split(), key=metrics.horizontalAdvance, default="")
            if metrics.horizontalAdvance(words) > inside.width() + _SLACK:
                return f"has a word that is wider than its {inside.width()} px"
            return f"needs {needed} px of height and has {size.height()}" if needed > size.height() + _SLACK else ""
        needed_size = metrics.size(0, widget.text())
        return _too_small(needed_size, inside)
    if (
        isinstance(widget, Chip | PrimaryButton | SecondaryButton) and widget.text()
    ):  # they elide, and their tooltip has the text
        return (
            "" if widget.toolTip() and widget.height() + _SLACK >= metrics.height() else "is cut off without a tooltip"
        )
    if isinstance(widget, QPushButton | QCheckBox | QRadioButton) and widget.text():
        return _too_small(widget.sizeHint(), size)
    if isinstance(widget, QToolButton) and widget.text() and widget.toolButtonStyle() is not _ICON_ONLY:
        return _too_small(QSize(metrics.horizontalAdvance(widget.text()), metrics.height()), size)
    if isinstance(widget, QAbstractSpinBox):
        line = widget.findChild(QLineEdit)
        text = widget.specialValueText() or line.text() if line is not None else ""
        return _too_small(QSize(metrics.horizontalAdvance(text), metrics.height() - 2), size)
    return ""


def _too_small(needed: QSize, size: QSize) -> str:
    if needed.width() > size.width() + _SLACK or needed.height() > size.height() + _SLACK:
        return f"needs {needed.width()} × {needed.height()} px and has {size.width()} × {size.height()}"
    return ""


def _outside(widget: QWidget, place: QWidget) -> str:
    """Whether it reaches beyond the place that shows it. Contents of a scroll area may reach below it."""
    parent = widget.parentWidget()
    if parent is None or widget.isWindow() or isinstance(parent, QAbstractScrollArea) or not widget.isVisible():
        return ""
    rect = widget.geometry()
    if isinstance(parent.parentWidget(), QAbstractScrollArea):  # the viewport: vertically it scrolls
        area = parent.parentWidget()
        scrolls = area.horizontalScrollBarPolicy() is not Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        wide = rect.width() > parent.width() + _SLACK and not scrolls
        return f"is {rect.width()} px wide in a scroll area of {parent.width()}" if wide else ""
    room = parent.rect().adjusted(-_SLACK, -_SLACK, _SLACK, _SLACK)
    return "" if room.contains(rect) else f"at {_shown(rect)} reaches beyond its parent of {_shown(parent.rect())}"


def _shown(rect: QRect) -> str:
    return f"{rect.x()},{rect.y()} {rect.width()}×{rect.height()}"


# Long texts

_DOUBLED = ("àà", "éé", "îî", "öö", "üü", "Àà", "Éé", "Îî", "Öö", "Üü")
_ACCENTED = str.maketrans(dict(zip("aeiouAEIOU", _DOUBLED, strict=True)))


def longer(text: str) -> str:
    """As a translation into a language with longer words would be: about 40% longer, accents above and below."""
    return text.translate(_ACCENTED).replace("s", "ş")


def lengthen(place: QWidget, seen: set[QWidget]) -> None:
    """Make all texts in it longer, but for those in `seen`, to which they are added."""
    for widget in (place, *place.findChildren(QWidget)):
        if widget in seen:
            continue
        seen.add(widget)
        if isinstance(widget, QLabel | QAbstractButton) and widget.text():
            widget.setText(longer(widget.text()))
        elif isinstance(widget, QLineEdit | QPlainTextEdit):
            widget.setPlaceholderText(longer(widget.placeholderText()))
        elif isinstance(widget, QComboBox):
            for index in range(widget.count()):
                widget.setItemText(index, longer(widget.itemText(index)))
        elif isinstance(widget, QSpinBox | QDoubleSpinBox):
            widget.setSpecialValueText(longer(widget.specialValueText()))
            widget.setSuffix(longer(widget.suffix()))
    for widget in (place, *place.findChildren(QWidget)):
        if isinstance(widget, TextSized):
            widget.fit_text()


# Contrast


def luminance(colour: QColor) -> float:
    """Relative luminance, WCAG 2.1."""
    parts = [
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in (colour.redF(), colour.greenF(), colour.blueF())
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: QColor, other: QColor) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def hard_to_read(place: QWidget) -> list[str]:
    """Enabled texts whose colour is too close to what is painted behind them."""
    image = place.grab().toImage()
    found = []
    for widget in visible(place):
        ink = _ink(widget)
        if ink is None or not widget.isEnabled():
            continue
        shown = widget.visibleRegion().boundingRect()  # the rest may lie below something else
        rect = QRect(widget.mapTo(place, shown.topLeft()), shown.size()).intersected(place.rect())
        ground = _ground(image, rect, place.devicePixelRatioF())
        if ground is not None and (ratio := contrast(ink, ground)) < READABLE:
            found.append(f"{named(widget)}: {ink.name()} on {ground.name()} is {ratio:.2f}")
    return found


def _ink(widget: QWidget) -> QColor | None:
    palette = widget.palette()
    if isinstance(widget, QLabel) and widget.text():
        return palette.color(widget.foregroundRole())
    if isinstance(widget, QAbstractButton) and widget.text():
        return palette.color(QPalette.ColorRole.ButtonText)
    if isinstance(widget, QLineEdit):
        kind = QPalette.ColorRole.Text if widget.text() else QPalette.ColorRole.PlaceholderText
        if widget.hasSelectedText():
            return None  # it stands on the colour of the selection, which `test_theme` checks
        return palette.color(kind) if widget.text() or widget.placeholderText() else None
    if isinstance(widget, QPlainTextEdit):
        kind = QPalette.ColorRole.Text if widget.toPlainText() else QPalette.ColorRole.PlaceholderText
        return palette.color(kind)
    return None


def _ground(image: QImage, rect: QRect, ratio: float) -> QColor | None:
    """The most frequent colour inside a rectangle: what the text stands on."""
    count: Counter[int] = Counter()
    for y in range(rect.top() + 2, rect.bottom() - 1, max(1, rect.height() // 12)):
        for x in range(rect.left() + 4, rect.right() - 3, max(1, rect.width() // 40)):
            count[image.pixel(round(x * ratio), round(y * ratio))] += 1
    return QColor(count.most_common(1)[0][0]) if count else None


# Focus


def focus_invisible(place: QWidget, seen: set[QWidget]) -> list[str]:
    """Controls that look the same with the focus and without it, and are not in `seen`, to which they are added."""
    found = []
    for widget in controls(place):
        if widget in seen:
            continue
        if not widget.isVisible() or not widget.isEnabled() or not widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            continue
        if widget.visibleRegion().isEmpty() or widget.focusProxy() is not None:
            continue
        seen.add(widget)
        place.setFocus()
        before = widget.grab().toImage()
        widget.setFocus(Qt.FocusReason.TabFocusReason)
        if widget.hasFocus() and widget.grab().toImage() == before:
            found.append(f"{named(widget)} does not show the focus")
    return found
