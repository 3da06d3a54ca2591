"""CurveFields: where a curve begins from, its chosen point in numbers, and the name under which it is saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.errors import BadRequest, DiffstudioError
from diffstudio.studio.curves.curve import NoiseCurve
from diffstudio.studio.curves.editing import placed
from diffstudio.studio.curves.models import ModelNoise
from diffstudio.studio.curves.presets import PRESETS, curve_of_schedule, preset_curves
from diffstudio.studio.curves.saved import NamedCurve, delete_curve, save_curve, saved_curves
from diffstudio.studio.metadata.sampler_names import SPACING_LABELS
from diffstudio.studio.requests import SpacingName
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton
from diffstudio.ui.widgets.helpers import describe, label, takes_text_only
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.number_fields import DecimalField
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

EDITED, OF_MODEL = "Drawn by hand", "Of the model"
_TAKEN = (*SpacingName, *SPACING_LABELS.values())  # names of spacings


class CurveFields(QWidget):
    """The canvas has the curve; what is typed here is given to it by the view."""

    curve_chosen = Signal(object)  # NoiseCurve, from a preset or a file
    point_typed = Signal(object)  # NoiseCurve with the point where it was typed
    refused = Signal(str)  # why a point cannot be there
    message = Signal(str, str)  # kind, text
    saved = Signal()  # the saved schedules have changed

    def __init__(self) -> None:
        super().__init__()
        self._curve: NoiseCurve | None = None
        self._index = 0
        self._of_model: NoiseCurve | None = None
        self._saved: tuple[NamedCurve, ...] = ()
        self.start = LabelledComboBox("Curve", (), "Take a published schedule, that of the model, or one you saved")
        self.time, self.log_snr = self._field("Time", 1.0, 3, 0.01), self._field("Log-SNR", 20.0, 2, 0.25)
        describe(self.time, "Time of the point", "0 is the clean image, 1 is noise")
        describe(self.log_snr, "Log-SNR of the point", "Logarithm of the signal-to-noise ratio: high at low noise")
        self.add = SecondaryButton("Add point", "plus", "Add a point after the chosen one (Insert)")
        self.remove = SecondaryButton("Remove point", "minus", "Remove the chosen point (Delete)")
        self.undo = SecondaryButton("Undo", "arrow-counter-clockwise", "Undo the last change of the curve (Ctrl+Z)")
        self.name = QLineEdit()
        takes_text_only(self.name)
        self.name.setPlaceholderText("Name")
        describe(
            self.name, "Name of the schedule", "The name under which Generate, Train and the command line offer it"
        )
        self.save = PrimaryButton(
            "Save schedule", "", "Offer it as a scheduler in Generate, and as noise levels of a new run in Train"
        )
        self.delete = SecondaryButton("Delete", "trash", "Delete the saved schedule of this name", role="dim")
        self.copy = SecondaryButton("Copy for recipe", "copy", "Copy the lines for a recipe's file to the clipboard")
        self._lay_out()
        self._connect()

    @staticmethod
    def _field(name: str, largest: float, decimals: int, step: float) -> DecimalField:
        field = DecimalField()
        field.setDecimals(decimals)
        field.setRange(-99.0, 99.0)  # what is out of range gets a sentence
        field.setSingleStep(step)
        field.setKeyboardTracking(False)
        field.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        return field

    def _lay_out(self) -> None:
        point = QGridLayout()
        point.setHorizontalSpacing(8)
        point.setVerticalSpacing(4)
        for index, (text, field) in enumerate((("Time", self.time), ("Log-SNR", self.log_snr))):
            name = label(text)
            name.setBuddy(field)
            point.addWidget(name, 0, index)
            point.addWidget(field, 1, index)
            point.setColumnStretch(index, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.start)
        column.addLayout(point)
        column.addLayout(_flow(self.add, self.remove, self.undo, self.copy))
        column.addWidget(self.name)
        column.addLayout(_flow(self.save, self.delete))

    def _connect(self) -> None:
        self.start.value_changed.connect(self._start_chosen)
        for field in (self.time, self.log_snr):
            field.valueChanged.connect(lambda _: self._typed())
        self.name.textChanged.connect(lambda _: self._show_name())
        self.name.returnPressed.connect(self.save_named)
        self.save.clicked.connect(self.save_named)
        self.delete.clicked.connect(self.delete_named)
        self.copy.clicked.connect(self.copy_lines)
        self._show_name()

    # What is shown

    def show_model(self, noise: ModelNoise | None) -> None:
        self._of_model = curve_of_schedule(noise.schedule) if noise is not None else None
        self.offer_saved()

    def offer_saved(self) -> Sequence[str]:
        """Read the saved schedules again; sentences about those that cannot be read."""
        found = saved_curves()
        self._saved = found.curves
        choices = [("", EDITED), *((f"preset {one.name}", one.label) for one in PRESETS)]
        if self._of_model is not None:
            choices.insert(1, ("model", OF_MODEL))
        self.start.set_choices([*choices, *((f"saved {one.name}", one.name) for one in found.curves)])
        self._show_start()
        self._show_name()
        return found.problems

    def show_curve(self, curve: NoiseCurve, index: int, *, can_undo: bool) -> None:
        self._curve, self._index = curve, index
        for field, value in zip((self.time, self.log_snr), curve.points[index], strict=True):
            field.blockSignals(True)
            field.setValue(value)
            field.blockSignals(False)
        inside = 0 < index < len(curve.points) - 1
        self.time.setEnabled(inside)
        self.remove.setEnabled(inside)
        self.undo.setEnabled(can_undo)
        self._show_start()

    def _known(self) -> dict[str, NoiseCurve]:
        known = {f"preset {name}": curve for name, curve in preset_curves().items()}
        if self._of_model is not None:
            known["model"] = self._of_model
        return known | {f"saved {one.name}": one.curve for one in self._saved}

    def _show_start(self) -> None:
        """Name the curve if it is one of those that are offered."""
        known = self._known()
        if known.get(self.start.value()) != self._curve:
            self.start.set_value(next((key for key, curve in known.items() if curve == self._curve), ""))

    def _start_chosen(self, key: str) -> None:
        curve = self._known().get(key)
        if curve is not None:
            if key.startswith("saved "):
                self.name.setText(key.removeprefix("saved "))
            self.curve_chosen.emit(curve)

    def _typed(self) -> None:
        if self._curve is None:
            return
        try:
            curve = placed(self._curve, self._index, self.time.value(), self.log_snr.value())
        except BadRequest as problem:
            self.refused.emit(str(problem))
        else:
            self.point_typed.emit(curve)

    # Saving

    def _show_name(self) -> None:
        name = self.name.text().strip()
        self.save.setEnabled(bool(name))
        self.delete.setEnabled(name.casefold() in (one.name.casefold() for one in self._saved))

    def save_named(self) -> None:
        name = self.name.text().strip()
        if self._curve is None or not name:
            return
        curve = self._curve
        if self._tried(lambda: save_curve(NamedCurve(name, curve), taken=_TAKEN)):
            self.message.emit("good", f"“{name}” is now a scheduler in Generate and noise levels of new runs in Train.")

    def delete_named(self) -> None:
        name = self.name.text().strip()
        if self._tried(lambda: delete_curve(name)):
            self.message.emit("good", f"“{name}” was deleted. Images and runs that used it keep its points.")

    def _tried(self, do: Callable[[], object]) -> bool:
        try:
            do()
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
            return False
        self.offer_saved()
        self.saved.emit()
        return True

    def copy_lines(self) -> None:
        """Copy the lines of a recipe's `[objective]`."""
        if self._curve is not None:
            QGuiApplication.clipboard().setText(recipe_lines(self._curve))
            self.message.emit("good", "Copied. Paste the lines below [objective] in a recipe's file.")


def recipe_lines(curve: NoiseCurve) -> str:
    return f'noise_levels = "curve"\nnoise_curve = {list(curve.pairs)}\n'


def _flow(*buttons: QWidget) -> FlowLayout:
    flow = FlowLayout(spacing=8)
    for button in buttons:
        flow.addWidget(button)
    return flow
