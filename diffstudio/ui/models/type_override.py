"""What a person says that a file is, where its header leaves it open or what was recognised is wrong."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint, Layout, Role
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.library.overrides import Override, Overrides
from diffstudio.ui.models import model_info
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.inputs import LabelledComboBox

_SAYS = {"eps": "The noise (eps)", "v": "v", "flow": "The flow velocity", "x0": "The clean image (sample)"}
_PREDICTING = (Role.CHECKPOINT, Role.NETWORK, Role.UNKNOWN)


class TypeOverride(QWidget):
    """Two lists; what is chosen is kept at once. Hidden for files made with this program, which say what they are."""

    kept = Signal(str)  # a sentence: look through the folders again
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._checkpoint: Checkpoint | None = None
        self.family = LabelledComboBox("Family", (), "Open this file as another family if it was recognised wrongly")
        self.prediction = LabelledComboBox(
            "Predicts",
            [("", "Family default"), *_SAYS.items()],
            "Prediction type of the network. If images come out as noise, try another",
        )
        column, pair = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        pair.setSpacing(14)
        pair.addWidget(self.family, 1)
        pair.addWidget(self.prediction, 1)
        column.addWidget(SectionLabel("Model type"))
        column.addLayout(pair)
        for combo in (self.family, self.prediction):
            combo.value_changed.connect(lambda _: self._keep())
        self.hide()

    def show_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        """With what was said about it before."""
        self._checkpoint = checkpoint
        self.setVisible(checkpoint is not None and checkpoint.layout is not Layout.OURS)
        if checkpoint is None or self.isHidden():
            return
        try:
            said = Overrides().of(checkpoint) or Override()
        except DiffstudioError as problem:
            self.failed.emit(str(problem))
            said = Override()
        others = (
            family
            for family in FAMILIES.values()
            if family.latent and (family.name != "diffusers" or checkpoint.layout is Layout.FOLDER)
        )
        self.family.set_choices([("", "As detected"), *((family.name, family.title) for family in others)])
        self.family.set_value(said.family)
        self.prediction.set_value(said.prediction)
        self.prediction.setVisible(checkpoint.role in _PREDICTING)

    def _keep(self) -> None:
        checkpoint, family, prediction = self._checkpoint, self.family.value(), self.prediction.value()
        if checkpoint is None:
            return
        try:
            overrides = Overrides()
            overrides.clear(checkpoint)
            if family or prediction:
                overrides.put(checkpoint, family, prediction)
        except DiffstudioError as problem:
            self.failed.emit(str(problem))
            return
        said = (
            FAMILIES[family].title if family else "",
            f"predicting {model_info.PREDICTIONS[prediction]}" if prediction else "",
        )
        self.kept.emit(f"{checkpoint.title} now opens as {', '.join(filter(None, said)) or 'detected'}.")
