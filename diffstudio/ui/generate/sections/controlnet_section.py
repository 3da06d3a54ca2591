"""Pictures that a ControlNet follows: chosen, prepared and looked at as the network will see them, one card for each."""

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
from diffstudio.models.checkpoint import Checkpoint, Role
from diffstudio.models.library.lookup import similar_names
from diffstudio.studio.generation.controlnets import STEERED, cannot_steer
from diffstudio.studio.requests import MOST_CONTROLS, ControlNetUse, GenerateRequest, PreprocessorName, ResizeName
from diffstudio.ui.generate.sections.add_buttons import AddButton
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.drag_and_drop import dropped_paths
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images import IMAGE_FILE_FILTER, fitted, numpy_to_qimage, read_image, rounded
from diffstudio.ui.widgets.inputs import LabelledComboBox, LabelledSlider

PREPARES = [
    (PreprocessorName.AS_GIVEN, "As it is"),
    (PreprocessorName.CANNY, "Edges (Canny)"),
    (PreprocessorName.SCRIBBLE, "Dark lines on white"),
    (PreprocessorName.INVERT, "Inverted"),
]
_GUESSES = (
    ("canny", PreprocessorName.CANNY),
    ("scribble", PreprocessorName.SCRIBBLE),
    ("sketch", PreprocessorName.SCRIBBLE),
)
_SEEN_PIXELS = 148  # high
_LARGEST_SEEN = 640  # px of what is worked out for it
_LOOK_AFTER_MS = 60  # without a change


def usual_prepare(network: str) -> PreprocessorName:
    """What a ControlNet of that name is most likely to want of a photograph or a drawing."""
    return next((prepare for word, prepare in _GUESSES if word in network.casefold()), PreprocessorName.AS_GIVEN)


class Seen(QWidget):
    """What the network sees, whole, with the word for it where there is nothing to see."""

    def __init__(self) -> None:
        super().__init__()
        self._image, self._trouble = QImage(), ""
        self.setFixedHeight(_SEEN_PIXELS)
        describe(self, "What the ControlNet sees", "What the ControlNet sees of the picture")

    def show_image(self, image: QImage, trouble: str = "") -> None:
        self._image, self._trouble = image, trouble
        describe(self, "What the ControlNet sees", trouble or "What the ControlNet sees of the picture")
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
        elif self._trouble:
            painter.setPen(theme.colour("bad"))
            flags = int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap)
            painter.drawText(whole.adjusted(8, 8, -8, -8), flags, self._trouble)


class ControlNetCard(QWidget):
    """One picture and its ControlNet."""

    changed = Signal()  # also: look again at what the network sees
    remove_wanted = Signal()
    picture_wanted = Signal()  # another one

    def __init__(self, path: Path, networks: Sequence[Checkpoint]) -> None:
        super().__init__()
        self.path = path
        self.seen = Seen()
        self.name = ElidedLabel(path.name, mode=Qt.TextElideMode.ElideMiddle)
        self.swap_button = SecondaryButton("", "image", "Choose another picture for it", name="Another picture")
        self.remove_button = SecondaryButton(
            "", "x", "Do not follow this picture", name="Remove the picture", role="dim"
        )
        self.network = LabelledComboBox(
            "ControlNet", (), "The network that reads the picture: those that fit the checkpoint"
        )
        self.prepare = LabelledComboBox(
            "What it is shown",
            PREPARES,
            "What is made of the picture before the network sees it: "
            "depth maps, poses and edges made elsewhere go in as they are",
        )
        self.low = LabelledSlider("Weak edge", 0, 500, 100, tooltip="A slope below this is no edge")
        self.high = LabelledSlider(
            "Strong edge",
            0,
            500,
            200,
            tooltip="A slope above this is an edge; weaker ones count where they go on from one",
        )
        self.scale = LabelledSlider(
            "Strength", 0, 2, 1.0, step=0.05, decimals=2, tooltip="How closely the picture is followed"
        )
        self.begins = LabelledSlider(
            "From", 0, 99, 0, suffix=" %", tooltip="The part of the steps at which it begins to steer"
        )
        self.ends = LabelledSlider(
            "Until",
            1,
            100,
            100,
            suffix=" %",
            tooltip="The part of the steps at which it ends: what comes later is free",
        )
        self._prepare_chosen = False
        self._lay_out()
        self.set_networks(networks)
        self._connect()
        self._follow()

    def use(self) -> ControlNetUse:
        return ControlNetUse(
            self.network.value(),
            self.path,
            self.prepare.value(),
            float(self.scale.value()),
            self.begins.value() / 100,
            self.ends.value() / 100,
            int(self.low.value()),
            int(self.high.value()),
        )

    def show_use(self, use: ControlNetUse) -> None:
        self.network.set_value(use.network)
        self.prepare.set_value(use.prepare)
        self._prepare_chosen = True
        self.scale.set_value(use.scale)
        self.begins.set_value(round(100 * use.begins))
        self.ends.set_value(round(100 * use.ends))
        self.low.set_value(use.low)
        self.high.set_value(use.high)
        self._follow()

    def set_networks(self, networks: Sequence[Checkpoint]) -> None:
        """Those that fit. One that is called much like the one chosen before takes its place where that does not."""
        before, names = self.network.value(), [network.name for network in networks]
        self.network.set_choices([(network.name, network.title) for network in networks])
        if before is not None and before not in names and (near := similar_names(before, names, most=1, cutoff=0.3)):
            self.network.set_value(near[0])
        self._guess()

    def set_picture(self, path: Path) -> None:
        self.path = path
        self.name.setText(path.name)
        self.changed.emit()

    def _guess(self) -> None:
        if not self._prepare_chosen and self.network.value() is not None:
            self.prepare.set_value(usual_prepare(self.network.value()))
        self._follow()

    def _connect(self) -> None:
        def chose_network(_: Any) -> None:
            self._guess()
            self.changed.emit()

        def chose_prepare(_: Any) -> None:
            self._prepare_chosen = True
            self._follow()
            self.changed.emit()

        def keep_apart(lower: LabelledSlider, upper: LabelledSlider, gap: int, moved: LabelledSlider) -> None:
            """The other one gives way."""
            if upper.value() - lower.value() < gap:
                other = upper if moved is lower else lower
                other.set_value(moved.value() + (gap if moved is lower else -gap))
            self.changed.emit()

        self.network.value_changed.connect(chose_network)
        self.prepare.value_changed.connect(chose_prepare)
        self.scale.value_changed.connect(lambda _: self.changed.emit())
        for lower, upper, gap in ((self.low, self.high, 0), (self.begins, self.ends, 1)):
            for moved in (lower, upper):
                moved.value_changed.connect(lambda _, args=(lower, upper, gap, moved): keep_apart(*args))
        self.remove_button.clicked.connect(self.remove_wanted)
        self.swap_button.clicked.connect(self.picture_wanted)

    def _follow(self) -> None:
        for slider in (self.low, self.high):
            slider.setVisible(self.prepare.value() is PreprocessorName.CANNY)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.name, 1)
        row.addWidget(self.swap_button)
        row.addWidget(self.remove_button)
        column.addWidget(self.seen)
        column.addLayout(row)
        for pair in ((self.network,), (self.prepare,), (self.low, self.high), (self.scale,), (self.begins, self.ends)):
            line = QHBoxLayout()
            line.setSpacing(14)
            for part in pair:
                line.addWidget(part, 1)
            column.addLayout(line)


class ControlNetSection(QWidget):
    """Hidden for checkpoints that take no ControlNet; without one that fits it says where they come from."""

    changed = Signal()
    failed = Signal(str)
    models_wanted = Signal()
    beside_wanted = Signal(object, object)  # work for another thread, and who is told what it returned

    def __init__(self, size: Callable[[], tuple[int, int]]) -> None:
        super().__init__()
        self._size = size  # of the picture to be made, in px
        self._networks: tuple[Checkpoint, ...] = ()
        self._checkpoint: Checkpoint | None = None
        self._looking = self._look_again = False
        self._missing = False
        self.cards: list[ControlNetCard] = []
        self.heading = SectionLabel("Guided by")
        self.add_button = AddButton("Guide by a picture…", "Guide", "path")
        self.add_button.clicked.connect(self._add_pressed)
        self.add_button.setAcceptDrops(True)
        self.add_button.installEventFilter(self)  # wherever it is, it takes what the section takes
        self._timer = QTimer(self, singleShot=True, interval=_LOOK_AFTER_MS)
        self._timer.timeout.connect(self._look)
        self.setAcceptDrops(True)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(12)
        self._column.addWidget(self.heading)
        self._column.addWidget(self.add_button)
        self._follow()

    # ---- what it says ------------------------------------------------------------------------------------------------

    def applied(self, request: GenerateRequest) -> GenerateRequest:
        """The request with what is chosen here."""
        return replace(request, controls=self.uses())

    def uses(self) -> tuple[ControlNetUse, ...]:
        return tuple(card.use() for card in self.cards) if self.fitting() else ()

    def use(self, request: GenerateRequest) -> None:
        """Show what a request says; a picture or a network that is gone is left out, and said."""
        for card in list(self.cards):
            self._remove(card)
        names = {network.name: network.name for network in self.fitting()}
        names |= {str(network.path): network.name for network in self.fitting()}
        for use in request.controls:
            if use.network not in names:
                self.failed.emit(
                    f"The ControlNet {Path(use.network).name} is not here for this checkpoint, so it is left out."
                )
            elif read_image(use.image, 64).isNull():
                self.failed.emit(f"The picture {use.image.name} is no longer there, so its ControlNet is left out.")
            else:
                self._add(use.image).show_use(replace(use, network=names[use.network]))
        self._follow()
        self.look_again()

    def networks(self) -> tuple[Checkpoint, ...]:
        """Those that are chosen."""
        chosen = {use.network for use in self.uses()}
        return tuple(network for network in self._networks if network.name in chosen)

    # ---- what there is -----------------------------------------------------------------------------------------------

    def set_models(self, models: Sequence[Checkpoint]) -> None:
        """Of all models there are, the ControlNets."""
        networks = (model for model in models if model.role is Role.CONTROLNET)
        self._networks = tuple(sorted(networks, key=lambda network: network.title.casefold()))
        self._offer()

    def set_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint
        self._offer()

    def fitting(self) -> list[Checkpoint]:
        checkpoint = self._checkpoint
        return [
            network for network in self._networks if checkpoint is not None and not cannot_steer(network, checkpoint)
        ]

    def _offer(self) -> None:
        if fitting := self.fitting():
            for card in self.cards:
                card.set_networks(fitting)
        self._follow()
        self.look_again()

    # ---- what a person does ------------------------------------------------------------------------------------------

    def add_picture(self, path: Path) -> bool:
        """False, and a sentence, when it cannot be read or there are enough."""
        if read_image(path, 64).isNull():
            self.failed.emit(f"{path.name} cannot be read as a picture, so it is not followed.")
            return False
        if not self.fitting() or len(self.cards) >= MOST_CONTROLS:
            return False
        self._add(path)
        self._follow()
        self.look_again()
        self.changed.emit()
        return True

    def choose(self, taken: Callable[[Path], object]) -> QFileDialog:
        dialog = QFileDialog(self, "Guide by a picture", "", IMAGE_FILE_FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda name: taken(Path(name)))
        dialog.open()
        return dialog

    def _add_pressed(self) -> None:
        if self.fitting():
            self.choose(self.add_picture)
        else:
            self.models_wanted.emit()

    def _add(self, path: Path) -> ControlNetCard:
        card = ControlNetCard(path, self.fitting())
        card.changed.connect(self._card_changed)
        card.remove_wanted.connect(lambda: self._removed(card))
        card.picture_wanted.connect(lambda: self.choose(card.set_picture))
        self.cards.append(card)
        self._column.insertWidget(len(self.cards), card)  # below the heading and those before it
        return card

    def _card_changed(self) -> None:
        self.look_again()
        self.changed.emit()

    def _removed(self, card: ControlNetCard) -> None:
        self._remove(card)
        self._follow()
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
            self.add_picture(path)
        event.acceptProposedAction()

    # ---- looking through the networks' eyes --------------------------------------------------------------------------

    def look_again(self) -> None:
        """Soon: the size, the picture or what is made of it is another."""
        if self.cards:
            self._timer.start()

    def _look(self) -> None:
        if self._looking:
            self._look_again = True
            return
        asked = [(card, card.use()) for card in self.cards] if self.fitting() else []
        if asked:
            self._looking = True
            self.beside_wanted.emit(
                partial(_seen, [use for _, use in asked], self._size()),
                lambda seen: self._show([card for card, _ in asked], seen),
            )

    def _show(self, cards: list[ControlNetCard], seen: list[QImage | str]) -> None:
        for card, image in zip(cards, seen, strict=True):
            if card in self.cards:
                card.seen.show_image(*((QImage(), image) if isinstance(image, str) else (image, "")))
        self._looking = False
        if self._look_again:
            self._look_again = False
            self.look_again()

    def _follow(self) -> None:
        taken = self._checkpoint is not None and self._checkpoint.family in STEERED
        fitting = bool(self.fitting())
        self.setVisible(taken and (bool(self.cards) or self.isAncestorOf(self.add_button)))
        self.heading.setVisible(bool(self.cards) and fitting)
        for card in self.cards:
            card.setVisible(fitting)
        button = self.add_button
        button.set_texts(
            ("Guide by another picture…" if self.cards else "Guide by a picture…") if fitting else "Get a ControlNet…",
            "Choose a picture whose edges, depth or lines are followed"
            if fitting
            else "To be guided by a picture takes a ControlNet that fits this checkpoint, and there is none here: "
            "bring one into Models",
        )
        button.setVisible(taken and len(self.cards) < MOST_CONTROLS)


def _seen(uses: Sequence[ControlNetUse], size: tuple[int, int]) -> list[QImage | str]:
    """What each network sees, or why it cannot be shown. For another thread."""
    from diffstudio.studio.generation.control_preprocess import shown_small

    seen: list[QImage | str] = []
    for use in uses:
        try:
            seen.append(numpy_to_qimage(shown_small(use, size, ResizeName.CROP, _LARGEST_SEEN)))
        except (DiffstudioError, OSError) as error:
            seen.append(str(error))
    return seen
