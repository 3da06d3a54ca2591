"""The sheet that asks how a finished picture is to be enlarged: how much, by what, and whether a checkpoint makes it finer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QImage, QKeySequence, QShortcut
from PySide6.QtWidgets import QDialog, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.studio.requests import LANCZOS, UpscaleRequest, enlarged_size
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.sections.size import limits_of
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, set_style_property
from diffstudio.ui.widgets.images import Thumbnail
from diffstudio.ui.widgets.inputs import CheckBox, ChipRow, LabelledComboBox, LabelledSlider

_THUMB = 112  # px


class UpscaleDialog(QDialog):
    """`enlarge_requested` carries the UpscaleRequest. `base` is what the picture says of itself, or how it was enlarged before."""

    enlarge_requested = Signal(object)

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
    ) -> None:
        super().__init__(parent)
        self._base, self._size = base, size
        self._models = models
        self._checkpoints = {
            model.name: model for model in models if model.can_generate and model.family != "diffusers"
        }
        self.setWindowTitle("Enlarge")
        describe(self, f"Enlarge {base.source.name}", " ")
        self.setMinimumWidth(440)
        picture = Thumbnail(_THUMB, 8, name=base.source.name)
        picture.set_image(image)
        self.size_label = label("", "dim", wrap=True)
        self.scale = ChipRow(labels.SCALES, tooltips=labels.SCALE_TIPS, name="How much larger")
        self.scale.set_value(labels.nearest_scale(base.scale))
        self.upscaler = LabelledComboBox(
            "Enlarged by", (), "What enlarges it; upscalers from your folders of models are here too"
        )
        self.sampled = CheckBox("Make it finer with a checkpoint")
        describe(
            self.sampled,
            "Make it finer with a checkpoint",
            "Sample the enlarged picture again, which adds detail; without it this takes no checkpoint and is quick",
        )
        self.sampled.setChecked(sampled and bool(self._checkpoints))
        self.sampled.setVisible(bool(self._checkpoints))
        self.checkpoint = LabelledComboBox(
            "Checkpoint",
            [(name, one.title) for name, one in self._checkpoints.items()],
            "The checkpoint that makes it finer: best the one that made the picture",
        )
        if not self.checkpoint.set_value(base.checkpoint):
            self.checkpoint.set_value(usual_checkpoint)
        self.strength = LabelledSlider(
            "Strength",
            0.01,
            1,
            base.strength,
            step=0.01,
            decimals=2,
            tooltip="How far from the enlarged picture: little keeps it, much invents",
        )
        self.prompt = QPlainTextEdit(base.prompt)
        self.prompt.setTabChangesFocus(True)
        self.prompt.setPlaceholderText("What the picture shows…")
        self.prompt.setFixedHeight(64)
        describe(self.prompt, "Prompt", "What the picture shows; taken from the picture where it says so")
        self.tiled = CheckBox("In windows")
        describe(
            self.tiled,
            "In windows",
            "Work on one part after the other: needs less memory. What is too large for the checkpoint goes so anyway",
        )
        self.tiled.setChecked(base.tiled)
        self.cancel = SecondaryButton("Cancel", "", "Close (Escape)")
        self.button = PrimaryButton("Enlarge", "", "Put it into the queue (Ctrl+Enter)")
        self._offer(base.upscaler)
        self._lay_out(picture)
        self._connect()
        self._follow()
        self.scale.chip(self.scale.value()).setFocus()

    def request(self) -> UpscaleRequest:
        """What the sheet says now. BadRequest where that cannot be."""
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
        return replace(request, strength=float(self.strength.value()), tiled=self.tiled.isChecked())

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _chosen(self) -> Checkpoint | None:
        return self._checkpoints.get(self._chosen_name())

    def _chosen_name(self) -> str:
        return str(self.checkpoint.value()) if self.sampled.isChecked() else ""

    def _offer(self, wanted: str = "") -> None:
        checkpoint = self._chosen()
        family = family_of(checkpoint.family) if checkpoint is not None else None
        before = wanted or self.upscaler.value()
        self.upscaler.set_choices(labels.upscalers_of(self._models, latent=family is not None and family.latent))
        if not self.upscaler.set_value(before):
            self.upscaler.set_value(LANCZOS)

    def _result(self) -> tuple[int, int]:
        checkpoint = self._chosen()
        multiple = limits_of(checkpoint).step if checkpoint is not None else 1
        return enlarged_size(self._size.width(), self._size.height(), float(self.scale.value()), multiple)

    def _follow(self, _: object = None) -> None:
        for part in self._about_sampling:
            part.setVisible(self.sampled.isChecked())
        self._offer()
        try:
            width, height = self._result()
            set_style_property(self.size_label, "tone", "dim")
            self.size_label.setText(f"{self._size.width():,} × {self._size.height():,} → {width:,} × {height:,} px")
            self.button.setEnabled(True)
        except BadRequest as problem:
            set_style_property(self.size_label, "tone", "bad")
            self.size_label.setText(str(problem))
            self.button.setEnabled(False)
        self.resize(self.width(), self.sizeHint().height())

    def _accept(self) -> None:
        if self.button.isEnabled():
            self.enlarge_requested.emit(self.request())
            self.accept()

    def _connect(self) -> None:
        self.scale.value_changed.connect(self._follow)
        self.checkpoint.value_changed.connect(self._follow)
        self.sampled.toggled.connect(self._follow)
        self.cancel.clicked.connect(self.reject)
        self.button.clicked.connect(self._accept)
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            QShortcut(QKeySequence(keys), self, self._accept)

    def _lay_out(self, picture: Thumbnail) -> None:
        facts = QVBoxLayout()
        facts.setSpacing(8)
        facts.addWidget(ElidedLabel(self._base.source.name, bold=True, pixels=15, mode=Qt.TextElideMode.ElideMiddle))
        facts.addWidget(self.scale)
        facts.addWidget(self.size_label)
        facts.addStretch(1)
        head = QWidget()
        head.setFixedHeight(_THUMB)
        top = QHBoxLayout(head)
        top.setContentsMargins(0, 0, 0, 0)
        top.setSpacing(16)
        top.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(facts, 1)
        prompt_name = label("Prompt", pixels=theme.FONT_PIXELS)
        prompt_name.setBuddy(self.prompt)
        self._about_sampling: tuple[QWidget, ...] = (
            self.checkpoint,
            self.strength,
            prompt_name,
            self.prompt,
            self.tiled,
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 24, 24, 16)
        column.setSpacing(12)
        column.addWidget(head)
        column.addWidget(self.upscaler)
        column.addWidget(self.sampled)
        for part in self._about_sampling:
            column.addWidget(part)
        column.addSpacing(8)
        column.addStretch(1)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.button)
        column.addLayout(buttons)
