"""Enlarging what is made in a second pass: asked for, how much, by what, and how far from the enlarged picture that pass goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.studio.requests import LANCZOS, GenerateRequest, enlarged_size
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.sections.size import limits_of
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label, set_style_property
from diffstudio.ui.widgets.inputs import CheckBox, ChipRow, LabelledComboBox, LabelledSlider

USUAL = 2.0  # times larger
_SAME = -0.1  # on the slider of guidance, where 0 means none: as the first pass has it


class HiresSection(QWidget):
    """`failed` carries a sentence for the room. Hidden where the checkpoint cannot go on from a picture, or one is painted on."""

    changed = Signal()
    opened = Signal()  # what can be set is there now, and wants to be seen
    failed = Signal(str)

    def __init__(self, size_to_make: Callable[[], tuple[int, int]]) -> None:
        super().__init__()
        self._size_to_make = size_to_make
        self._checkpoint: Checkpoint | None = None
        self._models: Sequence[Checkpoint] = ()
        self._wanted, self._painted = False, False
        usual = GenerateRequest()
        self.open_button = SecondaryButton(
            "Enlarge afterwards…", "arrows-out", "Make each picture larger in a second pass, with more detail"
        )
        self.heading = SectionLabel("Enlarged afterwards")
        self.remove_button = SecondaryButton("", "x", "Do not enlarge", name="Do not enlarge", role="dim")
        self.scale = ChipRow(labels.SCALES, tooltips=labels.SCALE_TIPS, name="How much larger")
        self.size_label = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.upscaler = LabelledComboBox(
            "Enlarged by", labels.upscalers_of((), latent=False), "What enlarges the picture before it is made finer"
        )
        self.strength = LabelledSlider(
            "Strength",
            0.01,
            1,
            usual.enlarge_strength,
            step=0.01,
            decimals=2,
            tooltip="How far that pass goes from the enlarged picture: little keeps it, much invents",
        )
        self.steps = LabelledSlider(
            "Its steps",
            0,
            100,
            0,
            zero="same",
            tooltip="Steps of the second pass, of which the strength says how many are taken; "
            "at the left end as many as above",
        )
        self.guidance = LabelledSlider(
            "Its guidance",
            _SAME,
            15,
            _SAME,
            step=0.1,
            decimals=1,
            zero="same",
            tooltip="How closely the second pass follows the prompt; at the left end as closely as the first",
        )
        self.tiled = CheckBox("In windows")
        describe(
            self.tiled,
            "In windows",
            "Work on one part after the other: needs less memory. What is too large for the checkpoint goes so anyway",
        )
        self._lay_out()
        self.scale.set_value(USUAL)
        self.open_button.clicked.connect(lambda: self._open(True))
        self.remove_button.clicked.connect(lambda: self._open(False))
        self.scale.value_changed.connect(self._touched)
        for control in (self.upscaler, self.strength, self.steps, self.guidance):
            control.value_changed.connect(self._touched)
        self.tiled.toggled.connect(self._touched)
        self._follow()

    # ---- what it is told ---------------------------------------------------------------------------------------------

    def set_models(self, models: Sequence[Checkpoint]) -> None:
        """Of all models there are, upscalers are offered."""
        self._models = models
        self._offer()

    def set_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint
        self._offer()
        self._follow()

    def set_painted(self, painted: bool) -> None:
        """Whether a picture is painted on or extended: that is not enlarged in the same go."""
        self._painted = painted
        self._follow()

    def look_again(self) -> None:
        """The size to be made is another."""
        self._follow()

    # ---- what it says ------------------------------------------------------------------------------------------------

    def applied(self, request: GenerateRequest) -> GenerateRequest:
        """The request with what is chosen here. BadRequest where that would be too large."""
        if not self._wanted or not self.possible():
            return request
        self._result()
        return replace(
            request,
            enlarge=float(self.scale.value()),
            upscaler=self.upscaler.value(),
            tiled=self.tiled.isChecked(),
            enlarge_strength=float(self.strength.value()),
            enlarge_steps=int(self.steps.value()),
            enlarge_guidance=None if self.guidance.value() == _SAME else float(self.guidance.value()),
        )

    def use(self, request: GenerateRequest) -> None:
        """Show what a request says; an upscaler that is not here is said."""
        self._wanted = request.enlarge > 1
        if self._wanted:
            self.scale.set_value(labels.nearest_scale(request.enlarge))
            if not self.upscaler.set_value(request.upscaler):
                self.upscaler.set_value(LANCZOS)
                self.failed.emit(f"The upscaler “{request.upscaler}” is not here, so Lanczos enlarges in its place.")
            self.strength.set_value(request.enlarge_strength)
            self.steps.set_value(request.enlarge_steps)
            self.tiled.setChecked(request.tiled)
            self.guidance.set_value(_SAME if request.enlarge_guidance is None else request.enlarge_guidance)
        self._follow()

    def possible(self) -> bool:
        """Whether the checkpoint can go on from an enlarged picture."""
        return self._checkpoint is not None and self._checkpoint.family != "diffusers" and not self._painted

    def wanted(self) -> bool:
        return self._wanted and self.possible()

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _open(self, wanted: bool) -> None:
        self._wanted = wanted
        self._follow()
        (self.scale.chip(self.scale.value()) if wanted else self.open_button).setFocus()
        if wanted:
            self.opened.emit()
        self.changed.emit()

    def _touched(self, _: object = None) -> None:
        self._follow()
        self.changed.emit()

    def _offer(self) -> None:
        family = family_of(self._checkpoint.family) if self._checkpoint is not None else None
        self.upscaler.set_choices(labels.upscalers_of(self._models, latent=family is not None and family.latent))

    def _result(self) -> tuple[int, int]:
        assert self._checkpoint is not None
        return enlarged_size(*self._size_to_make(), float(self.scale.value()), limits_of(self._checkpoint).step)

    def _follow(self) -> None:
        self.setVisible(self.possible())
        self.open_button.setVisible(not self._wanted)
        self._settings.setVisible(self._wanted)
        if not self.wanted():
            return
        width, height = self._size_to_make()
        try:
            larger = self._result()
            set_style_property(self.size_label, "tone", "dim")
            self.size_label.setText(f"{width:,} × {height:,} → {larger[0]:,} × {larger[1]:,} px")
        except BadRequest as problem:
            set_style_property(self.size_label, "tone", "bad")
            self.size_label.setText(str(problem))

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.heading, 1)
        top.addWidget(self.remove_button)
        self._settings = QWidget()
        inner = QVBoxLayout(self._settings)
        inner.setContentsMargins(0, 4, 0, 0)
        inner.setSpacing(8)
        inner.addLayout(top)
        inner.addWidget(self.scale)
        inner.addWidget(self.size_label)
        inner.addWidget(self.upscaler)
        inner.addWidget(self.strength)
        pair = QHBoxLayout()
        pair.setSpacing(14)
        pair.addWidget(self.steps, 1)
        pair.addWidget(self.guidance, 1)
        inner.addLayout(pair)
        inner.addWidget(self.tiled)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.open_button)
        column.addWidget(self._settings)
