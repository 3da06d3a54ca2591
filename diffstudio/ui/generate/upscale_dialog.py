"""The Upscale dialog: scale and upscaler for a finished image, and whether a checkpoint refines the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of, starts_from_images
from diffstudio.studio.requests import UpscaleRequest
from diffstudio.studio.requests.choices import LANCZOS
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.sections.hires_section import offer_scales
from diffstudio.ui.generate.sections.size import refined_size
from diffstudio.ui.widgets import actions, shortcuts, terms, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, set_style_property, takes_text_only
from diffstudio.ui.widgets.images.drag_and_drop import takes_image
from diffstudio.ui.widgets.images.pasted_images import name_of
from diffstudio.ui.widgets.images.thumbnail import Thumbnail
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.text_size import fix_size

_THUMB = 112  # px


class UpscaleDialog(FittedDialog):
    """`upscale_requested` carries the UpscaleRequest.

    `base` holds the image's own settings, or those of the last upscale.
    """

    upscale_requested = Signal(object)
    image_dropped = Signal(object)  # Path of the image to upscale instead

    def __init__(
        self,
        base: UpscaleRequest,
        image: QImage,
        size: QSize,
        models: Sequence[Checkpoint],
        usual_checkpoint: str = "",
        parent: QWidget | None = None,
        *,
        sampled: bool = False,
        button_text: str = "Upscale",
    ) -> None:
        super().__init__(parent)
        self._base, self._size = base, size
        self._models = models
        self._checkpoints = {
            model.name: model for model in models if model.can_generate and starts_from_images(model.family)
        }
        self.setWindowTitle("Upscale")
        describe(self, f"Upscale {base.source.name}", " ")
        self.setMinimumWidth(440)
        thumbnail = Thumbnail(_THUMB, 8, name=name_of(base.source))
        thumbnail.set_image(image)
        self.size_label = label("", "dim", wrap=True)
        self.warning = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self._make_controls(base, sampled=sampled)
        if not self.checkpoint.set_value(base.checkpoint):
            self.checkpoint.set_value(usual_checkpoint)
        self.cancel = SecondaryButton(actions.CANCEL, "", "Close (Escape)")
        self.button = PrimaryButton(button_text, "", "Add to the queue (Ctrl+Enter)")
        self._update_upscalers(base.upscaler)
        self.warning.setText(" ".join(self._changes(usual_checkpoint)))
        self._lay_out(thumbnail)
        self.warning.setVisible(bool(self.warning.text()))
        self._connect()
        self._update_state()
        self.scale.chip(self.scale.value()).setFocus()

    def _make_controls(self, base: UpscaleRequest, *, sampled: bool) -> None:
        self.scale = ChipRow(labels.SCALES, tooltips=labels.SCALE_TIPS, name="Scale")
        self.scale.set_value(labels.nearest_scale(base.scale))
        self.upscaler = LabelledComboBox(terms.UPSCALER, (), "Lanczos, or an upscaler model from your model folders")
        self.sampled = CheckBox(
            "Refine with checkpoint (img2img)",
            "Run img2img on the upscaled image to add detail. Without it, upscaling is fast and needs no checkpoint",
        )
        self.sampled.setChecked(sampled and bool(self._checkpoints))
        self.sampled.setVisible(bool(self._checkpoints))
        self.checkpoint = LabelledComboBox(
            terms.CHECKPOINT,
            [(name, one.title) for name, one in self._checkpoints.items()],
            "The checkpoint that refines the image: ideally the one that generated it",
        )
        self.strength = LabelledSlider(
            terms.DENOISING_STRENGTH,
            0.01,
            1,
            base.strength,
            step=0.01,
            decimals=2,
            tooltip="How much the upscaled image may change: low values keep it, high values invent detail",
        )
        self.prompt = QPlainTextEdit(base.prompt)
        takes_text_only(self.prompt)
        self.prompt.setTabChangesFocus(True)
        self.prompt.setPlaceholderText("Describe the image…")
        fix_size(self.prompt, height=64)
        describe(
            self.prompt, terms.PROMPT, "Describe the image. Filled in from the image's own settings where it has any"
        )
        self.tiled = CheckBox(labels.TILED, labels.TILED_TIP)
        self.tiled.setChecked(base.tiled)

    def accept_drops(self, failed: Callable[[str], object]) -> None:
        """Take images dropped on the dialog; `failed(sentence)` says what was not used."""
        takes_image(self, "Drop to upscale this image instead", self.image_dropped.emit, failed)

    def request(self) -> UpscaleRequest:
        """The request as the dialog describes it. BadRequest when it is impossible."""
        self._result()
        request = replace(
            self._base,
            scale=float(self.scale.value()),
            upscaler=self.upscaler.value(),
            prompt=self.prompt.toPlainText().strip(),
            checkpoint=self._chosen_name(),
        )
        if not request.checkpoint:
            return request
        if request.checkpoint != self._base.checkpoint:
            request = replace(request, times=())  # they were fitted to the other checkpoint
        return replace(
            request, strength=float(self.strength.value()), tiled=self.tiled.isChecked() and self.tiled.isEnabled()
        )

    # Inside

    def _changes(self, usual_checkpoint: str) -> list[str]:
        """A sentence for each setting of `base` that the dialog does not offer."""
        base, changes = self._base, []
        if self.upscaler.value() != base.upscaler:
            changes.append(labels.missing_upscaler(base.upscaler))
        if self.scale.value() != base.scale:
            changes.append(f"The scale {base.scale:g}× is not offered here; {self.scale.value():g}× is chosen instead.")
        if self.sampled.isChecked() and base.checkpoint and self.checkpoint.value() != base.checkpoint:
            changes.append(f"The checkpoint {base.checkpoint} is missing; {usual_checkpoint} is chosen instead.")
        return changes

    def _chosen(self) -> Checkpoint | None:
        return self._checkpoints.get(self._chosen_name())

    def _chosen_name(self) -> str:
        return str(self.checkpoint.value()) if self.sampled.isChecked() else ""

    def _update_upscalers(self, preferred: str = "") -> None:
        checkpoint = self._chosen()
        family = family_of(checkpoint.family) if checkpoint is not None else None
        before = preferred or self.upscaler.value()
        self.upscaler.set_choices(labels.upscalers_of(self._models, latent=family is not None and family.latent))
        if not self.upscaler.set_value(before):
            self.upscaler.set_value(LANCZOS)

    def _result(self) -> tuple[int, int]:
        return self._enlarged(float(self.scale.value()))

    def _enlarged(self, scale: float) -> tuple[int, int]:
        return refined_size(self._chosen(), self._size.width(), self._size.height(), scale)

    def _update_state(self, _: object = None) -> None:
        for part in self._refine_controls:
            part.setVisible(self.sampled.isChecked())
        self._update_upscalers()
        offer_scales(self.scale, self.tiled, self._chosen(), self._enlarged)
        try:
            width, height = self._result()
            set_style_property(self.size_label, "tone", "dim")
            self.size_label.setText(f"{self._size.width():,} × {self._size.height():,} → {width:,} × {height:,} px")
            self.button.setEnabled(True)
        except BadRequest as problem:
            set_style_property(self.size_label, "tone", "bad")
            self.size_label.setText(str(problem))
            self.button.setEnabled(False)
        self.fit_height()

    def _accept(self) -> None:
        if self.button.isEnabled():
            self.upscale_requested.emit(self.request())
            self.accept()

    def _connect(self) -> None:
        self.scale.value_changed.connect(self._update_state)
        self.checkpoint.value_changed.connect(self._update_state)
        self.sampled.toggled.connect(self._update_state)
        self.cancel.clicked.connect(self.reject)
        self.button.clicked.connect(self._accept)
        shortcuts.bind_in_window(shortcuts.ACCEPT_UPSCALE, self, self._accept)

    def _lay_out(self, thumbnail: Thumbnail) -> None:
        facts = QVBoxLayout()
        facts.setSpacing(8)
        facts.addWidget(ElidedLabel(self._base.source.name, bold=True, pixels=16, mode=Qt.TextElideMode.ElideMiddle))
        facts.addWidget(self.scale)
        facts.addWidget(self.size_label)
        facts.addStretch(1)
        head = QWidget()
        head.setFixedHeight(_THUMB)
        top = QHBoxLayout(head)
        top.setContentsMargins(0, 0, 0, 0)
        top.setSpacing(16)
        top.addWidget(thumbnail, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(facts, 1)
        prompt_name = label(terms.PROMPT, pixels=theme.FONT_PIXELS)
        prompt_name.setBuddy(self.prompt)
        self._refine_controls: tuple[QWidget, ...] = (
            self.checkpoint,
            self.strength,
            prompt_name,
            self.prompt,
            self.tiled,
        )
        column = QVBoxLayout()
        column.setContentsMargins(24, 24, 24, 16)
        column.setSpacing(12)
        column.addWidget(head)
        column.addWidget(self.warning)
        column.addWidget(self.upscaler)
        column.addWidget(self.sampled)
        for part in self._refine_controls:
            column.addWidget(part)
        column.addSpacing(8)
        column.addStretch(1)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.button)
        self.set_contents(column, buttons)
