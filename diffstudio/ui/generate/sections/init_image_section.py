"""The picture that a request starts from: chosen, looked at, painted on, taken away again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import StorageProblem
from diffstudio.studio.generation.masks import keep_mask
from diffstudio.studio.requests import FillName, GenerateRequest
from diffstudio.ui.generate.mask_dialog import MaskDialog
from diffstudio.ui.generate.mask_editor import Sides
from diffstudio.ui.generate.sections.add_buttons import AddButton
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images import IMAGE_FILE_FILTER, Thumbnail, read_image, unreadable_reason
from diffstudio.ui.widgets.inputs import CheckBox, LabelledComboBox, LabelledSlider

_THUMB = 56
_NO_SIDES: Sides = (0, 0, 0, 0)
FILLS = [
    (FillName.ORIGINAL, "What was there"),
    (FillName.SURROUNDINGS, "Colours around it"),
    (FillName.NOISE, "Noise"),
    (FillName.NOTHING, "Grey"),
]


class InitImageSection(QWidget):
    """`failed` carries a sentence for the room."""

    changed = Signal()
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._path: Path | None = None
        self._mask: Path | None = None
        self._sides: Sides = _NO_SIDES
        self.choose_button = AddButton(
            "Start from a picture…", "Picture", "image", "Choose a picture to change, to paint on or to extend"
        )
        self.heading = SectionLabel("Starts from")
        self.thumb = Thumbnail(_THUMB, 6, name="The picture it starts from")
        self.name = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.about = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.paint_button = SecondaryButton(
            "", "paint-brush", "Paint what is to be made anew, or draw the frame larger", name="Paint"
        )
        self.remove_button = SecondaryButton(
            "", "x", "Start from noise alone again", name="Remove the picture", role="dim"
        )
        self.strength = LabelledSlider(
            "Strength",
            0.01,
            1,
            0.6,
            step=0.01,
            decimals=2,
            tooltip="How far from the picture: little changes little, 1 keeps nothing of it",
        )
        self.fill = LabelledComboBox("Under the mask", FILLS, "What lies under the mask before it is made anew")
        self.feather = LabelledSlider(
            "Feather", 0, 128, 8, suffix=" px", tooltip="Over how many pixels what is painted fades in"
        )
        self.masked_only = CheckBox("Only the painted part, at full size")
        describe(
            self.masked_only,
            "Only the painted part, at full size",
            "Make the part around the mask at the size of the picture's settings; the rest keeps its own size and every bit",
        )
        self.padding = LabelledSlider(
            "Surroundings", 0, 256, 32, suffix=" px", tooltip="How much is seen around the painted part"
        )
        self._lay_out()
        self.choose_button.clicked.connect(self.choose)
        self.paint_button.clicked.connect(self.paint)
        self.remove_button.clicked.connect(self.clear)
        self.masked_only.toggled.connect(lambda _: self._follow())
        self._follow()

    # ---- what it says ------------------------------------------------------------------------------------------------

    def applied(self, request: GenerateRequest) -> GenerateRequest:
        """The request with what is chosen here."""
        if self._path is None:
            return request
        request = replace(request, init=self._path, strength=float(self.strength.value()))
        if not self.masked():
            return request
        return replace(
            request,
            mask=self._mask,
            outpaint=self._sides,
            fill=self.fill.value(),
            feather=int(self.feather.value()),
            masked_only=self.masked_only.isChecked(),
            padding=int(self.padding.value()),
        )

    def use(self, request: GenerateRequest) -> None:
        """Show what a request says; a picture that is gone is left out, and said."""
        if request.init is None:
            self.clear()
            return
        if not self.set_picture(request.init):
            return
        if request.mask is not None and not request.mask.is_file():
            self.failed.emit(f"The mask {request.mask.name} is no longer there, so it is left out.")
        self._mask = request.mask if request.mask is not None and request.mask.is_file() else None
        self._sides = request.outpaint
        self.strength.set_value(request.strength)
        self.fill.set_value(request.fill)
        self.feather.set_value(request.feather)
        self.masked_only.setChecked(request.masked_only)
        self.padding.set_value(request.padding)
        self._follow()

    def picture(self) -> Path | None:
        return self._path

    def set_picture(self, path: Path) -> bool:
        """False, and a sentence, when it cannot be read."""
        image = read_image(path, 2 * _THUMB)
        if image.isNull():
            why = unreadable_reason(path)
            self.failed.emit(f"{path.name} cannot be started from: {why or 'it is not a picture'}. Choose another.")
            return False
        self._path, self._mask, self._sides = path, None, _NO_SIDES
        self.thumb.set_image(image)
        self.name.setText(path.name)
        self._follow()
        self.changed.emit()
        return True

    def clear(self) -> None:
        self._path, self._mask, self._sides = None, None, _NO_SIDES
        self._follow()
        self.changed.emit()

    # ---- what a person does ------------------------------------------------------------------------------------------

    def choose(self) -> QFileDialog:
        dialog = QFileDialog(self, "Start from a picture", pictures_folder(), IMAGE_FILE_FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda name: self.set_picture(Path(name)))
        dialog.open()
        return dialog

    def paint(self) -> MaskDialog | None:
        """In a window of its own, at the picture's own size."""
        image = read_image(self._path) if self._path is not None else QImage()
        if image.isNull():
            self.failed.emit("The picture can no longer be read, so it cannot be painted on.")
            return None
        mask = read_image(self._mask) if self._mask is not None else None
        dialog = MaskDialog(image, mask, self._sides, self.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.done_painting.connect(self._painted)
        dialog.open()
        return dialog

    def _painted(self, png: bytes | None, sides: Sides) -> None:
        before = self.masked()
        try:
            self._mask = keep_mask(png) if png is not None else None
        except StorageProblem as problem:
            self.failed.emit(str(problem))
            return
        self._sides = sides
        if self.masked() and not before:
            self.strength.set_value(1.0)  # something new is wanted there, not a variation
        self._follow()
        self.changed.emit()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def masked(self) -> bool:
        """Whether a part of it is painted, or it is extended."""
        return self._mask is not None or any(self._sides)

    def _follow(self) -> None:
        given, masked = self._path is not None, self.masked()
        self.choose_button.setVisible(not given)
        self.setVisible(given or self.isAncestorOf(self.choose_button))
        for part in (self._card, self.heading, self.strength):
            part.setVisible(given)
        for part in (self.fill, self.feather, self.masked_only):
            part.setVisible(given and masked)
        self.padding.setVisible(given and masked and self.masked_only.isChecked())
        self.about.setText(_what(self._mask is not None, any(self._sides)))

    def _lay_out(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addStretch(1)
        words.addWidget(self.name)
        words.addWidget(self.about)
        words.addStretch(1)
        self._card = QWidget()
        row = QHBoxLayout(self._card)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.thumb)
        row.addLayout(words, 1)
        row.addWidget(self.paint_button)
        row.addWidget(self.remove_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.choose_button)
        for part in (self.heading, self._card, self.strength, self.fill, self.feather, self.masked_only, self.padding):
            column.addWidget(part)


def _what(masked: bool, extended: bool) -> str:
    if masked and extended:
        return "painted and extended"
    return "painted" if masked else "extended" if extended else "all of it changes"
