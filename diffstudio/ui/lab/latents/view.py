"""LatentSpaceView: explores the latent space of a VAE or GAN interactively."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QStackedWidget, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import GAN, VAE
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.latents.tasks import LatentImages, ShowLatents
from diffstudio.studio.jobs.live_tasks import LiveTasks
from diffstudio.studio.requests.limits import MOST_TRUNCATION
from diffstudio.ui.lab.latents.direction_sliders import DirectionSliders
from diffstudio.ui.lab.latents.point_field import PointField
from diffstudio.ui.lab.live_answers import LiveAnswers
from diffstudio.ui.lab.page import InteractiveView
from diffstudio.ui.lab.results.image_row import ImageRow
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.controls import EmptyState, ProgressLine
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, describe, label, scroll_area, takes_text_only
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DropTarget, dropped_image
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider

TITLE = "Latent space"
SHOWS = (
    "Explores the latent space of a VAE or GAN: its principal directions, interpolation between two images, and the "
    "reconstruction of any image by a VAE."
)
_CONTROLS_WIDTH, _IMAGE, _SMALL = 264, 184, 88  # px
_LARGEST_IMAGE, _LARGEST_SMALL = 288, 128  # px
_PATIENCE_MS = 300  # before the progress line appears
_OF_THE_IMAGE = "The class of the image"
_NO_DIRECTIONS = "A GAN cannot encode images, so it has no directions and no reconstructions."


class LatentSpaceView(InteractiveView):
    shown = Signal(object)  # LatentImages, after they were shown

    def __init__(self) -> None:
        super().__init__()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._asked = False
        self.answers = LiveAnswers("latent-space", self)
        self.model = LabelledComboBox("Model", (), "A VAE or GAN that was trained here")
        self.kind = LabelledComboBox("Class", (), _OF_THE_IMAGE)
        self.prompt = QLineEdit()
        takes_text_only(self.prompt)
        self.prompt.setPlaceholderText("Prompt")
        describe(self.prompt, terms.PROMPT, _OF_THE_IMAGE)
        self.truncation = LabelledSlider(
            terms.TRUNCATION,
            0,
            MOST_TRUNCATION,
            1,
            step=0.05,
            decimals=2,
            tooltip="Truncation psi of a GAN, temperature of a VAE: below 1, images of seeds are more typical",
        )
        self.first, self.last = PointField("Image", 1), PointField("Other end", 2)
        self.directions = DirectionSliders()
        self.about = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.points = ImageRow("Image of this point", _IMAGE, _LARGEST_IMAGE)
        self.between = ImageRow("From the image to the other end", _SMALL, _LARGEST_SMALL)
        self.line = ProgressLine("Computing the images")
        self.problem = label("", "bad", wrap=True)
        self._empty = EmptyState(
            "cube",
            "No VAE or GAN was trained here yet",
            "Train one in the Train room: choose VAE or GAN as the kind of model.",
        )
        self._patience = QTimer(self, singleShot=True, interval=_PATIENCE_MS)
        self._lay_out()
        self._connect()

    def use(self, live: LiveTasks) -> None:
        self.answers.use(live)

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        found = [one for one in checkpoints if one.family in (VAE, GAN) and one.can_generate]
        self._checkpoints = {str(one.path): one for one in found}
        before = self.path_now(self.model.value(), self._checkpoints)
        self.model.set_choices([(key, one.name) for key, one in self._checkpoints.items()])
        kept = before is not None and self.model.set_value(before)
        self._stack.setCurrentIndex(0 if found else 1)
        if not kept:
            self._show_model()

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        return self._text_over(items, "Drop to reconstruct the image")

    def take(self, items: Sequence[DroppedItem]) -> None:
        self._use(self.first, items)

    def _text_over(self, items: Sequence[DroppedItem], text: str) -> str:
        return text if self._is_vae() and dropped_image(items) is not None else ""

    def _use(self, point: PointField, items: Sequence[DroppedItem]) -> None:
        item = dropped_image(items)
        if item is not None and item.path is not None:
            point.set_image(item.path)

    def shut_down(self) -> None:
        self.answers.close()

    # Layout and connections

    def _lay_out(self) -> None:
        controls = QWidget()
        controls.setObjectName("contents")
        left = QVBoxLayout(controls)
        left.setContentsMargins(24, 4, 16 - SCROLL_BAR_WIDTH, 16)
        left.setSpacing(12)
        for part in (self.model, self.kind, self.prompt, self.first, self.last, self.truncation, self.directions):
            left.addWidget(part)
        left.addStretch(1)
        images = QWidget()
        images.setObjectName("contents")
        right = QVBoxLayout(images)
        right.setContentsMargins(8, 4, 24 - SCROLL_BAR_WIDTH, 16)
        right.setSpacing(12)
        for shown in (self.problem, self.points, self.between, self.about):
            right.addWidget(shown)
        right.addStretch(1)
        left_area = scroll_area(controls)
        left_area.setFixedWidth(theme.scaled(_CONTROLS_WIDTH))
        row = QHBoxLayout()
        row.setSpacing(0)
        row.addWidget(left_area)
        row.addWidget(scroll_area(images), 1)
        top = QVBoxLayout()
        top.setContentsMargins(24, 20, 24, 8)
        top.setSpacing(12)
        top.addWidget(label(TITLE, pixels=18, bold=True))
        top.addWidget(label(SHOWS, "dim", wrap=True))
        top.addWidget(self.line)
        page = QWidget()
        row.setContentsMargins(0, 0, 0, 0)
        page.setLayout(row)
        self._stack = QStackedWidget()
        self._stack.addWidget(page)
        self._stack.addWidget(self._empty)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addLayout(top)
        whole.addWidget(self._stack, 1)
        keep = self.line.sizePolicy()
        keep.setRetainSizeWhenHidden(True)  # nothing moves when it appears
        self.line.setSizePolicy(keep)
        self.line.hide()
        self.problem.hide()
        describe(self, TITLE, " ")
        self.setFocusProxy(self.model)

    def _connect(self) -> None:
        DropTarget(
            self.last,
            lambda items: self._text_over(items, "Drop to use this image as the other end"),
            lambda items: self._use(self.last, items),
            lambda why: self.message.emit("bad", why),
        )
        self.model.value_changed.connect(lambda _: self._show_model())
        self.prompt.textChanged.connect(lambda _: self._ask())
        for control in (self.kind, self.truncation):
            control.value_changed.connect(lambda _: self._ask())
        for part in (self.first, self.last, self.directions):
            part.changed.connect(self._ask)
        for row in (self.points, self.between):
            row.menu_requested.connect(self.menu_requested)
        self.answers.answered.connect(self._answered)
        self.answers.failed.connect(self._failed)
        self.answers.busy_changed.connect(self._set_busy)
        self._patience.timeout.connect(self.line.show)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._asked:
            self._ask()

    # Requests and answers

    def _is_vae(self) -> bool:
        checkpoint = self._checkpoints.get(self.model.value())
        return checkpoint is not None and checkpoint.family == VAE

    def _conditioning(self) -> Conditioning:
        checkpoint = self._checkpoints.get(self.model.value())
        return checkpoint.conditioning if checkpoint is not None else Conditioning.NONE

    def _prompt(self) -> str:
        match self._conditioning():
            case Conditioning.CLASS:
                return str(self.kind.value() or "")
            case Conditioning.TEXT:
                return self.prompt.text()
            case Conditioning.NONE:
                return ""

    def _show_model(self) -> None:
        """Show the controls that the chosen model supports: classes or a prompt, images, directions."""
        checkpoint = self._checkpoints.get(self.model.value())
        kind = self._conditioning()
        classes = checkpoint.classes if checkpoint is not None and kind is Conditioning.CLASS else ()
        self.kind.set_choices([(name, name) for name in classes])
        self.kind.setVisible(bool(classes))
        self.prompt.setVisible(kind is Conditioning.TEXT)
        for field in (self.first, self.last):
            field.set_takes_images(self._is_vae())
        self.directions.set_count(0)
        self.about.setText("" if self._is_vae() else _NO_DIRECTIONS)
        self._ask()

    def _ask(self) -> None:
        path = self.model.value()
        if path not in self._checkpoints:
            self.answers.cancel()
            return
        self._asked = self.isVisible()
        if not self._asked:  # when it is shown
            return
        amounts = self.directions.amounts() if self._is_vae() else ()
        self.answers.ask(
            ShowLatents(
                path, self._prompt(), float(self.truncation.value()), self.first.point(amounts), self.last.point()
            )
        )

    def _answered(self, task: ShowLatents, found: LatentImages) -> None:
        self.problem.hide()
        points = [("Image", found.image)]
        if found.original is not None and found.reconstruction is not None:
            points = [("Original", found.original), ("Reconstruction", found.reconstruction)]
            points += [("Moved", found.image)] if task.first.amounts else []
        self.points.show_images(points)
        last = len(found.between) - 1
        self.between.show_images([(f"{place / last:.0%}", image) for place, image in enumerate(found.between)])
        if self._is_vae():
            self.directions.set_count(found.directions)
            self.about.setText(
                "" if found.directions else "This checkpoint has no directions: it was saved before they were computed."
            )
        self.shown.emit(found)

    def _failed(self, why: str) -> None:
        self.problem.setText(why)
        self.problem.show()
        for row in (self.points, self.between):
            row.show_images(())

    def _set_busy(self, busy: bool) -> None:
        if busy:
            self._patience.start()
        else:
            self._patience.stop()
            self.line.hide()
