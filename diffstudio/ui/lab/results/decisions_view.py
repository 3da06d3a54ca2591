"""DecisionsView: the images that are anomalous at a chosen false-alarm rate, and the user's decisions on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.evaluations.anomalies.decisions import Decision, write_decision
from diffstudio.studio.evaluations.anomalies.result import TITLES, ScoredImage
from diffstudio.studio.evaluations.views.anomalies import AnomaliesView
from diffstudio.ui.lab.results.saving import SaveButton, SavedFile
from diffstudio.ui.lab.results.scored_images import (
    ACCEPTED,
    ALL,
    ANOMALOUS,
    REJECTED,
    SIDE,
    UNDECIDED,
    ScoredImagesList,
    ScoredImagesModel,
    scores_text,
)
from diffstudio.ui.tasks import NewestFirstQueue, Tasks
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout
from diffstudio.ui.widgets.wrapping_text import WrappingText

_HIGHEST_RATE = 50.0  # %, upper end of the slider
_LETTERS = 12  # of a filter's name, in the drop-down
_KINDS = (
    (ALL, "All images"),
    (ANOMALOUS, "Called anomalous"),
    (UNDECIDED, "Not decided"),
    (ACCEPTED, "Accepted"),
    (REJECTED, "Rejected"),
)


class DecisionsView(QWidget):
    """A slider for the false-alarm rate above the images; below them details of the selected one, Accept and Reject."""

    message = Signal(str, str)  # kind, text
    menu_requested = Signal(object, object)  # ImageTarget, QPoint
    rate_changed = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self._view: AnomaliesView | None = None
        self._rate = 0.05
        self._tasks, self._reading = Tasks("anomaly-decisions", workers=1), NewestFirstQueue("anomaly-images")
        self.heading, self.save = SectionLabel("Images"), SaveButton("list of images")
        self.rate = LabelledSlider(
            "False-alarm rate",
            0,
            _HIGHEST_RATE,
            5,
            step=0.1,
            decimals=2,
            suffix="%",
            tooltip="The share of normal images that may be called anomalous",
        )
        self.called = WrappingText("", "dim")
        self.called.setAccessibleName("Images called anomalous")
        self.kind = ComboBox("Images to show", _KINDS, "Filter the images by decision")
        keys = {each: each.text() for each in (shortcuts.ACCEPT_IMAGE, shortcuts.REJECT_IMAGE, shortcuts.HEAT_MAPS)}
        self.heat_maps = CheckBox(
            "Heat maps", f"Show where images are unlike normal ones ({keys[shortcuts.HEAT_MAPS]})"
        )
        self.heat_maps.setChecked(True)
        self.model = ScoredImagesModel()
        self.list = ScoredImagesList(self.model)
        self.about = WrappingText("", "dim")
        self.about.setAccessibleName("About the selected image")
        self.accept = SecondaryButton(
            "Accept", "check", f"The selected images are normal ({keys[shortcuts.ACCEPT_IMAGE]})"
        )
        self.reject = SecondaryButton(
            "Reject", "x", f"The selected images are anomalies ({keys[shortcuts.REJECT_IMAGE]})"
        )
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self.heading, 1)
        top.addWidget(self.save)
        self.kind.setMinimumContentsLength(_LETTERS)
        row = FlowLayout(spacing=8)
        for part in (self.kind, self.heat_maps, self.accept, self.reject):
            row.addWidget(part)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(top)
        column.addWidget(self.rate)
        column.addWidget(self.called)
        column.addLayout(row)
        column.addWidget(self.list)
        column.addWidget(self.about)

    def _connect(self) -> None:
        self.rate.value_changed.connect(lambda value: self._set_rate(value / 100))
        self.kind.chosen.connect(self._choose_kind)
        self.heat_maps.toggled.connect(self.model.set_heat_maps)
        self.accept.clicked.connect(partial(self.decide, Decision.ACCEPTED))
        self.reject.clicked.connect(partial(self.decide, Decision.REJECTED))
        self.list.selectionModel().selectionChanged.connect(self._show_selected)
        self.list.menu_requested.connect(self.menu_requested)
        self.save.message.connect(self.message)
        self.model.image_needed.connect(lambda file: self._reading.submit(file, partial(read_image, file, 2 * SIDE)))
        self._reading.completed.connect(lambda file, image: self.model.set_image(file, image or QImage()))
        for shortcut, press in (
            (shortcuts.ACCEPT_IMAGE, self.accept.click),
            (shortcuts.REJECT_IMAGE, self.reject.click),
            (shortcuts.HEAT_MAPS, self.heat_maps.click),
        ):
            for part in (self.list, self.heat_maps, self.accept, self.reject):
                shortcuts.bind(shortcut, part, press)

    def shut_down(self) -> None:
        self._reading.close()
        self._tasks.close()

    def show_view(self, view: AnomaliesView) -> None:
        self._view, self._rate = view, view.result.false_alarm
        self.rate.set_range(view.smallest_percent, max(_HIGHEST_RATE, 100 * self._rate))
        self.rate.set_value(100 * self._rate)
        self.kind.set_value(ALL)
        self.model.set_kind(ALL)
        self.model.set_view(view)
        self.heat_maps.setEnabled(any(image.heat_map for image in view.result.images))
        self.list.setCurrentIndex(self.model.index(0))
        self.save.set_files(self._files(view))
        self._show_called()
        self._show_selected()

    def _files(self, view: AnomaliesView) -> list[SavedFile]:
        return [
            SavedFile("Data (CSV)", "anomalies.csv", lambda: view.csv_at(self._rate, self.model.decisions).encode()),
            SavedFile("Data (JSON)", "anomalies.json", lambda: view.json_at(self._rate, self.model.decisions).encode()),
        ]

    # The false-alarm rate

    def _set_rate(self, rate: float) -> None:
        self._rate = rate
        self.model.set_rate(rate)
        if not self.list.currentIndex().isValid():  # the shown images changed
            self.list.setCurrentIndex(self.model.index(0))
        self._show_called()
        self._show_selected()
        self.rate_changed.emit(rate)

    def _show_called(self) -> None:
        if self._view is not None:
            self.called.set_text(self._view.sentence_at(self._rate))
            decided = len(self.model.decisions)
            self.heading.set_right(f"{decided:,} decided" if decided else "most anomalous first")

    def _choose_kind(self, kind: str) -> None:
        self.model.set_kind(kind)
        self.list.setCurrentIndex(self.model.index(0))
        self._show_selected()

    # Decisions

    def decide(self, decision: Decision) -> None:
        """Accept or reject the selected images and select the next; the same decision again removes it."""
        view, images = self._view, self.list.selected()
        if view is None or not images:
            return
        take_back = all(self.model.decisions.get(image.path) is decision for image in images)
        paths = [image.path for image in images]
        before = {path: self.model.decisions.get(path) for path in paths}
        new = None if take_back else decision
        self._show_decisions(dict.fromkeys(paths, new))
        self._tasks.start(self._store(view, paths, new, before))
        if not take_back and len(paths) == 1:
            self.list.move_on()

    async def _store(
        self,
        view: AnomaliesView,
        paths: Sequence[str],
        decision: Decision | None,
        before: Mapping[str, Decision | None],
    ) -> None:
        unwritten = dict(before)

        def write() -> None:
            for path in paths:
                write_decision(view.job, path, decision)
                del unwritten[path]

        try:
            await self._tasks.to_thread(write)
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
            if self._view is view:
                self._show_decisions(unwritten)

    def _show_decisions(self, decisions: Mapping[str, Decision | None]) -> None:
        self.model.set_decisions(decisions)
        self._show_called()
        self._show_selected()

    def _show_selected(self) -> None:
        images = self.list.selected()
        for button in (self.accept, self.reject):
            button.setEnabled(bool(images))
        match images:
            case []:
                self.about.set_text("No image is selected.")
            case [image]:
                self.about.set_text(self._about(image))
            case _:
                self.about.set_text(f"{len(images):,} images are selected.")

    def _about(self, image: ScoredImage) -> str:
        each = ", ".join(f"{TITLES.get(name, name)} {value:.3f}" for name, value in image.p_values.items())
        return (
            f"{Path(image.path)}: {self.model.status(image)}, {scores_text(image)}. p-value of each detector: {each}."
        )
