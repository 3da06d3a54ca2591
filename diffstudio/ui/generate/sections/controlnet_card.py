"""The card of one ControlNet: its control image, settings, and a preview of the preprocessed image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.lookup import similar_names
from diffstudio.studio.generation.controlnets import control_type_of, control_types_of, made_control_type
from diffstudio.studio.requests import ControlNetUse
from diffstudio.studio.requests.choices import PreprocessorName
from diffstudio.studio.requests.control_types import ControlTypeName
from diffstudio.ui.generate.labels import CONTROL_TYPES
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.images.image_painting import fitted, rounded
from diffstudio.ui.widgets.images.pasted_images import name_of
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

PREPROCESSORS = [
    (PreprocessorName.AS_GIVEN, "None (already a map)"),
    (PreprocessorName.CANNY, "Canny edges"),
    (PreprocessorName.SCRIBBLE, "Scribble (dark lines on white)"),
    (PreprocessorName.INVERT, "Invert"),
]
_DEFAULT_PREPROCESSORS = (
    ("canny", PreprocessorName.CANNY),
    ("scribble", PreprocessorName.SCRIBBLE),
    ("sketch", PreprocessorName.SCRIBBLE),
)
_PREVIEW_HEIGHT = 148  # px


def default_preprocessor(network: str) -> PreprocessorName:
    """The preprocessor that a ControlNet of this name most likely needs."""
    return next(
        (preprocessor for word, preprocessor in _DEFAULT_PREPROCESSORS if word in network.casefold()),
        PreprocessorName.AS_GIVEN,
    )


class ControlNetPreview(QWidget):
    """The preprocessed image that the ControlNet receives, or the error that prevents it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(_PREVIEW_HEIGHT)
        self.show_image(QImage())

    def show_image(self, image: QImage, error: str = "") -> None:
        self._image, self._error = image, error
        describe(self, "ControlNet preview", error or "The preprocessed image that the ControlNet receives")
        self.update()

    def image(self) -> QImage:
        return self._image

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        whole = QRectF(self.rect())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("raised"))
        painter.drawRoundedRect(whole, theme.RADIUS, theme.RADIUS)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if not self._image.isNull():
            rounded(painter, self._image, fitted(self._image.size(), whole.adjusted(4, 4, -4, -4)), 4)
        elif self._error:
            painter.setPen(theme.colour("bad"))
            flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
            painter.drawText(whole.adjusted(8, 8, -8, -8), flags, self._error)


class ControlNetCard(QWidget):
    """One control image and its ControlNet."""

    changed = Signal()  # the preview is out of date too
    remove_requested = Signal()
    replace_requested = Signal()  # choose another image

    def __init__(self, path: Path, networks: Sequence[Checkpoint]) -> None:
        super().__init__()
        self.path = path
        self.preview = ControlNetPreview()
        self.name = ElidedLabel(name_of(path), mode=Qt.TextElideMode.ElideMiddle)
        self.swap_button = SecondaryButton("", "image", "Choose another control image", name="Replace image")
        self.remove_button = SecondaryButton("", "x", "Remove this ControlNet", name="Remove ControlNet", role="dim")
        self.network = LabelledComboBox(
            terms.CONTROLNET, (), "The ControlNet model: those that fit the checkpoint are listed"
        )
        self.preprocessor = LabelledComboBox(
            "Preprocessor",
            PREPROCESSORS,
            "How the image is converted for the ControlNet. Choose None for depth maps, poses and edges made elsewhere",
        )
        self.control_type = LabelledComboBox(
            "Control type",
            (),
            "What the preprocessed image shows. A union ControlNet takes several types of image and needs to know which",
        )
        self.type_note = label(
            "Choose what the image shows: a union ControlNet needs to know.",
            "warn",
            pixels=theme.SMALL_PIXELS,
            wrap=True,
        )
        self.low = LabelledSlider(
            "Canny low", 0, 500, 100, tooltip="Canny low threshold: gradients below it are not edges"
        )
        self.high = LabelledSlider(
            "Canny high",
            0,
            500,
            200,
            tooltip="Canny high threshold: gradients above it are edges; weaker ones count when connected to an edge",
        )
        self.scale = LabelledSlider(
            "Conditioning scale",
            0,
            2,
            1.0,
            step=0.05,
            decimals=2,
            tooltip="How strongly the ControlNet acts (control weight)",
        )
        self.start = LabelledSlider(
            "Start", 0, 99, 0, suffix="%", tooltip="The fraction of the steps at which the ControlNet starts"
        )
        self.end = LabelledSlider(
            "End", 1, 100, 100, suffix="%", tooltip="The fraction of the steps at which the ControlNet ends"
        )
        self._preprocessor_chosen = False
        self._control_types: dict[str, tuple[ControlTypeName, ...]] = {}  # of each union ControlNet
        self._lay_out()
        self.set_networks(networks)
        self._connect()
        self._update_state()

    def use(self) -> ControlNetUse:
        return ControlNetUse(
            self.network.value(),
            self.path,
            self.preprocessor.value(),
            float(self.scale.value()),
            self.start.value() / 100,
            self.end.value() / 100,
            int(self.low.value()),
            int(self.high.value()),
            self.control_type.value(),
        )

    def show_use(self, use: ControlNetUse) -> None:
        self.network.set_value(use.network)
        self.preprocessor.set_value(use.prepare)
        self._preprocessor_chosen = True
        self.scale.set_value(use.scale)
        self.start.set_value(round(100 * use.begins))
        self.end.set_value(round(100 * use.ends))
        self.low.set_value(use.low)
        self.high.set_value(use.high)
        self._update_state()
        self.control_type.set_value(use.control_type)
        self._show_type_note()

    def set_networks(self, networks: Sequence[Checkpoint]) -> None:
        """Offer the ControlNets that fit. One with a similar name replaces a choice that no longer fits."""
        self._control_types = {network.name: control_types_of(network) for network in networks}
        before, names = self.network.value(), [network.name for network in networks]
        self.network.set_choices([(network.name, network.title) for network in networks])
        if before is not None and before not in names and (near := similar_names(before, names, most=1, cutoff=0.3)):
            self.network.set_value(near[0])
        self._set_default_preprocessor()

    def set_image(self, path: Path) -> None:
        self.path = path
        self.name.setText(name_of(path))
        self.changed.emit()

    def _set_default_preprocessor(self) -> None:
        if not self._preprocessor_chosen and self.network.value() is not None:
            self.preprocessor.set_value(default_preprocessor(self.network.value()))
        self._update_state()

    def _connect(self) -> None:
        def chose_network(_: Any) -> None:
            self._set_default_preprocessor()
            self.changed.emit()

        def chose_preprocessor(_: Any) -> None:
            self._preprocessor_chosen = True
            self._update_state()
            self.changed.emit()

        def chose_control_type(_: Any) -> None:
            self._show_type_note()
            self.changed.emit()

        def keep_apart(lower: LabelledSlider, upper: LabelledSlider, gap: int, moved: LabelledSlider) -> None:
            """Move the other slider along."""
            if upper.value() - lower.value() < gap:
                other = upper if moved is lower else lower
                other.set_value(moved.value() + (gap if moved is lower else -gap))
            self.changed.emit()

        self.network.value_changed.connect(chose_network)
        self.preprocessor.value_changed.connect(chose_preprocessor)
        self.control_type.value_changed.connect(chose_control_type)
        self.scale.value_changed.connect(lambda _: self.changed.emit())
        for lower, upper, gap in ((self.low, self.high, 0), (self.start, self.end, 1)):
            for moved in (lower, upper):
                moved.value_changed.connect(lambda _, args=(lower, upper, gap, moved): keep_apart(*args))
        self.remove_button.clicked.connect(self.remove_requested)
        self.swap_button.clicked.connect(self.replace_requested)

    def _update_state(self) -> None:
        for slider in (self.low, self.high):
            slider.setVisible(self.preprocessor.value() is PreprocessorName.CANNY)
        types = self._control_types.get(self.network.value(), ())
        made = made_control_type(self.preprocessor.value())
        auto = f"Auto: {CONTROL_TYPES[made]}" if made in CONTROL_TYPES else "Choose one…"
        choices = [(ControlTypeName.AUTO, auto), *((name, CONTROL_TYPES[name]) for name in types)]
        self.control_type.set_choices(choices)
        self.control_type.setVisible(bool(types))
        self._show_type_note()

    def _show_type_note(self) -> None:
        missing = control_type_of(self.use()) is ControlTypeName.AUTO
        self.type_note.setVisible(missing and bool(self._control_types.get(self.network.value())))

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.name, 1)
        row.addWidget(self.swap_button)
        row.addWidget(self.remove_button)
        column.addWidget(self.preview)
        column.addLayout(row)
        for pair in (
            (self.network,),
            (self.preprocessor,),
            (self.control_type,),
            (self.type_note,),
            (self.low, self.high),
            (self.scale,),
            (self.start, self.end),
        ):
            line = QHBoxLayout()
            line.setSpacing(14)
            for part in pair:
                line.addWidget(part, 1)
            column.addLayout(line)
