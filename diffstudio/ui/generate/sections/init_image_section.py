"""The init image section: img2img, inpaint and outpaint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import StorageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import starts_from_images
from diffstudio.studio.generation.masks import is_kept_mask, keep_mask
from diffstudio.studio.metadata.named_files import NamedFile
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.choices import FillName, ResizeName
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.mask.dialog import MaskDialog
from diffstudio.ui.generate.mask.editor import Sides
from diffstudio.ui.generate.mask.layer import coloured
from diffstudio.ui.generate.sections.add_buttons import AddButton
from diffstudio.ui.generate.sections.init_image_preview import InitImagePreview, InitOverlay, fitted_frame, masked_frame
from diffstudio.ui.generate.sections.size import InitSize
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import choose_image
from diffstudio.ui.widgets.helpers import ElidedLabel, label
from diffstudio.ui.widgets.images.drag_and_drop import takes_image
from diffstudio.ui.widgets.images.image_reading import image_size, read_image, unreadable, unreadable_reason
from diffstudio.ui.widgets.images.pasted_images import name_of
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

_PREVIEW = 640  # px, the largest side of the copy that is shown
DROP_INIT = "Drop to start from this image (img2img)"
_TEXT_ONLY = "This checkpoint generates from text alone: the init image is kept for another one."
DROP_MASK = "Drop to use this image as the mask"
_IMG2IMG, _INPAINTED = 0.6, 1.0  # denoising strength at first, and when a mask is added
_NO_SIDES: Sides = (0, 0, 0, 0)
FILLS = [
    (FillName.ORIGINAL, "Original"),
    (FillName.SURROUNDINGS, "Fill (surrounding colours)"),
    (FillName.NOISE, "Latent noise"),
    (FillName.NOTHING, "Latent nothing (grey)"),
]


@dataclass(frozen=True, slots=True)
class _Result:
    """What is generated: its size in px, and `pastes` and `by_hand` as in `SizeControl`."""

    size: tuple[int, int]
    pastes: bool = False
    by_hand: bool = False


class InitImageSection(QWidget):
    """The init image and its settings; hidden, but kept, for checkpoints that generate from text alone.

    `failed` carries a warning for the room. The panel answers `changed` with `show_fit`.
    """

    changed = Signal()
    opened = Signal()  # an image was added: scroll its settings into view
    failed = Signal(str)
    overlay_changed = Signal(object, object)  # the path and InitOverlay of the init image; None and None without one

    def __init__(self) -> None:
        super().__init__()
        self._available = True
        self._path: Path | None = None
        self._mask: Path | None = None
        self._sides: Sides = _NO_SIDES
        self._size = QSize()  # of the init image, px
        self._small_mask: QImage | None = None  # greyscale, white where masked
        self._fit = ""
        self._result = _Result((0, 0))
        self._was_masked = self._strength_is_automatic = False  # automatic: set because a mask was added
        self._usual_strength = _IMG2IMG  # the last one without a mask
        self._make_controls()
        self._lay_out()
        self._connect()
        self._update_state()

    def _make_controls(self) -> None:
        self.choose_button = AddButton(
            "Add init image (img2img)…",
            "img2img",
            "image",
            "Choose an image to start from: img2img, inpaint or outpaint",
        )
        self.heading = SectionLabel(terms.INIT_IMAGE)
        self.preview = InitImagePreview()
        self.name = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.about = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.mask_label = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS)
        self.mask_label.setMinimumHeight(24)
        self.paint_button = SecondaryButton(
            "", "paint-brush", "Inpaint: paint a mask. Outpaint: extend the canvas", name="Inpaint or outpaint"
        )
        self.remove_button = SecondaryButton("", "x", "Remove the init image", name="Remove init image", role="dim")
        self.strength = LabelledSlider(
            terms.DENOISING_STRENGTH,
            0.01,
            1,
            _IMG2IMG,
            step=0.01,
            decimals=2,
            tooltip="How much the image changes: low values keep it, 1 ignores it",
        )
        self.resize_mode = LabelledComboBox(
            "Resize mode", labels.RESIZE_MODES, "How the init image is fitted to the size: crop, pad or stretch"
        )
        self.fit_label = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
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

    def _connect(self) -> None:
        for widget in (self, self.choose_button):
            takes_image(widget, DROP_INIT, self.set_image, self.failed.emit)
        takes_image(self.mask_label, DROP_MASK, self.set_mask, self.failed.emit)
        self.choose_button.clicked.connect(self.choose)
        self.paint_button.clicked.connect(self.open_mask_editor)
        self.remove_button.clicked.connect(self._remove)
        self.masked_only.toggled.connect(lambda _: self._changed())
        self.resize_mode.value_changed.connect(lambda _: self._changed())
        self.strength.value_changed.connect(lambda _: self._strength_chosen())
        for slider in (self.feather, self.padding):
            slider.value_changed.connect(lambda _: self.changed.emit())

    # Request

    def set_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        available = checkpoint is None or starts_from_images(checkpoint.family)
        if available != self._available:
            self._available = available
            self._changed()

    def apply_to(self, request: GenerateRequest) -> GenerateRequest:
        """The request with these settings, if the checkpoint can start from an image."""
        return self.with_values(request) if self._available else request

    def with_values(self, request: GenerateRequest) -> GenerateRequest:
        """The request with these settings, even while they are hidden."""
        if self._path is None:
            return request
        request = replace(
            request, init=self._path, strength=float(self.strength.value()), resize=self.resize_mode.value()
        )
        if not self._is_masked():
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
        self._set_mask(request.mask if request.mask is not None and request.mask.is_file() else None)
        self._sides = request.outpaint
        self.resize_mode.set_value(request.resize)
        self.strength.set_value(request.strength)
        self._was_masked = self._is_masked()
        self._strength_is_automatic = self._was_masked and request.strength == _INPAINTED
        self._remember_strength()
        self.fill.set_value(request.fill)
        self.feather.set_value(request.feather)
        self.masked_only.blockSignals(True)
        self.masked_only.setChecked(request.masked_only)
        self.masked_only.blockSignals(False)
        self.padding.set_value(request.padding)
        self._changed()

    def image_path(self) -> Path | None:
        return self._path

    def used_size(self) -> InitSize | None:
        """The size of the init image with its outpaint margins; None if no init image is used."""
        if self._path is None or not self._available:
            return None
        left, top, right, bottom = self._sides
        width, height = self._size.width() + left + right, self._size.height() + top + bottom
        return InitSize(width, height, any(self._sides), self.has_mask() and self.masked_only.isChecked())

    def resize_of_request(self) -> ResizeName:
        """The resize mode of the request, which control images follow too."""
        return ResizeName(self.resize_mode.value()) if self._path is not None and self._available else ResizeName.CROP

    def show_fit(self, size: tuple[int, int], pastes: bool, *, by_hand: bool = False) -> None:
        """Show how the init image is used for a result of `size` px; `pastes` and `by_hand` as in `SizeControl`."""
        used, self._result = self.used_size(), _Result(size, pastes, by_hand)
        if used is None:
            self._fit = ""
            self.overlay_changed.emit(None, None)
            return
        mode, source = self.resize_of_request(), (used.width, used.height)
        self._fit = "" if pastes else labels.fit_text(source, size, mode)
        frame = self._frame(self._sides, self._small_mask)
        mask = coloured(self._small_mask) if self._small_mask is not None else None
        overlay = InitOverlay(self._size, frame, self._sides, mask)
        self.preview.set_overlay(overlay)
        self.overlay_changed.emit(self._path, overlay)
        self._update_state()

    def _frame(self, sides: Sides, mask: QImage | None) -> QRectF:
        """The frame of what is generated with these outpaint margins and this mask, in px of the init image."""
        if self._result.pastes:
            feather, padding = int(self.feather.value()), int(self.padding.value())
            return masked_frame(self._size, mask, sides, feather, padding, self._result.size)
        left, top, right, bottom = sides
        canvas = QSize(self._size.width() + left + right, self._size.height() + top + bottom)
        return fitted_frame(canvas, sides, self._result.size, self.resize_of_request())

    def _frame_in_editor(self, sides: Sides, mask: QImage | None) -> QRectF | None:
        """As `_frame`; None when the size follows the image, whatever its outpaint margins."""
        return self._frame(sides, mask) if self._result.by_hand or self._result.pastes else None

    def set_image(self, path: Path) -> bool:
        """Set the init image; False if it cannot be read or is not used now (`failed` says why)."""
        if not self._read(path):
            return False
        self._changed()
        if not self._available:
            self.failed.emit(_TEXT_ONLY)
            return False
        self.opened.emit()
        return True

    def set_mask(self, path: Path) -> bool:
        """Use an image as the mask, white where it is inpainted; False when it cannot be read (`failed` says why)."""
        if read_image(path, 64).isNull():
            self.failed.emit(unreadable(path))
            return False
        self._set_mask(path)
        self._fit_strength()
        self._changed()
        return True

    def _read(self, path: Path) -> bool:
        image = read_image(path, _PREVIEW)
        if image.isNull():
            reason = unreadable_reason(path)
            self.failed.emit(f"{name_of(path)} cannot be used: {reason or 'it is not an image'}. Choose another image.")
            return False
        self._path, self._size, self._sides = path, image_size(path), _NO_SIDES
        self._set_mask(None)
        self._fit_strength()
        self.preview.set_image(image)
        self.preview.set_overlay(InitOverlay(self._size, QRectF(0, 0, self._size.width(), self._size.height())))
        self.name.setText(name_of(path))
        return True

    def _set_mask(self, mask: Path | None) -> None:
        self._mask, self._small_mask = mask, None
        if mask is not None and not (image := read_image(mask, _PREVIEW)).isNull():
            self._small_mask = QImage(image.size(), QImage.Format.Format_Grayscale8)
            self._small_mask.fill(0)  # transparent counts as black
            painter = QPainter(self._small_mask)
            painter.drawImage(0, 0, image)
            painter.end()

    def clear(self) -> None:
        self._path, self._sides = None, _NO_SIDES
        self._set_mask(None)
        self._fit_strength()
        self.resize_mode.set_value(ResizeName.CROP)
        self._changed()

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
        dialog = MaskDialog(image, mask, self._sides, self.window(), self._frame_in_editor)
        takes_image(dialog, DROP_MASK, dialog.load_mask, self.failed.emit)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.mask_accepted.connect(self._apply_mask)
        dialog.open()
        return dialog

    def _apply_mask(self, png: bytes | None, sides: Sides) -> None:
        try:
            self._set_mask(keep_mask(png) if png is not None else None)
        except StorageProblem as problem:
            self.failed.emit(str(problem))
            return
        self._sides = sides
        self._fit_strength()
        self._changed()

    # Internal

    def _fit_strength(self) -> None:
        """Inpainting usually replaces the masked content; without a mask the strength goes back, unless it was changed."""
        masked = self._is_masked()
        if masked and not self._was_masked:
            self._remember_strength()
            self.strength.set_value(_INPAINTED)
            self._strength_is_automatic = True
        elif not masked and self._strength_is_automatic:
            self.strength.set_value(self._usual_strength)
            self._strength_is_automatic = False
        self._was_masked = masked

    def _strength_chosen(self) -> None:
        self._strength_is_automatic = False
        self._remember_strength()

    def _remember_strength(self) -> None:
        if not self._was_masked:
            self._usual_strength = float(self.strength.value())

    def has_mask(self) -> bool:
        """Whether the request inpaints or outpaints."""
        return self._available and self._is_masked()

    def _is_masked(self) -> bool:
        return self._mask is not None or any(self._sides)

    def _changed(self) -> None:
        self._update_state()
        self.changed.emit()

    def _update_state(self) -> None:
        given, masked = self._path is not None, self.has_mask()
        self.choose_button.setVisible(not given and self._available)
        self.setVisible(self._available and (given or self.isAncestorOf(self.choose_button)))
        for part in (self._card, self.preview, self.heading, self.strength, self.mask_label):
            part.setVisible(given)
        self.mask_label.setText(self._mask_text())
        for part in (self.resize_mode, self.fit_label):
            part.setVisible(given and bool(self._fit))
        self.fit_label.setText(self._fit)
        for part in (self.fill, self.feather, self.masked_only):
            part.setVisible(given and masked)
        self.padding.setVisible(given and masked and self.masked_only.isChecked())
        self.about.setText(_mode_text(self._mask is not None, any(self._sides)))

    def _mask_text(self) -> str:
        if self._mask is None:
            return "No mask. Drop one here"
        return "Mask painted here" if is_kept_mask(self._mask) else f"Mask: {self._mask.name}"

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
        row.addLayout(texts, 1)
        row.addWidget(self.paint_button)
        row.addWidget(self.remove_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.choose_button)
        for part in (
            self.heading,
            self.preview,
            self._card,
            self.mask_label,
            self.resize_mode,
            self.fit_label,
            self.strength,
            self.fill,
            self.feather,
            self.masked_only,
            self.padding,
        ):
            column.addWidget(part)


def _mode_text(masked: bool, extended: bool) -> str:
    if masked and extended:
        return "Inpaint and outpaint"
    return "Inpaint" if masked else "Outpaint" if extended else "img2img"
