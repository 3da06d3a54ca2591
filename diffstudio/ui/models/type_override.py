"""Sets a model file's family, edition and prediction type by hand, where detection is wrong or ambiguous."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.editions import EDITIONS, edition_question
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.library.overrides import Override, Overrides
from diffstudio.ui.models import model_info
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.wrapping_text import WrappingText

PREDICTION_LABELS = {"eps": "Noise (eps)", "v": "v", "flow": "Flow velocity", "x0": "Clean image (sample)"}
_ROLES_WITH_PREDICTION = (Role.CHECKPOINT, Role.NETWORK, Role.UNKNOWN)


class TypeOverride(QWidget):
    """Three combo boxes, saved on change. Hidden for files made with diffstudio, whose header states what they are.

    Where neither name nor metadata says which edition a file is, and its settings depend on it, a question is shown.
    """

    saved = Signal(str)  # a message; the model folders need a rescan
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._checkpoint: Checkpoint | None = None
        self.family = LabelledComboBox("Family", (), "Open this file as another family if it was recognised wrongly")
        self.prediction = LabelledComboBox(
            "Predicts",
            [("", "Family default"), *PREDICTION_LABELS.items()],
            "Prediction type of the network. If images come out as noise, try another",
        )
        self.edition = LabelledComboBox("Edition", (), "Recommended steps and CFG scale depend on it")
        self.question = WrappingText(tone="dim")
        column, pair = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        pair.setSpacing(14)
        pair.addWidget(self.family, 1)
        pair.addWidget(self.prediction, 1)
        column.addWidget(SectionLabel("Model type"))
        column.addLayout(pair)
        column.addWidget(self.question)
        column.addWidget(self.edition)
        for combo in (self.family, self.prediction, self.edition):
            combo.value_changed.connect(lambda _: self._save())
        self.hide()

    def show_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        """Show the override of a checkpoint, if any."""
        self._checkpoint = checkpoint
        self.setVisible(checkpoint is not None and checkpoint.layout is not Layout.OURS)
        if checkpoint is None or self.isHidden():
            return
        try:
            override = Overrides().of(checkpoint) or Override()
        except DiffstudioError as problem:
            self.failed.emit(str(problem))
            override = Override()
        others = (
            family
            for family in FAMILIES.values()
            if family.latent and (family.name != "diffusers" or checkpoint.layout is Layout.FOLDER)
        )
        self.family.set_choices([("", "As detected"), *((family.name, family.title) for family in others)])
        self.family.set_value(override.family)
        self.prediction.set_value(override.prediction)
        self.prediction.setVisible(checkpoint.role in _ROLES_WITH_PREDICTION)
        self._show_editions(checkpoint, override)

    def _show_editions(self, checkpoint: Checkpoint, override: Override) -> None:
        editions = EDITIONS.get(checkpoint.family, ()) if checkpoint.can_generate else ()
        self.edition.set_choices([("", "As detected"), *((edition, edition) for edition in editions)])
        self.edition.set_value(override.edition)
        self.edition.setVisible(bool(editions))
        question = edition_question(checkpoint.family, checkpoint.edition) if editions else ""
        self.question.setVisible(bool(question))
        self.question.setPlainText(question)

    def _save(self) -> None:
        checkpoint, family, prediction = self._checkpoint, self.family.value(), self.prediction.value()
        if checkpoint is None:
            return
        edition = self.edition.value()
        if family and edition not in EDITIONS.get(family, ()):
            edition = ""  # of the family that was chosen before
        try:
            overrides = Overrides()
            overrides.clear(checkpoint)
            if family or prediction or edition:
                overrides.put(checkpoint, family, prediction, edition)
        except DiffstudioError as problem:
            self.failed.emit(str(problem))
            return
        parts = (
            f"{FAMILIES[family].title if family else ''} {edition}".strip(),
            f"predicting {model_info.PREDICTIONS[prediction]}" if prediction else "",
        )
        self.saved.emit(f"{checkpoint.title} now opens as {', '.join(filter(None, parts)) or 'detected'}.")
