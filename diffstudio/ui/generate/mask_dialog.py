"""Painting what is to be made anew, and drawing the picture's frame larger, in a window of its own."""

from __future__ import annotations

from PySide6.QtCore import QBuffer, QIODevice, Signal
from PySide6.QtGui import QImage, QKeySequence, QShortcut
from PySide6.QtWidgets import QDialog, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.ui.generate.mask_editor import LARGEST, MOST_EXTENDED, SMALLEST, SNAP, MaskEditor, Sides
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label
from diffstudio.ui.widgets.inputs import ChipRow, LabelledSlider

_SIDES = ("Left", "Top", "Right", "Bottom")


class MaskDialog(QDialog):
    """`done_painting` carries the mask as PNG bytes, or None where nothing is painted, and how far the frame was extended."""

    done_painting = Signal(object, object)

    def __init__(self, picture: QImage, mask: QImage | None, sides: Sides, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Paint")
        describe(self, "Paint what is to be made anew", " ")
        self.resize(1080, 760)
        self.setMinimumSize(640, 480)
        self.painter = MaskEditor()
        self.painter.set_picture(picture, mask, sides)
        self.painter.set_brush(max(SMALLEST, round(max(picture.width(), picture.height()) / 10)))
        self.tool = ChipRow(
            [(False, "Brush"), (True, "Eraser")],
            tooltips=("Paint", "Take paint away (E; Alt while it is held)"),
            name="Tool",
        )
        self.brush = LabelledSlider(
            "Width", SMALLEST, LARGEST, self.painter.brush, suffix=" px", tooltip="How wide the brush is ([ and ])"
        )
        self.softness = LabelledSlider(
            "Softness",
            0,
            100,
            100 * self.painter.softness,
            suffix=" %",
            tooltip="How much the brush fades towards its edge",
        )
        self.undo = SecondaryButton("Undo", "arrow-u-up-left", "Take the last stroke back (Ctrl+Z)")
        self.redo = SecondaryButton("Redo", "arrow-u-up-right", "Bring it back again (Ctrl+Shift+Z)")
        self.invert = SecondaryButton(
            "Invert", "selection-inverse", "Paint what is not painted, and the other way round (Ctrl+I)"
        )
        self.everything = SecondaryButton("Everything", "selection-all", "Paint all of it (Ctrl+A)")
        self.clear = SecondaryButton("Clear", "eraser", "Take all paint away (Delete)")
        self.sides = [
            LabelledSlider(
                name,
                0,
                MOST_EXTENDED,
                side,
                step=SNAP,
                suffix=" px",
                tooltip=f"How much is painted beyond the {name.lower()} edge; the edge can be dragged too",
            )
            for name, side in zip(_SIDES, sides, strict=True)
        ]
        self.cancel = SecondaryButton("Cancel", "", "Leave everything as it was (Escape)")
        self.accept_button = PrimaryButton("Use this mask", "", "Make what is painted anew (Ctrl+Enter)")
        self._lay_out()
        self._connect()
        self._follow()

    def _lay_out(self) -> None:
        side = QVBoxLayout()
        side.setSpacing(8)
        side.addWidget(SectionLabel("Paint what is to be made anew"))
        side.addWidget(self.tool)
        side.addWidget(self.brush)
        side.addWidget(self.softness)
        for pair in ((self.undo, self.redo), (self.invert, self.everything)):
            row = QHBoxLayout()
            row.setSpacing(8)
            for button in pair:
                row.addWidget(button, 1)
            side.addLayout(row)
        side.addWidget(self.clear)
        side.addSpacing(12)
        side.addWidget(SectionLabel("More around it"))
        for field in self.sides:
            side.addWidget(field)
        side.addWidget(
            label(
                "Or drag an edge of the frame. What is added is made anew.", "dim", pixels=theme.SMALL_PIXELS, wrap=True
            )
        )
        side.addStretch(1)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.accept_button, 1)
        side.addLayout(buttons)
        holder = QWidget()
        holder.setFixedWidth(264)
        holder.setLayout(side)
        side.setContentsMargins(16, 16, 16, 16)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.painter, 1)
        row.addWidget(holder)

    def _connect(self) -> None:
        painter = self.painter
        self.tool.value_changed.connect(self._choose_tool)
        self.brush.value_changed.connect(lambda value: painter.set_brush(int(value)))
        self.softness.value_changed.connect(self._soften)
        for button, keys, act in (
            (self.undo, "Ctrl+Z", painter.undo),
            (self.redo, "Ctrl+Shift+Z", painter.redo),
            (self.invert, "Ctrl+I", painter.invert),
            (self.everything, "Ctrl+A", painter.fill),
            (self.clear, "Delete", painter.clear),
        ):
            button.clicked.connect(act)
            QShortcut(QKeySequence(keys), self, act)
        QShortcut(QKeySequence("Ctrl+Return"), self, self._accept)
        for field in self.sides:
            field.value_changed.connect(lambda _: self._extend())
        painter.painted.connect(self._follow)
        painter.extended.connect(self._follow)
        painter.brush_changed.connect(self._follow_brush)
        self.cancel.clicked.connect(self.reject)
        self.accept_button.clicked.connect(self._accept)

    def _choose_tool(self, erases: bool) -> None:
        self.painter.erases = erases

    def _soften(self, percent: float) -> None:
        self.painter.softness = percent / 100

    def _extend(self) -> None:
        left, top, right, bottom = (round(field.value() / SNAP) * SNAP for field in self.sides)
        self.painter.set_sides((left, top, right, bottom))

    def _follow_brush(self) -> None:
        self.brush.set_value(self.painter.brush)
        self.tool.set_value(self.painter.erases)

    def _follow(self) -> None:
        self.undo.setEnabled(self.painter.can_undo())
        self.redo.setEnabled(self.painter.can_redo())
        for field, side in zip(self.sides, self.painter.sides(), strict=True):
            field.set_value(side)

    def _accept(self) -> None:
        png = None if self.painter.is_blank() else png_of(self.painter.mask_image())
        self.done_painting.emit(png, self.painter.sides())
        self.accept()


def png_of(image: QImage) -> bytes:
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]
    return bytes(buffer.data().data())
