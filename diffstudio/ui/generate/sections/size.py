"""The image size: aspect-ratio presets, and width and height within the checkpoint's limits."""

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
    """The sizes of a checkpoint: multiples of `step` px from `smallest` to `largest`; trained at `width` x `height`."""

    width: int
    height: int
    step: int
    smallest: int
    largest: int

    @property
    def is_fixed(self) -> bool:
        return self.smallest == self.largest

    def nearest(self, side: float) -> int:
        return min(max(round(side / self.step) * self.step, self.smallest), self.largest)

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """The size nearest to this one: of about the same aspect ratio if one side is out of the limits."""
        if self.is_fixed:
            return self.width, self.height
        scale = min(1.0, self.largest / max(width, height))
        scale = max(scale, self.smallest / min(width, height))
        return self.nearest(scale * width), self.nearest(scale * height)

    def shapes(self) -> list[tuple[tuple[int, int], str]]:
        """Presets with about as many pixels as the training size, which comes first."""
        sizes = {(self.width, self.height): "Native"}
        pixels = self.width * self.height
        for name, across, down in _SHAPES:
            width = (pixels * across / down) ** 0.5
            sizes.setdefault((self.nearest(width), self.nearest(width * down / across)), name)
        doubled = (self.nearest(2 * self.width), self.nearest(2 * self.height))
        sizes.setdefault(doubled, "Double")
        return [(size, f"{name} · {size[0]} × {size[1]}") for size, name in sizes.items()]


def limits_of(checkpoint: Checkpoint) -> SizeLimits:
    """Read from the checkpoint's header; without more information only its native size is allowed."""
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
    """`requested_size()` is (width, height) px, or (None, None) for a checkpoint with one size."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._limits: SizeLimits | None = None
        self.shapes = ComboBox("Aspect ratio", (), "Presets with about as many pixels as the checkpoint was trained at")
        self.width_box = _side("Width", "Image width in pixels")
        self.height_box = _side("Height", "Image height in pixels")
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
        self.swap.clicked.connect(lambda: self._set(self.height_box.value(), self.width_box.value(), notify=True))
        for box in (self.width_box, self.height_box):
            box.valueChanged.connect(self._typed)
            box.editingFinished.connect(self._round_to_step)

    def set_limits(self, limits: SizeLimits | None) -> None:
        """Apply the limits of another checkpoint and reset to its native size."""
        if limits is not None and limits == self._limits:
            return
        self._limits = limits
        free = limits is not None and not limits.is_fixed
        for part in (self.shapes, self.width_box, self.height_box, self.swap):
            part.setEnabled(free)
        if limits is None:
            self.shapes.set_choices([(None, "Native size")])
            return
        for box in (self.width_box, self.height_box):
            box.blockSignals(True)
            box.setRange(limits.smallest if free else 8, limits.largest if free else max(limits.width, limits.height))
            box.setSingleStep(limits.step)
            box.blockSignals(False)
        self._set(limits.width, limits.height)

    def requested_size(self) -> tuple[int | None, int | None]:
        if self._limits is None or self._limits.is_fixed:
            return None, None
        return self._limits.nearest(self.width_box.value()), self._limits.nearest(self.height_box.value())

    def set_size(self, width: int | None, height: int | None) -> None:
        """Set the size of a request, or the nearest of its shape that this checkpoint supports."""
        if self._limits is not None:
            self._set(*self._limits.fit(width or self._limits.width, height or self._limits.height))

    def reason(self) -> str:
        return self._reason.text()

    def _set(self, width: int, height: int, *, notify: bool = False) -> None:
        assert self._limits is not None
        if not self._limits.is_fixed:
            width, height = self._limits.nearest(width), self._limits.nearest(height)
        else:
            width, height = self._limits.width, self._limits.height
        for box, side in ((self.width_box, width), (self.height_box, height)):
            box.blockSignals(True)
            box.setValue(side)
            box.blockSignals(False)
        self._update_state()
        if notify:
            self.changed.emit()

    def _update_state(self) -> None:
        """Update the presets and the remark from the two fields."""
        assert self._limits is not None
        limits, size = self._limits, (self.width_box.value(), self.height_box.value())
        shapes: Sequence[tuple[tuple[int, int], str]] = limits.shapes()
        if limits.is_fixed:
            shapes = [(size, f"Native · {size[0]} × {size[1]}")]
        elif all(size != shape for shape, _ in shapes):
            shapes = [*shapes, (size, f"Custom · {size[0]} × {size[1]}")]
        self.shapes.set_choices(shapes)
        self.shapes.set_value(size)
        trained = f"{limits.width} × {limits.height}"
        if limits.is_fixed:
            self._reason.setText(f"This checkpoint only supports {trained}.")
        elif size != (limits.width, limits.height):
            self._reason.setText(f"Trained at {trained}; quality may drop at other sizes.")
        else:
            self._reason.setText("")
        self._reason.setVisible(bool(self._reason.text()))

    def _shape_chosen(self, size: tuple[int, int]) -> None:
        self._set(*size, notify=True)

    def _typed(self) -> None:
        self._update_state()
        self.changed.emit()

    def _round_to_step(self) -> None:
        if self._limits is not None and not self._limits.is_fixed:
            self._set(self.width_box.value(), self.height_box.value(), notify=True)


def _side(name: str, tooltip: str) -> QSpinBox:
    box = IntegerField()
    describe(box, name, tooltip)
    box.setSuffix(" px")
    box.setRange(8, 8192)
    box.setKeyboardTracking(False)
    box.setAlignment(Qt.AlignmentFlag.AlignHCenter)
    box.setMinimumWidth(60)
    return box
