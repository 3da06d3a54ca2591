"""The ControlNet section: one card for each control image, with a preview of the preprocessed image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from PySide6.QtCore import QEvent, QObject, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.library.lookup import similar_names
from diffstudio.studio.generation.controlnets import CONTROLNET_FAMILIES, controlnet_misfit
from diffstudio.studio.requests import MOST_CONTROLS, ControlNetUse, GenerateRequest, PreprocessorName, ResizeName
from diffstudio.ui.generate.sections.add_buttons import AddButton
from diffstudio.ui.widgets import terms, theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.drag_and_drop import dropped_paths
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images import IMAGE_FILE_FILTER, fitted, numpy_to_qimage, read_image, rounded
from diffstudio.ui.widgets.inputs import LabelledComboBox, LabelledSlider

PREPROCESSORS = [
    (PreprocessorName.AS_GIVEN, "None (already a map)"),
    (PreprocessorName.CANNY, "Canny edges"),
    (PreprocessorName.SCRIBBLE, "Scribble (dark lines on white)"),
    (PreprocessorName.INVERT, "Invert"),
]
_DEFAULT_PREPROCESSORS = (
    ("canny", PreprocessorName.CANNY),
    ("scribble", PreprocessorName.SCRIBBLE),
    ("sketch", PreprocessorName.SCRIBBLE),
)
_PREVIEW_HEIGHT = 148  # px
_MAX_PREVIEW_SIDE = 640  # px
_PREVIEW_DELAY_MS = 60  # after the last change


def default_preprocessor(network: str) -> PreprocessorName:
    """The preprocessor that a ControlNet of this name most likely needs."""
    return next(
        (preprocessor for word, preprocessor in _DEFAULT_PREPROCESSORS if word in network.casefold()),
        PreprocessorName.AS_GIVEN,
    )


class ControlNetPreview(QWidget):
    """The preprocessed image that the ControlNet receives, or the error that prevents it."""

    def __init__(self) -> None:
        super().__init__()
        self._image, self._error = QImage(), ""
        self.setFixedHeight(_PREVIEW_HEIGHT)
        describe(self, "ControlNet preview", "The preprocessed image that the ControlNet receives")

    def show_image(self, image: QImage, error: str = "") -> None:
        self._image, self._error = image, error
        describe(self, "ControlNet preview", error or "The preprocessed image that the ControlNet receives")
        self.update()

    def image(self) -> QImage:
        return self._image

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        whole = QRectF(self.rect())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("raised"))
        painter.drawRoundedRect(whole, theme.RADIUS, theme.RADIUS)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if not self._image.isNull():
            rounded(painter, self._image, fitted(self._image.size(), whole.adjusted(4, 4, -4, -4)), 4)
        elif self._error:
            painter.setPen(theme.colour("bad"))
            flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
            painter.drawText(whole.adjusted(8, 8, -8, -8), flags, self._error)


class ControlNetCard(QWidget):
    """One control image and its ControlNet."""

    changed = Signal()  # the preview is out of date too
    remove_requested = Signal()
    replace_requested = Signal()  # choose another image

    def __init__(self, path: Path, networks: Sequence[Checkpoint]) -> None:
        super().__init__()
        self.path = path
        self.preview = ControlNetPreview()
        self.name = ElidedLabel(path.name, mode=Qt.TextElideMode.ElideMiddle)
        self.swap_button = SecondaryButton("", "image", "Choose another control image", name="Replace image")
        self.remove_button = SecondaryButton("", "x", "Remove this ControlNet", name="Remove ControlNet", role="dim")
        self.network = LabelledComboBox(
            terms.CONTROLNET, (), "The ControlNet model: those that fit the checkpoint are listed"
        )
        self.preprocessor = LabelledComboBox(
            "Preprocessor",
            PREPROCESSORS,
            "How the image is converted for the ControlNet. Choose None for depth maps, poses and edges made elsewhere",
        )
        self.low = LabelledSlider(
            "Canny low", 0, 500, 100, tooltip="Canny low threshold: gradients below it are not edges"
        )
        self.high = LabelledSlider(
            "Canny high",
            0,
            500,
            200,
            tooltip="Canny high threshold: gradients above it are edges; weaker ones count when connected to an edge",
        )
        self.scale = LabelledSlider(
            "Conditioning scale",
            0,
            2,
            1.0,
            step=0.05,
            decimals=2,
            tooltip="How strongly the ControlNet acts (control weight)",
        )
        self.start = LabelledSlider(
            "Start", 0, 99, 0, suffix=" %", tooltip="The fraction of the steps at which the ControlNet starts"
        )
        self.end = LabelledSlider(
            "End", 1, 100, 100, suffix=" %", tooltip="The fraction of the steps at which the ControlNet ends"
        )
        self._preprocessor_chosen = False
        self._lay_out()
        self.set_networks(networks)
        self._connect()
        self._update_state()

    def use(self) -> ControlNetUse:
        return ControlNetUse(
            self.network.value(),
            self.path,
            self.preprocessor.value(),
            float(self.scale.value()),
            self.start.value() / 100,
            self.end.value() / 100,
            int(self.low.value()),
            int(self.high.value()),
        )

    def show_use(self, use: ControlNetUse) -> None:
        self.network.set_value(use.network)
        self.preprocessor.set_value(use.prepare)
        self._preprocessor_chosen = True
        self.scale.set_value(use.scale)
        self.start.set_value(round(100 * use.begins))
        self.end.set_value(round(100 * use.ends))
        self.low.set_value(use.low)
        self.high.set_value(use.high)
        self._update_state()

    def set_networks(self, networks: Sequence[Checkpoint]) -> None:
        """Offer the ControlNets that fit. One with a similar name replaces a choice that no longer fits."""
        before, names = self.network.value(), [network.name for network in networks]
        self.network.set_choices([(network.name, network.title) for network in networks])
        if before is not None and before not in names and (near := similar_names(before, names, most=1, cutoff=0.3)):
            self.network.set_value(near[0])
        self._set_default_preprocessor()

    def set_image(self, path: Path) -> None:
        self.path = path
        self.name.setText(path.name)
        self.changed.emit()

    def _set_default_preprocessor(self) -> None:
        if not self._preprocessor_chosen and self.network.value() is not None:
            self.preprocessor.set_value(default_preprocessor(self.network.value()))
        self._update_state()

    def _connect(self) -> None:
        def chose_network(_: Any) -> None:
            self._set_default_preprocessor()
            self.changed.emit()

        def chose_preprocessor(_: Any) -> None:
            self._preprocessor_chosen = True
            self._update_state()
            self.changed.emit()

        def keep_apart(lower: LabelledSlider, upper: LabelledSlider, gap: int, moved: LabelledSlider) -> None:
            """Move the other slider along."""
            if upper.value() - lower.value() < gap:
                other = upper if moved is lower else lower
                other.set_value(moved.value() + (gap if moved is lower else -gap))
            self.changed.emit()

        self.network.value_changed.connect(chose_network)
        self.preprocessor.value_changed.connect(chose_preprocessor)
        self.scale.value_changed.connect(lambda _: self.changed.emit())
        for lower, upper, gap in ((self.low, self.high, 0), (self.start, self.end, 1)):
            for moved in (lower, upper):
                moved.value_changed.connect(lambda _, args=(lower, upper, gap, moved): keep_apart(*args))
        self.remove_button.clicked.connect(self.remove_requested)
        self.swap_button.clicked.connect(self.replace_requested)

    def _update_state(self) -> None:
        for slider in (self.low, self.high):
            slider.setVisible(self.preprocessor.value() is PreprocessorName.CANNY)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.name, 1)
        row.addWidget(self.swap_button)
        row.addWidget(self.remove_button)
        column.addWidget(self.preview)
        column.addLayout(row)
        for pair in (
            (self.network,),
            (self.preprocessor,),
            (self.low, self.high),
            (self.scale,),
            (self.start, self.end),
        ):
            line = QHBoxLayout()
            line.setSpacing(14)
            for part in pair:
                line.addWidget(part, 1)
            column.addLayout(line)


class ControlNetSection(QWidget):
    """Hidden for checkpoints without ControlNet support; offers the Models room when no ControlNet fits."""

    changed = Signal()
    failed = Signal(str)
    models_room_requested = Signal()
    background_work_requested = Signal(object, object)  # a function for another thread, and a callback for its result

    def __init__(self, size: Callable[[], tuple[int, int]]) -> None:
        super().__init__()
        self._size = size  # (width, height) of the image to generate, px
        self._networks: tuple[Checkpoint, ...] = ()
        self._checkpoint: Checkpoint | None = None
        self._computing = self._outdated = False
        self._missing = False
        self.cards: list[ControlNetCard] = []
        self.heading = SectionLabel(terms.CONTROLNET)
        self.add_button = AddButton("Add ControlNet…", terms.CONTROLNET, "path")
        self.add_button.clicked.connect(self._add_pressed)
        self.add_button.setAcceptDrops(True)
        self.add_button.installEventFilter(self)  # it accepts the same drops as the section
        self._timer = QTimer(self, singleShot=True, interval=_PREVIEW_DELAY_MS)
        self._timer.timeout.connect(self._request_previews)
        self.setAcceptDrops(True)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(12)
        self._column.addWidget(self.heading)
        self._column.addWidget(self.add_button)
        self._update_state()

    # Request

    def apply_to(self, request: GenerateRequest) -> GenerateRequest:
        """The request with the ControlNets chosen here."""
        return replace(request, controls=self.uses())

    def uses(self) -> tuple[ControlNetUse, ...]:
        return tuple(card.use() for card in self.cards) if self.fitting() else ()

    def load_from(self, request: GenerateRequest) -> None:
        """Load the ControlNets of a request; `failed` names each image or ControlNet that is missing."""
        for card in list(self.cards):
            self._remove(card)
        names = {network.name: network.name for network in self.fitting()}
        names |= {str(network.path): network.name for network in self.fitting()}
        for use in request.controls:
            if use.network not in names:
                self.failed.emit(
                    f"The ControlNet {Path(use.network).name} is missing or does not fit this checkpoint, so it is not used."
                )
            elif read_image(use.image, 64).isNull():
                self.failed.emit(f"The image {use.image.name} no longer exists, so its ControlNet is not used.")
            else:
                self._add(use.image).show_use(replace(use, network=names[use.network]))
        self._update_state()
        self.schedule_preview()

    def networks(self) -> tuple[Checkpoint, ...]:
        """The ControlNets that are chosen."""
        chosen = {use.network for use in self.uses()}
        return tuple(network for network in self._networks if network.name in chosen)

    # Models

    def set_models(self, models: Sequence[Checkpoint]) -> None:
        """Take the ControlNets out of all models."""
        networks = (model for model in models if model.role is Role.CONTROLNET)
        self._networks = tuple(sorted(networks, key=lambda network: network.title.casefold()))
        self._update_choices()

    def set_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint
        self._update_choices()

    def fitting(self) -> list[Checkpoint]:
        checkpoint = self._checkpoint
        return [
            network
            for network in self._networks
            if checkpoint is not None and not controlnet_misfit(network, checkpoint)
        ]

    def _update_choices(self) -> None:
        if fitting := self.fitting():
            for card in self.cards:
                card.set_networks(fitting)
        self._update_state()
        self.schedule_preview()

    # User input

    def add_image(self, path: Path) -> bool:
        """Add a control image; False when it cannot be read (`failed` says why) or there are too many."""
        if read_image(path, 64).isNull():
            self.failed.emit(f"{path.name} cannot be read as an image.")
            return False
        if not self.fitting() or len(self.cards) >= MOST_CONTROLS:
            return False
        self._add(path)
        self._update_state()
        self.schedule_preview()
        self.changed.emit()
        return True

    def choose(self, chosen: Callable[[Path], object]) -> QFileDialog:
        dialog = QFileDialog(self, "Choose a control image", "", IMAGE_FILE_FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda name: chosen(Path(name)))
        dialog.open()
        return dialog

    def _add_pressed(self) -> None:
        if self.fitting():
            self.choose(self.add_image)
        else:
            self.models_room_requested.emit()

    def _add(self, path: Path) -> ControlNetCard:
        card = ControlNetCard(path, self.fitting())
        card.changed.connect(self._card_changed)
        card.remove_requested.connect(lambda: self._removed(card))
        card.replace_requested.connect(lambda: self.choose(card.set_image))
        self.cards.append(card)
        self._column.insertWidget(len(self.cards), card)  # below the heading and those before it
        return card

    def _card_changed(self) -> None:
        self.schedule_preview()
        self.changed.emit()

    def _removed(self, card: ControlNetCard) -> None:
        self._remove(card)
        self._update_state()
        self.changed.emit()
        self.add_button.setFocus()

    def _remove(self, card: ControlNetCard) -> None:
        self.cards.remove(card)
        self._column.removeWidget(card)
        card.hide()
        card.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if watched is self.add_button and isinstance(event, QDropEvent):
            if event.type() is QEvent.Type.DragEnter:
                self.dragEnterEvent(cast(QDragEnterEvent, event))
            elif event.type() is QEvent.Type.Drop:
                self.dropEvent(event)
            return event.type() in (QEvent.Type.DragEnter, QEvent.Type.Drop)
        return super().eventFilter(watched, event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if self.fitting() and any(path.is_file() for path in dropped_paths(event.mimeData())):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        for path in dropped_paths(event.mimeData()):
            self.add_image(path)
        event.acceptProposedAction()

    # Preview

    def schedule_preview(self) -> None:
        """Recompute the previews soon: the size, an image or a preprocessor has changed."""
        if self.cards:
            self._timer.start()

    def _request_previews(self) -> None:
        if self._computing:
            self._outdated = True
            return
        requested = [(card, card.use()) for card in self.cards] if self.fitting() else []
        if requested:
            self._computing = True
            self.background_work_requested.emit(
                partial(_compute_previews, [use for _, use in requested], self._size()),
                lambda previews: self._show([card for card, _ in requested], previews),
            )

    def _show(self, cards: list[ControlNetCard], previews: list[QImage | str]) -> None:
        for card, image in zip(cards, previews, strict=True):
            if card in self.cards:
                card.preview.show_image(*((QImage(), image) if isinstance(image, str) else (image, "")))
        self._computing = False
        if self._outdated:
            self._outdated = False
            self.schedule_preview()

    def _update_state(self) -> None:
        supported = self._checkpoint is not None and self._checkpoint.family in CONTROLNET_FAMILIES
        fitting = bool(self.fitting())
        self.setVisible(supported and (bool(self.cards) or self.isAncestorOf(self.add_button)))
        self.heading.setVisible(bool(self.cards) and fitting)
        for card in self.cards:
            card.setVisible(fitting)
        button = self.add_button
        button.set_texts(
            ("Add another ControlNet…" if self.cards else "Add ControlNet…") if fitting else "Get a ControlNet…",
            "Choose an image whose edges, depth or pose the result follows"
            if fitting
            else "No ControlNet that fits this checkpoint was found. Import one in the Models room",
        )
        button.setVisible(supported and len(self.cards) < MOST_CONTROLS)


def _compute_previews(uses: Sequence[ControlNetUse], size: tuple[int, int]) -> list[QImage | str]:
    """The preprocessed image of each ControlNet, or an error message. Runs in another thread."""
    from diffstudio.studio.generation.control_preprocess import shown_small

    previews: list[QImage | str] = []
    for use in uses:
        try:
            previews.append(numpy_to_qimage(shown_small(use, size, ResizeName.CROP, _MAX_PREVIEW_SIDE)))
        except (DiffstudioError, OSError) as error:
            previews.append(str(error))
    return previews
