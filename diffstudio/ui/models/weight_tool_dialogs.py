"""The dialogs of the weight tools: options, precision, name, folder and needed disk space. Each emits one request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio import paths
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Layout
from diffstudio.models.state_dicts.prefixes import EMA_WEIGHTS
from diffstudio.models.tools.spec import SPARE_BYTES, Method, Precision, estimated_bytes
from diffstudio.studio.library.model_files import LONGEST_NAME, file_name_problem
from diffstudio.studio.library.weight_requests import (
    ConvertRequest,
    ExportRequest,
    FuseLoraRequest,
    MergeRequest,
    PruneRequest,
    WeightRequest,
    available_precisions,
    folder_for,
    free_path,
    fusable,
    mergeable,
)
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.dialogs import FittedDialog, choose_folder
from diffstudio.ui.widgets.formatting import human_bytes
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, limit_length
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.wrapping_text import WrappingText

PRECISIONS = {
    Precision.KEEP: "Same as the source",
    Precision.FP32: "32 bits (fp32)",
    Precision.FP16: "16 bits (fp16)",
    Precision.BF16: "16 bits (bf16)",
    Precision.FP8: "8 bits (fp8 e4m3)",
}


class ToolDialog(FittedDialog):
    """The base of all tool dialogs: the tool's own fields, precision, name, folder, and the needed disk space.

    `default_name` and `request` are called with the values that the dialog shows.
    """

    requested = Signal(object)  # WeightRequest
    verb, about, is_folder = "", "", False
    button = ""  # the button's text, if not the verb

    def __init__(
        self,
        checkpoint: Checkpoint,
        folder: Path,
        parent: QWidget | None,
        default_name: Callable[[], str],
        request: Callable[[], WeightRequest],
    ) -> None:
        super().__init__(parent)
        self.checkpoint = checkpoint
        self._default_name, self._request = default_name, request
        self._folder, self._custom_name = folder_for(checkpoint.role, folder), False
        self.setWindowTitle(f"{self.verb} {checkpoint.title}")
        self.setMinimumWidth(420)
        self.resize(480, 10)  # the height follows the contents: see fit_height
        describe(self, f"{self.verb} {checkpoint.title}", " ")
        self.name = QLineEdit()
        limit_length(self.name, LONGEST_NAME)
        describe(self.name, "Name", "Name of the new file. Nothing is overwritten")
        self.folder_label = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS, mode=Qt.TextElideMode.ElideMiddle)
        self.change_folder = SecondaryButton("Change…", "folder-open", "Save to another folder", name="Change folder")
        self.problem = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.size_note = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.cancel = SecondaryButton(actions.CANCEL, "", actions.CLOSE_WITHOUT_SAVING_TIP)
        self.accept_button = PrimaryButton(self.button or self.verb, "", f"{self.button or self.verb} (Enter)")
        self.precision = LabelledComboBox(
            "Precision",
            [(one, PRECISIONS[one]) for one in self.precisions()],
            "Fewer bits take less space. Most programs use 16",
        )
        self._lay_out()
        self._connect()
        self._refresh()
        self.accept_button.setFocus()

    # Overridden by the tools

    def precisions(self) -> tuple[Precision, ...]:
        small = self.checkpoint.layout is Layout.OURS
        return (Precision.KEEP, Precision.FP16, Precision.BF16, Precision.FP32, *(() if small else (Precision.FP8,)))

    def fields(self) -> Sequence[QWidget]:
        """The widgets above the name; each calls `_refresh` when it changes."""
        return ()

    def size_bytes(self) -> int:
        return estimated_bytes(self.checkpoint, self.chosen_precision())

    # Shared

    def chosen_precision(self) -> Precision:
        found: Precision = self.precision.value()
        return found

    def target(self) -> Path:
        return self._folder / f"{self.name.text().strip()}{'' if self.is_folder else '.safetensors'}"

    def _lay_out(self) -> None:
        column = QVBoxLayout()
        column.setContentsMargins(24, 24, 24, 20)
        column.setSpacing(8)
        column.addWidget(ElidedLabel(f"{self.verb} {self.checkpoint.title}", pixels=16, bold=True))
        column.addWidget(label(self.about, "dim", wrap=True))
        column.addSpacing(8)
        for field in (*self.fields(), self.precision):
            column.addWidget(field)
            column.addSpacing(4)
        name = label("Name")
        name.setBuddy(self.name)
        column.addWidget(name)
        column.addWidget(self.name)
        where = QHBoxLayout()
        where.addWidget(self.folder_label, 1)
        where.addWidget(self.change_folder)
        column.addLayout(where)
        column.addWidget(self.size_note)
        column.addWidget(self.problem)
        column.addSpacing(8)
        column.addStretch(1)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.accept_button)
        self.set_contents(column, buttons)

    def _connect(self) -> None:
        self.precision.value_changed.connect(lambda _: self._refresh())
        self.name.textEdited.connect(self._on_name_edited)
        self.change_folder.clicked.connect(self._ask_for_folder)
        self.cancel.clicked.connect(self.reject)
        self.accept_button.clicked.connect(self._accept)
        self.accept_button.setDefault(True)

    def _on_name_edited(self) -> None:
        self._custom_name = True
        self._refresh()

    def _ask_for_folder(self) -> None:
        choose_folder(self, "Save to", str(self._folder), self.set_folder)

    def set_folder(self, folder: Path) -> None:
        self._folder = folder
        self._refresh()

    def _refresh(self) -> None:
        """Update the name, the needed space and the problem, if any."""
        if not self._custom_name:
            free = free_path(self._default_name(), self._folder, is_folder=self.is_folder)
            self.name.setText(free.name if self.is_folder else free.stem)
        self.folder_label.setText(paths.short(self._folder))
        needed, free_bytes = self.size_bytes(), _free_bytes(self._folder)
        self.size_note.setText(
            f"Needs about {human_bytes(needed)} of {human_bytes(free_bytes)} free."
            if free_bytes is not None
            else f"Needs about {human_bytes(needed)}."
        )
        problem = self._problem(needed, free_bytes)
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        self.accept_button.setEnabled(not problem)
        self.fit_height()

    def _problem(self, needed: int, free_bytes: int | None) -> str:
        if problem := file_name_problem(self.name.text()):
            return problem
        if os.path.lexists(self.target()):
            return "A file of that name already exists. Choose another name."
        if free_bytes is not None and free_bytes < needed + SPARE_BYTES:
            return "There is not enough free space on that disk. Free some space, or choose another folder."
        return ""

    def _accept(self) -> None:
        self._refresh()  # the free space may have changed
        if self.accept_button.isEnabled():
            self.requested.emit(self._request())
            self.accept()


def _free_bytes(folder: Path) -> int | None:
    """Free bytes on the disk of a folder that may not exist yet; None if unknown."""
    for path in (folder, *folder.parents):
        try:
            return shutil.disk_usage(path).free
        except OSError:
            continue
    return None


class ConvertDialog(ToolDialog):
    verb, about = "Convert", "Writes the same weights to a new safetensors file. The source is not changed."

    def __init__(self, checkpoint: Checkpoint, folder: Path, parent: QWidget | None = None) -> None:
        super().__init__(checkpoint, folder, parent, self.default_name, self.request)

    def precisions(self) -> tuple[Precision, ...]:
        return available_precisions(self.checkpoint)

    def default_name(self) -> str:
        precision = self.chosen_precision()
        return self.checkpoint.name if precision is Precision.KEEP else f"{self.checkpoint.name}-{precision}"

    def request(self) -> WeightRequest:
        return ConvertRequest(self.checkpoint, self.target(), self.chosen_precision())


class ExportDialog(ToolDialog):
    verb, is_folder = "Export", True
    about = "Writes a diffusers folder: its pipeline or network opens with from_pretrained."

    def __init__(self, checkpoint: Checkpoint, folder: Path, parent: QWidget | None = None) -> None:
        super().__init__(checkpoint, folder, parent, self.default_name, self.request)

    def default_name(self) -> str:
        return f"{self.checkpoint.name}-diffusers"

    def request(self) -> WeightRequest:
        return ExportRequest(self.checkpoint, self.target(), self.chosen_precision())


class PruneDialog(ToolDialog):
    verb, about = "Prune", "Writes a new file with only the weights that inference needs. The source is not changed."

    def __init__(
        self, checkpoint: Checkpoint, folder: Path, removed: dict[str, int], parent: QWidget | None = None
    ) -> None:
        self.removed = removed
        removed_list = "\n".join(f"{what[:1].upper()}{what[1:]}: {human_bytes(size)}" for what, size in removed.items())
        self.removed_list = label(removed_list, wrap=True)
        self.removed_list.setAccessibleName(f"Removed: {removed_list}")
        self.ema = CheckBox(
            "Use EMA weights instead of raw ones",
            "EMA weights often give better images, and are not meant for further training",
        )
        self.ema.setVisible(False)
        super().__init__(checkpoint, folder, parent, self.default_name, self.request)
        self.ema.setVisible(EMA_WEIGHTS in removed)

    def fields(self) -> Sequence[QWidget]:
        return label("Removed:", "dim"), self.removed_list, self.ema

    def default_name(self) -> str:
        precision = self.chosen_precision()
        return f"{self.checkpoint.name}-pruned" + ("" if precision is Precision.KEEP else f"-{precision}")

    def size_bytes(self) -> int:
        kept = self.checkpoint.size_bytes - sum(self.removed.values())
        whole = max(1, self.checkpoint.size_bytes)
        return max(0, estimated_bytes(self.checkpoint, self.chosen_precision()) * kept // whole)

    def request(self) -> WeightRequest:
        return PruneRequest(self.checkpoint, self.target(), self.chosen_precision(), self.ema.isChecked())


class MergeDialog(ToolDialog):
    verb = "Merge"
    about = "Writes a new checkpoint from the weights of two or three. The sources are not changed."

    def __init__(
        self, checkpoint: Checkpoint, folder: Path, others: Sequence[Checkpoint], parent: QWidget | None = None
    ) -> None:
        self.candidates = {one.path: one for one in mergeable(checkpoint, others)}
        choices = [(path, one.title) for path, one in self.candidates.items()]
        self.method = ChipRow(
            [(Method.WEIGHTED_SUM, "Weighted sum"), (Method.ADD_DIFFERENCE, "Add difference")],
            tooltips=("A (1 - M) + B M", "A + M (B - C): adds what B learned since C to A"),
            name="Method",
        )
        self.checkpoint_b = LabelledComboBox("Checkpoint B", choices, "Checkpoint B, of the same family")
        self.checkpoint_c = LabelledComboBox("Checkpoint C", choices, "Checkpoint C, which B was trained from")
        self.multiplier = LabelledSlider(
            "Multiplier (M)", 0, 1, 0.5, step=0.01, decimals=2, tooltip="0 is checkpoint A alone; 1 is all of B"
        )
        self.formula = WrappingText(tone="dim")
        self.method.setVisible(False)
        super().__init__(checkpoint, folder, parent, self.default_name, self.request)
        self.method.setVisible(len(self.candidates) > 1)
        self.checkpoint_c.setVisible(False)
        self.checkpoint_c.set_value(list(self.candidates)[-1])
        self.method.value_changed.connect(
            lambda method: self.multiplier.set_value(1.0 if method is Method.ADD_DIFFERENCE else 0.5)
        )
        for control in (self.method, self.checkpoint_b, self.checkpoint_c, self.multiplier):
            control.value_changed.connect(lambda _: self._refresh())

    def fields(self) -> Sequence[QWidget]:
        return self.method, self.checkpoint_b, self.checkpoint_c, self.multiplier, self.formula

    def inputs(self) -> tuple[Checkpoint, ...]:
        second, third = self.candidates[self.checkpoint_b.value()], self.candidates[self.checkpoint_c.value()]
        return (self.checkpoint, second, third) if self.is_add_difference() else (self.checkpoint, second)

    def is_add_difference(self) -> bool:
        return self.method.value() is Method.ADD_DIFFERENCE

    def default_name(self) -> str:
        return "-".join((*(one.name for one in self.inputs()), f"{self.multiplier.value():g}"))

    def _refresh(self) -> None:
        self.checkpoint_c.setVisible(self.is_add_difference())
        first, second, *third = (one.title for one in self.inputs())
        share = self.multiplier.value()
        self.formula.set_text(
            f"{first} + {share:g} × ({second} − {third[0]})"
            if third
            else f"{1 - share:.0%} of {first}, {share:.0%} of {second}"
        )
        super()._refresh()

    def _problem(self, needed: int, free_bytes: int | None) -> str:
        if self.is_add_difference() and self.checkpoint_b.value() == self.checkpoint_c.value():
            return "B and C are the same checkpoint. Choose another."
        return super()._problem(needed, free_bytes)

    def request(self) -> WeightRequest:
        method = Method.ADD_DIFFERENCE if self.is_add_difference() else Method.WEIGHTED_SUM
        return MergeRequest(
            self.inputs(), self.target(), float(self.multiplier.value()), method, self.chosen_precision()
        )


class FuseLoraDialog(ToolDialog):
    verb, button = "Fuse a LoRA into", "Fuse"
    about = "Writes a new checkpoint with the LoRA fused into its weights. The sources are not changed."

    def __init__(
        self, checkpoint: Checkpoint, folder: Path, others: Sequence[Checkpoint], parent: QWidget | None = None
    ) -> None:
        self.loras = {one.path: one for one in fusable(checkpoint, others)}
        self.lora = LabelledComboBox(
            "LoRA", [(path, one.title) for path, one in self.loras.items()], "The LoRA to fuse"
        )
        self.weight = LabelledSlider(
            "Weight", -2, 2, 1, step=0.05, decimals=2, tooltip="1 is the full weight it was trained at"
        )
        super().__init__(checkpoint, folder, parent, self.default_name, self.request)
        for control in (self.lora, self.weight):
            control.value_changed.connect(lambda _: self._refresh())

    def fields(self) -> Sequence[QWidget]:
        return self.lora, self.weight

    def default_name(self) -> str:
        return f"{self.checkpoint.name}-{self.loras[self.lora.value()].name}"

    def _problem(self, needed: int, free_bytes: int | None) -> str:
        return (
            "At weight 0 the LoRA has no effect." if not self.weight.value() else super()._problem(needed, free_bytes)
        )

    def request(self) -> WeightRequest:
        lora = self.loras[self.lora.value()]
        return FuseLoraRequest(
            self.checkpoint, ((lora, float(self.weight.value())),), self.target(), self.chosen_precision()
        )
