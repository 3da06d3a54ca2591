"""The image size: aspect-ratio presets, width and height within the checkpoint's limits, or that of the init image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QSpinBox, QVBoxLayout, QWidget

from diffstudio.errors import BadRequest, CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.studio.requests.limits import enlarged_size
from diffstudio.ui.generate.sections.sampling_section import SET_BY_HAND
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, label, set_tooltip
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.inputs.number_fields import IntegerField

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

    def fit(self, width: float, height: float) -> tuple[int, int]:
        """The size nearest to this one: of about the same aspect ratio if one side is out of the limits."""
        if self.is_fixed:
            return self.width, self.height
        scale = min(1.0, self.largest / max(width, height))
        scale = max(scale, self.smallest / min(width, height))
        return self.nearest(scale * width), self.nearest(scale * height)

    def supports(self, width: int, height: int) -> bool:
        """Whether the checkpoint generates exactly this size."""
        if self.is_fixed:
            return (width, height) == (self.width, self.height)
        return all(side % self.step == 0 and self.step <= side <= self.largest for side in (width, height))

    def following(self, width: int, height: int) -> tuple[int, int]:
        """The size for an init image of width × height px: its own, rounded to `step`.

        Above twice the training size, or outside of the limits, it is scaled first.
        """
        scale = min(1.0, (4 * self.width * self.height / (width * height)) ** 0.5)
        return self.fit(scale * width, scale * height)

    def why_not(self, width: int, height: int) -> str:
        """Why `following` gives another size."""
        if max(width, height) > self.largest or width * height > 4 * self.width * self.height:
            return "it is more than twice the training size"
        if min(width, height) < self.smallest:
            return f"no side may be below {self.smallest} px"
        return f"sides are multiples of {self.step} px"

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


@dataclass(frozen=True, slots=True)
class InitSize:
    """The size in px of an init image with its outpaint margins, and how it is used."""

    width: int
    height: int
    outpainted: bool = False
    masked_only: bool = False


def limits_of(checkpoint: Checkpoint) -> SizeLimits:
    """Read from the checkpoint's header; without more information only its native size is allowed."""
    family = family_of(checkpoint.family)
    if family is not None and family.latent:
        width, height = checkpoint.width or family.side or 512, checkpoint.height or family.side or 512
        smallest = max(1, min(16, width // family.multiple, height // family.multiple)) * family.multiple
        return SizeLimits(width, height, family.multiple, smallest, 4 * max(width, height))
    width, height = checkpoint.width or 64, checkpoint.height or 64
    try:
        patch = _multiple_of(checkpoint) if checkpoint.family == "pixel" else 0
    except (CheckpointDamaged, KeyError, TypeError, ValueError):
        patch = 0
    if patch <= 0 or width != height:
        return SizeLimits(width, height, 8, width, width)
    smallest = -(-max(patch, 16) // patch) * patch
    return SizeLimits(width, height, patch, smallest, 2 * width // patch * patch)


def _multiple_of(checkpoint: Checkpoint) -> int:
    """Of the sides of images of a pixel model, in px. CheckpointDamaged, KeyError, TypeError, ValueError."""
    patch, factor = int(checkpoint.json("network")["patch"]), checkpoint.upper_factor
    return math.lcm(factor * patch, int(checkpoint.json("upper")["network"]["patch"])) if factor else patch


def refined_size(checkpoint: Checkpoint | None, width: int, height: int, scale: float) -> tuple[int, int]:
    """Width and height in px of an image that is enlarged, and refined with `checkpoint` if there is one.

    BadRequest when that is too large.
    """
    size = enlarged_size(width, height, scale, limits_of(checkpoint).step if checkpoint is not None else 1)
    largest = largest_untiled(checkpoint)
    if largest is not None and max(size) > largest:
        raise BadRequest(
            f"{scale:g}× is too large for this checkpoint",
            f"it makes images in two levels, of up to {largest:,} px a side, and not in tiles",
            "Choose a smaller scale or size",
        )
    return size


def largest_untiled(checkpoint: Checkpoint | None) -> int | None:
    """The largest side in px of an image in two levels, which is not tiled; None for other checkpoints."""
    if checkpoint is None:
        return None
    try:
        return limits_of(checkpoint).largest if checkpoint.upper_factor else None
    except CheckpointDamaged:  # said when it is loaded
        return None


class SizeControl(QWidget):
    """The size is that of the init image, or the checkpoint's own without one, until the user sets it."""

    changed = Signal()
    marked = Signal(str)  # why the size is marked as set by hand; empty when it is not

    def __init__(self) -> None:
        super().__init__()
        self._limits: SizeLimits | None = None
        self._init: InitSize | None = None
        self._by_hand = False
        self.shapes = ComboBox("Aspect ratio", (), "Presets with about as many pixels as the checkpoint was trained at")
        self.width_box = _side("Width", "Image width in pixels")
        self.height_box = _side("Height", "Image height in pixels")
        self.swap = SecondaryButton("", "arrows-left-right", "Swap width and height", role="dim")
        self.follow_box = CheckBox(
            "Follow init image", "Generate at the size of the init image and its outpaint margins"
        )
        self._reason = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self._reason.setObjectName("reason")
        self._tips = {part: part.toolTip() for part in (self.shapes, self.width_box, self.height_box)}
        column, row = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        row.setSpacing(4)
        row.addWidget(self.width_box, 1)
        row.addWidget(self.swap)
        row.addWidget(self.height_box, 1)
        column.addWidget(self.shapes)
        column.addLayout(row)
        column.addWidget(self.follow_box)
        column.addWidget(self._reason)
        self.follow_box.hide()
        self.shapes.chosen.connect(lambda size: self._set_by_hand(*size))
        self.swap.clicked.connect(lambda: self._set_by_hand(self.height_box.value(), self.width_box.value()))
        self.follow_box.clicked.connect(self._follow_clicked)
        for box in (self.width_box, self.height_box):
            box.valueChanged.connect(self._typed)
            box.editingFinished.connect(self._round_to_step)

    # Inputs

    def set_limits(self, limits: SizeLimits | None) -> None:
        """Apply the limits of another checkpoint. A size set by hand is kept if it is within them."""
        if limits is not None and limits == self._limits:
            return
        self._limits = limits
        free = limits is not None and not limits.is_fixed
        for part in (self.shapes, self.width_box, self.height_box, self.swap):
            part.setEnabled(free)
        if limits is None:
            self.shapes.set_choices([(None, "Native size")])
            return
        size = self.width_box.value(), self.height_box.value()
        self._by_hand = self._by_hand and free and all(limits.smallest <= side <= limits.largest for side in size)
        for box in (self.width_box, self.height_box):
            box.blockSignals(True)
            box.setRange(limits.smallest if free else 8, limits.largest if free else max(limits.width, limits.height))
            box.setSingleStep(limits.step)
            box.blockSignals(False)
        self._set(*(size if self._by_hand else self._usual_size()))

    def follow(self, init: InitSize | None) -> None:
        """Follow the size of an init image; None without one. A size set by hand stays."""
        if init == self._init:
            return
        self._init = init
        if self._limits is not None:
            size = (self.width_box.value(), self.height_box.value()) if self._by_hand else self._usual_size()
            self._set(*size, notify=True)

    def set_size(self, width: int | None, height: int | None) -> None:
        """Set the size of a request, or the nearest of its shape that this checkpoint supports.

        It counts as set by hand unless it is what the init image, or the checkpoint, gives anyway.
        """
        if self._limits is None:
            return
        usual, outpainted = self._usual_size(), self._init is not None and self._init.outpainted
        if width is None and height is None and outpainted:  # the size of the canvas, if that can be generated
            self._by_hand, size = False, usual
        else:
            size = self._limits.fit(width or self._limits.width, height or self._limits.height)
            self._by_hand = not self._limits.is_fixed and (outpainted or size != usual)
        self._set(*size)

    def keep_by_hand(self) -> None:
        """Take the size as set by hand, also where the init image or the checkpoint has the same."""
        if self._limits is not None and not self._limits.is_fixed:
            self._by_hand = True
            self._update_state()

    def reset(self) -> None:
        """Follow the init image, or the checkpoint."""
        self._by_hand = False
        if self._limits is not None:
            self._set(*self._usual_size())

    # The size

    def requested_size(self) -> tuple[int | None, int | None]:
        """(width, height) px for the request; (None, None) for the checkpoint's only size, or that of the outpainting."""
        if self._limits is None or self._limits.is_fixed or self._follows_outpaint():
            return None, None
        return self._shown_size(self._limits)

    def generated_size(self) -> tuple[int, int] | None:
        """Width and height in px of what is generated; None without a checkpoint."""
        if self._limits is None:
            return None
        if self._limits.is_fixed or not self._by_hand:
            return self._usual_size()
        return self._shown_size(self._limits)

    def _shown_size(self, limits: SizeLimits) -> tuple[int, int]:
        """Width and height in px in the fields; the nearest that can be generated while another size is being typed."""
        size = self.width_box.value(), self.height_box.value()
        return size if limits.supports(*size) else (limits.nearest(size[0]), limits.nearest(size[1]))

    def pastes(self) -> bool:
        """Whether only the area around the mask is generated and pasted into the init image.

        That is also what is done with an outpainting whose canvas the checkpoint cannot generate.
        """
        if self._init is None or self._limits is None:
            return False
        whole = self._limits.supports(self._init.width, self._init.height)
        return self._init.masked_only or (self._follows_outpaint() and not whole)

    def is_by_hand(self) -> bool:
        """Whether the size was set by hand, so that it follows neither the init image nor the checkpoint."""
        return self._by_hand

    def reason(self) -> str:
        return self._reason.text()

    def _follows_outpaint(self) -> bool:
        return self._init is not None and self._init.outpainted and not self._by_hand

    def _usual_size(self) -> tuple[int, int]:
        """Width and height in px where they are not set by hand."""
        assert self._limits is not None
        limits, init = self._limits, self._init
        if init is None or limits.is_fixed or init.masked_only:
            return limits.width, limits.height
        if init.outpainted:
            whole = init.width, init.height
            return whole if limits.supports(*whole) else (limits.width, limits.height)
        return limits.following(init.width, init.height)

    def _set(self, width: int, height: int, *, notify: bool = False) -> None:
        assert self._limits is not None
        if self._limits.is_fixed:
            width, height = self._limits.width, self._limits.height
        elif self._by_hand or not self._limits.supports(width, height):
            width, height = self._limits.nearest(width), self._limits.nearest(height)
        for box, side in ((self.width_box, width), (self.height_box, height)):
            box.blockSignals(True)
            box.setMinimum(min(side, self._limits.smallest))  # a small canvas is generated all the same
            box.setValue(side)
            box.blockSignals(False)
        self._update_state()
        if notify:
            self.changed.emit()

    def _update_state(self) -> None:
        """Update the presets and the remark from the two fields."""
        assert self._limits is not None
        limits, size = self._limits, (self.width_box.value(), self.height_box.value())
        follows = self._init is not None and not self._by_hand and not self._init.masked_only
        shapes: Sequence[tuple[tuple[int, int], str]] = limits.shapes()
        if limits.is_fixed:
            shapes = [(size, f"Native · {size[0]} × {size[1]}")]
        elif all(size != shape for shape, _ in shapes):
            shapes = [*shapes, (size, f"{'Init image' if follows else 'Custom'} · {size[0]} × {size[1]}")]
        self.shapes.set_choices(shapes)
        self.shapes.set_value(size)
        self.follow_box.setVisible(self._init is not None and not limits.is_fixed)
        self.follow_box.setChecked(not self._by_hand)
        self._reason.setText("\n".join(self._remarks(size)))
        self._reason.setVisible(bool(self._reason.text()))
        for part, tip in self._tips.items():
            set_tooltip(part, f"{tip}. {SET_BY_HAND}" if self._by_hand else tip)
        self.marked.emit(SET_BY_HAND if self._by_hand else "")

    def _remarks(self, size: tuple[int, int]) -> list[str]:
        assert self._limits is not None
        limits, init, remarks = self._limits, self._init, []
        if init is not None and self.pastes():
            remarks.append(
                f"The result has {init.width:,} × {init.height:,} px: what is masked is generated at "
                f"{size[0]:,} × {size[1]:,} px and pasted in."
            )
        elif init is not None and not self._by_hand and not limits.is_fixed and size != (init.width, init.height):
            why = limits.why_not(init.width, init.height)
            remarks.append(f"Changed from the init image’s {init.width:,} × {init.height:,} px: {why}.")
        trained = f"{limits.width} × {limits.height}"
        if limits.is_fixed:
            remarks.append(f"This checkpoint only supports {trained}.")
        elif size != (limits.width, limits.height):
            remarks.append(f"Trained at {trained}; quality may drop at other sizes.")
        return remarks

    # User input

    def _set_by_hand(self, width: int, height: int) -> None:
        self._mark_by_hand((width, height))
        self._set(width, height, notify=True)

    def _mark_by_hand(self, size: tuple[int, int]) -> None:
        """Without an init image, choosing the native size is to follow the checkpoint again."""
        self._by_hand = self._init is not None or size != self._usual_size()

    def _follow_clicked(self, follows: bool) -> None:
        self._by_hand = not follows
        size = self._usual_size() if follows else (self.width_box.value(), self.height_box.value())
        self._set(*size, notify=True)

    def _typed(self) -> None:
        self._mark_by_hand((self.width_box.value(), self.height_box.value()))
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
