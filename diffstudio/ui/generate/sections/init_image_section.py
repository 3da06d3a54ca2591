"""The init image section: img2img, inpaint and outpaint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import StorageProblem
from diffstudio.studio.generation.masks import keep_mask
from diffstudio.studio.metadata.named_files import NamedFile
from diffstudio.studio.requests import FillName, GenerateRequest
from diffstudio.ui.generate.mask_dialog import MaskDialog
from diffstudio.ui.generate.mask_editor import Sides
from diffstudio.ui.generate.sections.add_buttons import AddButton
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import choose_image
from diffstudio.ui.widgets.helpers import ElidedLabel
from diffstudio.ui.widgets.images import Thumbnail, read_image, unreadable, unreadable_reason
from diffstudio.ui.widgets.inputs import CheckBox, LabelledComboBox, LabelledSlider

_THUMB = 56
_NO_SIDES: Sides = (0, 0, 0, 0)
FILLS = [
    (FillName.ORIGINAL, "Original"),
    (FillName.SURROUNDINGS, "Fill (surrounding colours)"),
    (FillName.NOISE, "Latent noise"),
    (FillName.NOTHING, "Latent nothing (grey)"),
]


class InitImageSection(QWidget):
    """`failed` carries a warning for the room."""

    changed = Signal()
    opened = Signal()  # an image was added: scroll its settings into view
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._path: Path | None = None
        self._mask: Path | None = None
        self._sides: Sides = _NO_SIDES
        self.choose_button = AddButton(
            "Add init image (img2img)…",
            "img2img",
            "image",
            "Choose an image to start from: img2img, inpaint or outpaint",
        )
        self.heading = SectionLabel(terms.INIT_IMAGE)
        self.thumb = Thumbnail(_THUMB, 6, name=terms.INIT_IMAGE)
        self.name = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.about = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.paint_button = SecondaryButton(
            "", "paint-brush", "Inpaint: paint a mask. Outpaint: extend the canvas", name="Inpaint or outpaint"
        )
        self.remove_button = SecondaryButton("", "x", "Remove the init image", name="Remove init image", role="dim")
        self.strength = LabelledSlider(
            terms.DENOISING_STRENGTH,
            0.01,
            1,
            0.6,
            step=0.01,
            decimals=2,
            tooltip="How much the image changes: low values keep it, 1 ignores it",
        )
        self.fill = LabelledComboBox("Masked content", FILLS, "What the masked area contains before inpainting")
        self.feather = LabelledSlider(
            "Mask blur", 0, 128, 8, suffix=" px", tooltip="Width of the soft edge of the mask"
        )
        self.masked_only = CheckBox(
            "Inpaint only masked",
            "Generate the area around the mask at full resolution; pixels outside the mask stay untouched",
        )
        self.padding = LabelledSlider(
            "Only-masked padding", 0, 256, 32, suffix=" px", tooltip="Context around the mask that the model sees"
        )
        self._lay_out()
        self.choose_button.clicked.connect(self.choose)
        self.paint_button.clicked.connect(self.open_mask_editor)
        self.remove_button.clicked.connect(self._remove)
        self.masked_only.toggled.connect(lambda _: self._update_state())
        self._update_state()

    # Request

    def apply_to(self, request: GenerateRequest) -> GenerateRequest:
        """The request with these settings."""
        if self._path is None:
            return request
        request = replace(request, init=self._path, strength=float(self.strength.value()))
        if not self.has_mask():
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

    def load_from(self, request: GenerateRequest) -> None:
        """Load the settings of a request; `failed` names an image or mask that is missing."""
        if request.init is None:
            self.clear()
            return
        if NamedFile.of(request.init) is not None or not self._read(request.init):  # a named file was not found
            self.clear()  # the image of another request must not take its place
            return
        if request.mask is not None and not request.mask.is_file() and NamedFile.of(request.mask) is None:
            self.failed.emit(f"The mask {request.mask.name} no longer exists, so it is not used.")
        self._mask = request.mask if request.mask is not None and request.mask.is_file() else None
        self._sides = request.outpaint
        self.strength.set_value(request.strength)
        self.fill.set_value(request.fill)
        self.feather.set_value(request.feather)
        self.masked_only.setChecked(request.masked_only)
        self.padding.set_value(request.padding)
        self._update_state()
        self.changed.emit()

    def image_path(self) -> Path | None:
        return self._path

    def set_image(self, path: Path) -> bool:
        """Set the init image; False when it cannot be read (`failed` says why)."""
        if not self._read(path):
            return False
        self._update_state()
        self.changed.emit()
        self.opened.emit()
        return True

    def _read(self, path: Path) -> bool:
        image = read_image(path, 2 * _THUMB)
        if image.isNull():
            reason = unreadable_reason(path)
            self.failed.emit(f"{path.name} cannot be used: {reason or 'it is not an image'}. Choose another image.")
            return False
        self._path, self._mask, self._sides = path, None, _NO_SIDES
        self.thumb.set_image(image)
        self.name.setText(path.name)
        return True

    def clear(self) -> None:
        self._path, self._mask, self._sides = None, None, _NO_SIDES
        self._update_state()
        self.changed.emit()

    # User input

    def choose(self) -> QFileDialog:
        return choose_image(self, "Choose an init image", pictures_folder(), self.set_image)

    def _remove(self) -> None:
        self.clear()
        self.choose_button.setFocus()  # not what follows the button that is hidden now

    def open_mask_editor(self) -> MaskDialog | None:
        """Open the mask editor."""
        image = read_image(self._path) if self._path is not None else QImage()
        if image.isNull():
            self.failed.emit("The init image can no longer be read. Choose another image.")
            return None
        mask = read_image(self._mask) if self._mask is not None else None
        if self._mask is not None and mask is not None and mask.isNull():
            self.failed.emit(f"{unreadable(self._mask)} The mask editor starts without a mask.")
        dialog = MaskDialog(image, mask, self._sides, self.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.mask_accepted.connect(self._apply_mask)
        dialog.open()
        return dialog

    def _apply_mask(self, png: bytes | None, sides: Sides) -> None:
        before = self.has_mask()
        try:
            self._mask = keep_mask(png) if png is not None else None
        except StorageProblem as problem:
            self.failed.emit(str(problem))
            return
        self._sides = sides
        if self.has_mask() and not before:
            self.strength.set_value(1.0)  # inpainting usually replaces the masked content
        self._update_state()
        self.changed.emit()

    # Internal

    def has_mask(self) -> bool:
        """Whether the request inpaints or outpaints."""
        return self._mask is not None or any(self._sides)

    def _update_state(self) -> None:
        given, masked = self._path is not None, self.has_mask()
        self.choose_button.setVisible(not given)
        self.setVisible(given or self.isAncestorOf(self.choose_button))
        for part in (self._card, self.heading, self.strength):
            part.setVisible(given)
        for part in (self.fill, self.feather, self.masked_only):
            part.setVisible(given and masked)
        self.padding.setVisible(given and masked and self.masked_only.isChecked())
        self.about.setText(_mode_text(self._mask is not None, any(self._sides)))

    def _lay_out(self) -> None:
        texts = QVBoxLayout()
        texts.setSpacing(2)
        texts.addStretch(1)
        texts.addWidget(self.name)
        texts.addWidget(self.about)
        texts.addStretch(1)
        self._card = QWidget()
        row = QHBoxLayout(self._card)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.thumb)
        row.addLayout(texts, 1)
        row.addWidget(self.paint_button)
        row.addWidget(self.remove_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.choose_button)
        for part in (self.heading, self._card, self.strength, self.fill, self.feather, self.masked_only, self.padding):
            column.addWidget(part)


def _mode_text(masked: bool, extended: bool) -> str:
    if masked and extended:
        return "Inpaint and outpaint"
    return "Inpaint" if masked else "Outpaint" if extended else "img2img"
