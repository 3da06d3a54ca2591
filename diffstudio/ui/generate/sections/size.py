"""The size of a picture: shapes to choose from, and the two sides to type, within what the checkpoint can draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QSpinBox, QVBoxLayout, QWidget

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, label
from diffstudio.ui.widgets.inputs import ComboBox, IntegerField

_SHAPES = (
    ("Square", 1, 1),
    ("Landscape 4:3", 4, 3),
    ("Portrait 3:4", 3, 4),
    ("Wide 16:9", 16, 9),
    ("Tall 9:16", 9, 16),
)


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """What a checkpoint can draw: sides of `step` px from `smallest` to `largest`; best at `width` x `height`."""

    width: int
    height: int
    step: int
    smallest: int
    largest: int

    @property
    def only_one(self) -> bool:
        return self.smallest == self.largest

    def nearest(self, side: float) -> int:
        return min(max(round(side / self.step) * self.step, self.smallest), self.largest)

    def shapes(self) -> list[tuple[tuple[int, int], str]]:
        """Sizes of about as many pixels as it was trained at, each once, its own first."""
        sizes = {(self.width, self.height): "As trained"}
        pixels = self.width * self.height
        for name, across, down in _SHAPES:
            width = (pixels * across / down) ** 0.5
            sizes.setdefault((self.nearest(width), self.nearest(width * down / across)), name)
        doubled = (self.nearest(2 * self.width), self.nearest(2 * self.height))
        sizes.setdefault(doubled, "Double")
        return [(size, f"{name} · {size[0]} × {size[1]}") for size, name in sizes.items()]


def limits_of(checkpoint: Checkpoint) -> SizeLimits:
    """From the checkpoint's header. One that does not say more draws at its own size alone."""
    family = family_of(checkpoint.family)
    if family is not None and family.latent:
        width, height = checkpoint.width or family.side or 512, checkpoint.height or family.side or 512
        return SizeLimits(width, height, family.multiple, 16 * family.multiple, 4 * max(width, height))
    width, height = checkpoint.width or 64, checkpoint.height or 64
    try:
        patch = int(checkpoint.json("network")["patch"]) if checkpoint.family == "pixel" else 0
    except (CheckpointDamaged, KeyError, TypeError, ValueError):
        patch = 0
    if patch <= 0 or width != height:
        return SizeLimits(width, height, 8, width, width)
    smallest = -(-max(patch, 16) // patch) * patch
    return SizeLimits(width, height, patch, smallest, 2 * width // patch * patch)


class SizeControl(QWidget):
    """`size()` is (width, height) px, or (None, None) for the checkpoint's own."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._limits: SizeLimits | None = None
        self.shapes = ComboBox(
            "Shape of the picture", (), "Shapes with about as many pixels as the checkpoint was trained at"
        )
        self.width_box = _side("Width", "Width of the picture in pixels")
        self.height_box = _side("Height", "Height of the picture in pixels")
        self.swap = SecondaryButton("", "arrows-left-right", "Swap width and height", role="dim")
        self._reason = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self._reason.setObjectName("reason")
        self._custom = ""
        column, row = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        row.setSpacing(4)
        row.addWidget(self.width_box, 1)
        row.addWidget(self.swap)
        row.addWidget(self.height_box, 1)
        column.addWidget(self.shapes)
        column.addLayout(row)
        column.addWidget(self._reason)
        self.shapes.chosen.connect(self._shape_chosen)
        self.swap.clicked.connect(lambda: self._set(self.height_box.value(), self.width_box.value(), tell=True))
        for box in (self.width_box, self.height_box):
            box.valueChanged.connect(self._typed)
            box.editingFinished.connect(self._settle)

    def set_limits(self, limits: SizeLimits | None) -> None:
        """Those of another checkpoint: back to its own size."""
        if limits is not None and limits == self._limits:
            return
        self._limits = limits
        free = limits is not None and not limits.only_one
        for part in (self.shapes, self.width_box, self.height_box, self.swap):
            part.setEnabled(free)
        if limits is None:
            self.shapes.set_choices([(None, "that of the checkpoint")])
            return
        for box in (self.width_box, self.height_box):
            box.blockSignals(True)
            box.setRange(limits.smallest if free else 8, limits.largest if free else max(limits.width, limits.height))
            box.setSingleStep(limits.step)
            box.blockSignals(False)
        self._set(limits.width, limits.height)

    def size_wanted(self) -> tuple[int | None, int | None]:
        if self._limits is None or self._limits.only_one:
            return None, None
        return self._limits.nearest(self.width_box.value()), self._limits.nearest(self.height_box.value())

    def set_size(self, width: int | None, height: int | None) -> None:
        """As a request says it; a size that this checkpoint cannot draw becomes the nearest that it can."""
        if self._limits is not None:
            self._set(width or self._limits.width, height or self._limits.height)

    def reason(self) -> str:
        return self._reason.text()

    def _set(self, width: int, height: int, *, tell: bool = False) -> None:
        assert self._limits is not None
        if not self._limits.only_one:
            width, height = self._limits.nearest(width), self._limits.nearest(height)
        else:
            width, height = self._limits.width, self._limits.height
        for box, side in ((self.width_box, width), (self.height_box, height)):
            box.blockSignals(True)
            box.setValue(side)
            box.blockSignals(False)
        self._follow()
        if tell:
            self.changed.emit()

    def _follow(self) -> None:
        """The list and the remark, after the boxes."""
        assert self._limits is not None
        limits, size = self._limits, (self.width_box.value(), self.height_box.value())
        shapes: Sequence[tuple[tuple[int, int], str]] = limits.shapes()
        if limits.only_one:
            shapes = [(size, f"As trained · {size[0]} × {size[1]}")]
        elif all(size != shape for shape, _ in shapes):
            shapes = [*shapes, (size, f"Custom · {size[0]} × {size[1]}")]
        self.shapes.set_choices(shapes)
        self.shapes.set_value(size)
        trained = f"{limits.width} × {limits.height}"
        if limits.only_one:
            self._reason.setText(f"This checkpoint makes pictures of {trained} only.")
        elif size != (limits.width, limits.height):
            self._reason.setText(f"Trained at {trained}; other sizes come out less well.")
        else:
            self._reason.setText("")
        self._reason.setVisible(bool(self._reason.text()))

    def _shape_chosen(self, size: tuple[int, int]) -> None:
        self._set(*size, tell=True)

    def _typed(self) -> None:
        self._follow()
        self.changed.emit()

    def _settle(self) -> None:
        if self._limits is not None and not self._limits.only_one:
            self._set(self.width_box.value(), self.height_box.value(), tell=True)


def _side(name: str, tooltip: str) -> QSpinBox:
    box = IntegerField()
    describe(box, name, tooltip)
    box.setSuffix(" px")
    box.setRange(8, 8192)
    box.setKeyboardTracking(False)
    box.setAlignment(Qt.AlignmentFlag.AlignHCenter)
    box.setMinimumWidth(60)
    return box
