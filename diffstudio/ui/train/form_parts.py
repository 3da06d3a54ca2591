"""Parts of the form for a new run that need nothing else of it."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.training.recipe_from_checkpoint import FROM_SCRATCH
from diffstudio.ui.train.recipe_options import FLIPS, ROTATION, SHIFTS
from diffstudio.ui.widgets.helpers import label
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.combo_box import ComboBox

STARTS: list[tuple[str | None, str]] = [
    (None, "Automatic"),
    (FROM_SCRATCH, "Scratch (random weights)"),
    *((path.stem, path.stem.replace("-", " ").capitalize()) for path in paths.included_checkpoints()),
]


def augmentation_chips() -> ChipRow:
    return ChipRow(
        [(FLIPS, "Flips"), (ROTATION, "Rotation"), (SHIFTS, "Shifts")],
        exclusive=False,
        name="Augmentation",
        tooltips=(
            "Mirror some images: more variety, but wrong for text",
            "Rotate images by a few degrees. The network is conditioned on it, so generated images stay upright",
            "Shift images a little. The network is conditioned on it, so generated images stay centred",
        ),
    )


def without_padding(*combos: ComboBox) -> None:
    """Drop the padding on the right of drop-downs: half a column is too narrow for it."""
    for combo in combos:
        combo.setStyleSheet("QComboBox { padding-right: 0; }")


def labelled(text: str, control: QWidget) -> QVBoxLayout:
    """A control below its label."""
    column = QVBoxLayout()
    column.setSpacing(4)
    column.addWidget(label(text))
    column.addWidget(control)
    return column
