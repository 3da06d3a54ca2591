"""WordMapsView: an image with the map of one of its words; mouse or arrow keys show which words act at a place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QBuffer, QEvent, QObject, QPoint, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.views.attention import AttentionView
from diffstudio.ui.lab.results.saving import SaveButton, SavedFile
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images.drag_source import DragSource, whole
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_painting import fitted, mark
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage, read_image
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.wrapping_text import WrappingText

SIDE = 224  # px of an image, at 100%
_LISTED = 6  # words listed for a place
_KEY_STEPS = 32  # presses of an arrow key across the image
_KEYS = {Qt.Key.Key_Left: (-1, 0), Qt.Key.Key_Right: (1, 0), Qt.Key.Key_Up: (0, -1), Qt.Key.Key_Down: (0, 1)}


class PlaceImage(QWidget):
    """An image that reports the place x, y in [0,1] under the mouse."""

    pointed = Signal(float, float)
    left = Signal()
    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self, name: str, tooltip: str, points: bool = True) -> None:
        super().__init__()
        self.target = ImageTarget()
        self._points, self._place = points, QPointF(0.5, 0.5)
        self._marked = False
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(points)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(96)
        self.setMaximumWidth(theme.scaled(SIDE))
        self.setFixedHeight(theme.scaled(SIDE))
        if points:
            self.setCursor(Qt.CursorShape.CrossCursor)
        describe(self, name, tooltip)
        DragSource(self, lambda _: whole(self.target))

    def sizeHint(self) -> QSize:
        return QSize(theme.scaled(SIDE), theme.scaled(SIDE))

    def show_image(self, target: ImageTarget) -> None:
        self.target = target
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        image = self.target.image
        if image.isNull():
            return
        painter, room = QPainter(self), self._room()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, image.width() > room.width())
        painter.drawImage(room, image)
        if self._marked:
            at = QPointF(room.x() + self._place.x() * room.width(), room.y() + self._place.y() * room.height())
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            for width, colour in ((3, "background"), (1, "text")):
                painter.setPen(QPen(theme.colour(colour), width))
                painter.drawEllipse(at, 6, 6)
        if self.hasFocus():
            mark(painter, room)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        room = self._room()
        if self._points and room.contains(event.position()):
            x = (event.position().x() - room.x()) / room.width()
            self._point(QPointF(x, (event.position().y() - room.y()) / room.height()))

    def leaveEvent(self, event: QEvent) -> None:
        if not self.hasFocus():
            self._marked = False
            self.update()
            self.left.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        move = _KEYS.get(Qt.Key(event.key())) if self._points else None
        if move is None:
            super().keyPressEvent(event)
            return
        x, y = (value + step / _KEY_STEPS for value, step in zip(self._place.toTuple(), move, strict=True))
        self._point(QPointF(min(1.0, max(0.0, x)), min(1.0, max(0.0, y))))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        keyboard = event.reason() == QContextMenuEvent.Reason.Keyboard
        centre = QPoint(self.mapToGlobal(self.rect().center()))
        self.menu_requested.emit(self.target, centre if keyboard else event.globalPos())

    def _point(self, place: QPointF) -> None:
        self._place, self._marked = place, True
        self.update()
        self.pointed.emit(place.x(), place.y())

    def _room(self) -> QRectF:
        return fitted(self.target.image.size(), QRectF(self.rect())) if not self.target.image.isNull() else QRectF()


class WordMapsView(QWidget):
    """The words above the image: hovering or focusing a word shows its map, a click keeps it."""

    message = Signal(str, str)  # kind, text
    menu_requested = Signal(object, object)  # ImageTarget, QPoint

    def __init__(self) -> None:
        super().__init__()
        self._view: AttentionView | None = None
        self._hovered: int | None = None
        self.save = SaveButton("map")
        self.words = ChipRow((), name="Words")
        self._chips = QVBoxLayout()
        self.layer = LabelledSlider(
            "Layer",
            0,
            1,
            0,
            zero="All",
            tooltip="The layer of the network whose maps are shown; All: the mean over layers",
        )
        self.step = LabelledSlider(
            "Step", 0, 1, 0, zero="All", tooltip="The sampling step whose maps are shown; All: the mean over steps"
        )
        self.image = PlaceImage(
            "Image with the map of a word",
            "Point at a place, or move the mark with the arrow keys, to see which words act there",
        )
        self.plain = PlaceImage("Image", "The image itself", points=False)
        self.masked = PlaceImage(
            "Image without the word", "The image generated with the tokens of the word masked", points=False
        )
        self.caption, self.plain_caption, self.masked_caption = (ElidedLabel("", "dim") for _ in range(3))
        self.here = WrappingText("", "text")
        self.here.setAccessibleName("Words that act here")
        self._lay_out()
        for slider in (self.layer, self.step):
            slider.value_changed.connect(lambda _: self._draw())
        self.image.pointed.connect(self._show_place)
        self.image.left.connect(self._show_hint)
        for one in (self.image, self.plain, self.masked):
            one.menu_requested.connect(self.menu_requested)
        self.save.message.connect(self.message)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(SectionLabel("Where words act"), 1)
        top.addWidget(self.save)
        images = QHBoxLayout()
        images.setSpacing(16)
        for image, caption in (
            (self.image, self.caption),
            (self.plain, self.plain_caption),
            (self.masked, self.masked_caption),
        ):
            one = QVBoxLayout()
            one.setSpacing(4)
            one.addWidget(image)
            one.addWidget(caption)
            images.addLayout(one)
        images.addStretch(1)
        sliders = QHBoxLayout()
        sliders.setSpacing(24)
        sliders.addWidget(self.layer)
        sliders.addWidget(self.step)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(top)
        self._chips.addWidget(self.words)
        column.addLayout(self._chips)
        column.addLayout(images)
        column.addWidget(self.here)
        column.addLayout(sliders)

    def show_view(self, view: AttentionView) -> None:
        self._view, self._hovered = view, None
        self._chips.removeWidget(self.words)
        self.words.hide()
        self.words.deleteLater()
        choices = [(None, "Image"), *((number, word.text) for number, word in enumerate(view.words))]
        tooltips = ["Show the image alone", *(f"Show where {word.text} acts" for word in view.words)]
        self.words = ChipRow(choices, tooltips=tooltips, name="Words")
        for number, _ in choices:
            self.words.chip(number).installEventFilter(self)
        self.words.value_changed.connect(lambda _: self._draw())
        self.words.set_value(0)
        self._chips.addWidget(self.words)
        self.layer.set_range(0, len(view.result.layers))
        self.step.set_range(0, len(view.result.times))
        for slider in (self.layer, self.step):
            slider.set_value(0)
        self._show_hint()
        self._draw()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Show the map of a word while the mouse is over it, and when it gets the focus."""
        if event.type() in (QEvent.Type.Enter, QEvent.Type.FocusIn):
            self._hovered = next((place for place, chip in enumerate(self._word_chips()) if chip is watched), None)
            self._draw()
        elif event.type() in (QEvent.Type.Leave, QEvent.Type.FocusOut):
            self._hovered = None
            self._draw()
        return False

    def shown_word(self) -> int | None:
        """The number of the word whose map is shown; None for the image alone."""
        if self._hovered is not None:
            return self._hovered - 1 if self._hovered else None
        word: int | None = self.words.value()
        return word

    def place(self) -> tuple[int | None, int | None]:
        """The shown layer and step, from 0; None for all."""
        layer, step = int(self.layer.value()), int(self.step.value())
        return layer - 1 if layer else None, step - 1 if step else None

    def _word_chips(self) -> Sequence[QObject]:
        assert self._view is not None
        return [self.words.chip(number) for number in (None, *range(len(self._view.words)))]

    def _draw(self) -> None:
        view, word = self._view, self.shown_word()
        if view is None:
            return
        layer, step = self.place()
        where = ", ".join(
            (
                "all layers" if layer is None else view.result.layers[layer],
                "all steps" if step is None else f"step {step + 1}, noise level {view.result.times[step]:.2f}",
            )
        )
        plain = ImageTarget(view.folder / view.result.picture, numpy_to_qimage(view.picture), prompt=view.result.prompt)
        self.plain.show_image(plain)
        self.plain_caption.setText("The image")
        for part in (self.plain, self.plain_caption):
            part.setVisible(word is not None)
        if word is None:
            self.image.show_image(plain)
            self.caption.setText("The image")
        else:
            shown = numpy_to_qimage(view.overlay(word, layer, step))
            self.image.show_image(ImageTarget(None, shown, prompt=view.result.prompt))
            self.caption.setText(f"{view.words[word].text}: {where}")
        self._show_masked(view, word)
        name = "image" if word is None else f"word-{word + 1:02d}"
        self.save.set_files(
            [
                SavedFile("Shown image (PNG)", f"{name}.png", partial(_png, self.image.target.image)),
                SavedFile("All maps (NPZ)", "attention.npz", (view.folder / view.result.arrays).read_bytes),
            ]
        )

    def _show_masked(self, view: AttentionView, word: int | None) -> None:
        file = view.masked_file(word) if word is not None else None
        image = read_image(file) if file is not None else QImage()
        self.masked.setVisible(not image.isNull())
        self.masked_caption.setVisible(not image.isNull())
        if word is not None and file is not None:
            self.masked.show_image(ImageTarget(Path(file), image, prompt=view.result.prompt))
            self.masked_caption.setText(f"Without {view.words[word].text}")

    def _show_place(self, x: float, y: float) -> None:
        if self._view is None:
            return
        found = [(word, share) for word, share in self._view.here(x, y, *self.place()) if share >= 0.005][:_LISTED]
        listed = ", ".join(f"{self._view.words[word].text} {share:.0%}" for word, share in found)
        self.here.set_text(f"Here: {listed}" if listed else "Here: no word")

    def _show_hint(self) -> None:
        self.here.set_text("Hover a word to see where it acts, or the image to see which words act there.")


def _png(image: QImage) -> bytes:
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]
    return bytes(buffer.data().data())
