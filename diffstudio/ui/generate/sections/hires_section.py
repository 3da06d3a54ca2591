"""The hires fix section: a second, larger img2img pass over each generated image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of, starts_from_images
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.choices import LANCZOS
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.sections.size import largest_untiled, refined_size
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import label, set_style_property, set_tooltip
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

DEFAULT_SCALE = 2.0
_SAME = -0.1  # on the CFG slider, where 0 is a value: use the CFG scale of the first pass


class HiresSection(QWidget):
    """`failed` carries a warning. Hidden when the checkpoint cannot do img2img, and while inpainting."""

    changed = Signal()
    opened = Signal()  # scroll the settings into view
    failed = Signal(str)

    def __init__(self, size_to_make: Callable[[], tuple[int, int]]) -> None:
        super().__init__()
        self._size_to_make = size_to_make
        self._checkpoint: Checkpoint | None = None
        self._models: Sequence[Checkpoint] = ()
        self._enabled, self._inpainting = False, False
        usual = GenerateRequest()
        self.open_button = SecondaryButton(
            "Hires fix", "arrows-out", "Upscale each image and refine it in a second pass"
        )
        self.heading = SectionLabel(terms.HIRES_FIX)
        turn_off = "Turn off hires fix"
        self.remove_button = SecondaryButton("", "x", turn_off, name=turn_off, role="dim")
        self.scale = ChipRow(labels.SCALES, tooltips=labels.SCALE_TIPS, name="Scale")
        self.size_label = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.upscaler = LabelledComboBox(
            terms.UPSCALER, labels.upscalers_of((), latent=False), "Upscales the image before the second pass"
        )
        self.strength = LabelledSlider(
            terms.DENOISING_STRENGTH,
            0.01,
            1,
            usual.enlarge_strength,
            step=0.01,
            decimals=2,
            tooltip="How much the second pass may change: low values keep the image, high values invent detail",
        )
        self.steps = LabelledSlider(
            "Hires steps",
            0,
            100,
            0,
            zero="same",
            tooltip="Steps of the second pass, scaled by the denoising strength. At 0: as many as the first pass",
        )
        self.guidance = LabelledSlider(
            "Hires CFG",
            _SAME,
            15,
            _SAME,
            step=0.1,
            decimals=1,
            zero="same",
            tooltip="CFG scale of the second pass. At the left end: that of the first pass, or 0 with "
            "checkpoints trained here",
        )
        self.tiled = CheckBox(labels.TILED, labels.TILED_TIP)
        self._lay_out()
        self.scale.set_value(DEFAULT_SCALE)
        self.open_button.clicked.connect(lambda: self._open(True))
        self.remove_button.clicked.connect(lambda: self._open(False))
        self.scale.value_changed.connect(self._changed)
        for control in (self.upscaler, self.strength, self.steps, self.guidance):
            control.value_changed.connect(self._changed)
        self.tiled.toggled.connect(self._changed)
        self._update_state()

    # Inputs

    def set_models(self, models: Sequence[Checkpoint]) -> None:
        """Offer the upscalers among all models."""
        self._models = models
        self._update_upscalers()

    def set_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint
        self._update_upscalers()
        self._update_state()

    def set_inpainting(self, inpainting: bool) -> None:
        """Whether the request inpaints or outpaints, which excludes hires fix."""
        self._inpainting = inpainting
        self._update_state()

    def update_size(self) -> None:
        """The size of the first pass has changed."""
        self._update_state()

    # Request

    def apply_to(self, request: GenerateRequest) -> GenerateRequest:
        """The request with these settings. BadRequest when the result would be too large."""
        if not self._enabled or not self.is_available():
            return request
        self._result()
        request = self.with_values(request)
        return replace(request, enlarge=float(self.scale.value()), tiled=request.tiled and self.tiled.isEnabled())

    def is_enabled(self) -> bool:
        """Whether it is on, also where it is not available."""
        return self._enabled

    def restore(self, request: GenerateRequest, scale: float, *, enabled: bool) -> None:
        """Load what was kept of this section, also while it is off. An upscaler that is missing is not reported."""
        self._enabled = enabled
        self.scale.set_value(labels.nearest_scale(scale))
        self.upscaler.set_value(request.upscaler)
        self._load_values(request)
        self._update_state()

    def with_values(self, request: GenerateRequest) -> GenerateRequest:
        """The request with all settings but the scale, which also turns it on."""
        return replace(
            request,
            upscaler=self.upscaler.value(),
            tiled=self.tiled.isChecked(),
            enlarge_strength=float(self.strength.value()),
            enlarge_steps=int(self.steps.value()),
            enlarge_guidance=None if self.guidance.value() == _SAME else float(self.guidance.value()),
        )

    def load_from(self, request: GenerateRequest) -> None:
        """Load the settings of a request; `failed` names an upscaler that is missing."""
        self._enabled = request.enlarge > 1
        if self._enabled:
            self.scale.set_value(labels.nearest_scale(request.enlarge))
            if not self.upscaler.set_value(request.upscaler):
                self.upscaler.set_value(LANCZOS)
                self.failed.emit(labels.missing_upscaler(request.upscaler))
            self._load_values(request)
        self._update_state()

    def _load_values(self, request: GenerateRequest) -> None:
        self.strength.set_value(request.enlarge_strength)
        self.steps.set_value(request.enlarge_steps)
        self.tiled.setChecked(request.tiled)
        self.guidance.set_value(_SAME if request.enlarge_guidance is None else request.enlarge_guidance)

    def is_available(self) -> bool:
        """Whether the checkpoint can do img2img and the request does not inpaint."""
        return self._takes_images() and not self._inpainting

    def _takes_images(self) -> bool:
        return self._checkpoint is not None and starts_from_images(self._checkpoint.family)

    def is_active(self) -> bool:
        return self._enabled and self.is_available()

    # Internal

    def _open(self, enabled: bool) -> None:
        self._enabled = enabled
        self._update_state()
        (self.scale.chip(self.scale.value()) if enabled else self.open_button).setFocus()
        if enabled:
            self.opened.emit()
        self.changed.emit()

    def _changed(self, _: object = None) -> None:
        self._update_state()
        self.changed.emit()

    def _update_upscalers(self) -> None:
        if self._checkpoint is not None and not self._takes_images():
            return  # keep the choice for the next checkpoint
        family = family_of(self._checkpoint.family) if self._checkpoint is not None else None
        self.upscaler.set_choices(labels.upscalers_of(self._models, latent=family is not None and family.latent))

    def _result(self) -> tuple[int, int]:
        """The size in px after the second pass. BadRequest when it is too large."""
        return self._enlarged(float(self.scale.value()))

    def _enlarged(self, scale: float) -> tuple[int, int]:
        return refined_size(self._checkpoint, *self._size_to_make(), scale)

    def _update_state(self) -> None:
        self.setVisible(self.is_available())
        self.open_button.setVisible(not self._enabled)
        self._settings.setVisible(self._enabled)
        if not self.is_active():
            return
        offer_scales(self.scale, self.tiled, self._checkpoint, self._enlarged)
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
        inner.addWidget(self.steps)  # not side by side: both names begin alike, and would be elided to the same
        inner.addWidget(self.guidance)
        inner.addWidget(self.tiled)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.open_button)
        column.addWidget(self._settings)


def offer_scales(
    scales: ChipRow, tiled: CheckBox, checkpoint: Checkpoint | None, size_at: Callable[[float], object]
) -> None:
    """Disable the scales for which `size_at` raises BadRequest, and tiles where there are none; tooltips say why."""
    for (scale, _), tip in zip(labels.SCALES, labels.SCALE_TIPS, strict=True):
        problem = ""
        try:
            size_at(scale)
        except BadRequest as error:
            problem = str(error)
        scales.chip(scale).setEnabled(not problem)
        set_tooltip(scales.chip(scale), problem or tip)
    takes_tiles = largest_untiled(checkpoint) is None
    tiled.setEnabled(takes_tiles)
    set_tooltip(tiled, labels.TILED_TIP if takes_tiles else labels.NOT_TILED_TIP)
