"""The mask dialog: paint an inpaint mask, and extend the canvas for outpainting."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QBuffer, QIODevice, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QDialog, QHBoxLayout, QMessageBox, QVBoxLayout, QWidget

from diffstudio.ui.generate.mask.editor import LARGEST, MAX_OUTPAINT, SMALLEST, SNAP, FrameOf, MaskEditor, Sides
from diffstudio.ui.widgets import actions, shortcuts, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import ask_to_discard, message_box, resize_within_screen
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, describe, label, scroll_area
from diffstudio.ui.widgets.images.image_reading import read_image, unreadable
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

_SIDES = ("Left", "Top", "Right", "Bottom")


class MaskDialog(QDialog):
    """`mask_accepted` carries the mask as PNG bytes, None if it is empty, and the outpaint margins (`Sides`).

    `frame_of`, as in `MaskEditor.set_frame_of`, gives the frame of what is generated, which is drawn over the image.
    """

    mask_accepted = Signal(object, object)

    def __init__(
        self,
        image: QImage,
        mask: QImage | None,
        sides: Sides,
        parent: QWidget | None = None,
        frame_of: FrameOf | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Inpaint and outpaint")
        describe(self, "Inpaint and outpaint", " ")
        self.setMinimumSize(640, 360)
        resize_within_screen(self, 1080, 760)
        self.editor = MaskEditor()
        self.editor.set_image(image, mask, sides)
        self._sides_before = self.editor.sides()
        if frame_of is not None:
            self.editor.set_frame_of(frame_of)
        self.editor.set_brush(max(SMALLEST, round(max(image.width(), image.height()) / 10)))
        self.tool = ChipRow(
            [(False, "Brush"), (True, "Eraser")], tooltips=("Paint the mask", "Erase (E, or hold Alt)"), name="Tool"
        )
        self.brush = LabelledSlider(
            "Brush size", SMALLEST, LARGEST, self.editor.brush, suffix=" px", tooltip="Brush diameter ([ and ])"
        )
        self.softness = LabelledSlider(
            "Softness", 0, 100, 100 * self.editor.softness, suffix="%", tooltip="How soft the edge of the brush is"
        )
        self.undo = SecondaryButton("Undo", "arrow-u-up-left", "Undo the last stroke (Ctrl+Z)")
        self.redo = SecondaryButton("Redo", "arrow-u-up-right", "Redo (Ctrl+Shift+Z)")
        self.invert = SecondaryButton("Invert", "selection-inverse", "Invert the mask (Ctrl+I)")
        self.everything = SecondaryButton("Fill", "selection-all", "Mask the whole image (Ctrl+A)")
        self.clear = SecondaryButton("Clear", "eraser", "Clear the mask (Delete)")
        self.sides = [
            LabelledSlider(
                name,
                0,
                MAX_OUTPAINT,
                side,
                step=SNAP,
                suffix=" px",
                tooltip=f"Extend the canvas at the {name.lower()} edge; you can also drag the edge",
            )
            for name, side in zip(_SIDES, sides, strict=True)
        ]
        self.cancel = SecondaryButton(actions.CANCEL, "", "Discard the changes (Escape)")
        self.accept_button = PrimaryButton("Use mask", "", "Inpaint the masked area (Ctrl+Enter)")
        self._lay_out()
        self._connect()
        self._update_state()

    def _lay_out(self) -> None:
        tools = QWidget()
        tools.setObjectName("contents")
        side = QVBoxLayout(tools)
        side.setContentsMargins(16, 16, 16 - SCROLL_BAR_WIDTH, 8)
        side.setSpacing(8)
        side.addWidget(SectionLabel("Inpaint mask"))
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
        side.addWidget(SectionLabel("Outpaint"))
        for field in self.sides:
            side.addWidget(field)
        side.addWidget(label("You can also drag the edges of the frame.", "dim", pixels=theme.SMALL_PIXELS, wrap=True))
        side.addStretch(1)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(16, 8, 16, 16)
        buttons.setSpacing(8)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.accept_button, 1)
        holder = QWidget()
        holder.setFixedWidth(264)
        column = QVBoxLayout(holder)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(scroll_area(tools), 1)
        column.addLayout(buttons)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.editor, 1)
        row.addWidget(holder)

    def _connect(self) -> None:
        editor = self.editor
        self.tool.value_changed.connect(self._choose_tool)
        self.brush.value_changed.connect(lambda value: editor.set_brush(int(value)))
        self.softness.value_changed.connect(self._set_softness)
        for button, shortcut, act in (
            (self.undo, shortcuts.UNDO_MASK, editor.undo),
            (self.redo, shortcuts.REDO_MASK, editor.redo),
            (self.invert, shortcuts.INVERT_MASK, editor.invert),
            (self.everything, shortcuts.FILL_MASK, editor.fill),
            (self.clear, shortcuts.CLEAR_MASK, editor.clear),
        ):
            button.clicked.connect(act)
            shortcuts.bind_in_window(shortcut, self, act)
        shortcuts.bind_in_window(shortcuts.ACCEPT_MASK, self, self._accept)
        for field in self.sides:
            field.value_changed.connect(lambda _: self._extend())
        editor.painted.connect(self._update_state)
        editor.extended.connect(self._update_state)
        editor.brush_changed.connect(self._show_brush)
        self.cancel.clicked.connect(self.reject)
        self.accept_button.clicked.connect(self._accept)

    def reject(self) -> None:
        """Close; ask first if something was painted or extended."""
        if self.editor.can_undo() or self.editor.sides() != self._sides_before:
            ask_to_discard(self, "the mask", super().reject)
        else:
            super().reject()

    def load_mask(self, path: Path) -> None:
        """Take an image as the mask in place of what is painted; what cannot be read is named over the image."""
        mask = read_image(path)
        if mask.isNull():
            message_box(QMessageBox.Icon.Warning, self.windowTitle(), unreadable(path), parent=self).open()
            return
        self.editor.set_mask(mask)
        self._update_state()

    def _choose_tool(self, erasing: bool) -> None:
        self.editor.erasing = erasing

    def _set_softness(self, percent: float) -> None:
        self.editor.softness = percent / 100

    def _extend(self) -> None:
        left, top, right, bottom = (round(field.value() / SNAP) * SNAP for field in self.sides)
        self.editor.set_sides((left, top, right, bottom))

    def _show_brush(self) -> None:
        self.brush.set_value(self.editor.brush)
        self.tool.set_value(self.editor.erasing)

    def _update_state(self) -> None:
        self.undo.setEnabled(self.editor.can_undo())
        self.redo.setEnabled(self.editor.can_redo())
        for field, side in zip(self.sides, self.editor.sides(), strict=True):
            field.set_value(side)

    def _accept(self) -> None:
        png = None if self.editor.is_blank() else png_of(self.editor.mask_image())
        self.mask_accepted.emit(png, self.editor.sides())
        self.accept()


def png_of(image: QImage) -> bytes:
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]
    return bytes(buffer.data().data())
