"""The ControlNet section: a card for each ControlNet, and previews computed in a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import CONTROLNET_FAMILIES
from diffstudio.models.detection.types import Role
from diffstudio.studio.generation.controlnets import controlnet_misfit
from diffstudio.studio.metadata.named_files import NamedFile
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.requests.choices import ResizeName
from diffstudio.studio.requests.limits import MOST_CONTROLS
from diffstudio.ui.generate.sections.add_buttons import AddButton
from diffstudio.ui.generate.sections.controlnet_card import ControlNetCard
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets import terms
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.dialogs import choose_image
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind, DropTarget, image_paths, takes_image
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage, read_image, unreadable

_MAX_PREVIEW_SIDE = 640  # px
_PREVIEW_DELAY_MS = 60  # after the last change


class ControlNetSection(QWidget):
    """Hidden for checkpoints without ControlNet support; offers the Models room when no ControlNet fits."""

    changed = Signal()
    opened = Signal(object)  # ControlNetCard, to scroll into view
    failed = Signal(str)
    models_room_requested = Signal()
    background_work_requested = Signal(object, object)  # a function for another thread, and a callback for its result

    def __init__(self, size: Callable[[], tuple[int, int]], resize: Callable[[], ResizeName]) -> None:
        super().__init__()
        self._size = size  # (width, height) of the image to generate, px
        self._resize = resize  # how control images are fitted to it
        self._networks: tuple[Checkpoint, ...] = ()
        self._checkpoint: Checkpoint | None = None
        self._computing = self._outdated = False
        self._missing = False
        self.cards: list[ControlNetCard] = []
        self.heading = SectionLabel(terms.CONTROLNET)
        self.add_button = AddButton("Add ControlNet…", terms.CONTROLNET, "path")
        self.add_button.clicked.connect(self._add_pressed)
        for widget in (self, self.add_button):
            DropTarget(widget, self._drop_text, self._take, self.failed.emit)
        self._timer = QTimer(self, singleShot=True, interval=_PREVIEW_DELAY_MS)
        self._timer.timeout.connect(self._request_previews)
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

    def hidden_uses(self) -> tuple[ControlNetUse, ...]:
        """What the cards hold that are hidden because no ControlNet fits the checkpoint: it may fit the next one."""
        return () if self.fitting() else tuple(card.use() for card in self.cards if card.network.value())

    def add_hidden(self, uses: Sequence[ControlNetUse]) -> None:
        """Add cards for what `hidden_uses` returned; images that are gone are left out."""
        known = {network.name for network in self._networks}
        for use in uses:
            if use.network not in known:
                self._say_missing(use.network)
            elif not self.fitting() and not read_image(use.image, 64).isNull():
                self._add(use.image).show_use(use)
        self._update_state()

    def load_from(self, request: GenerateRequest) -> None:
        """Load the ControlNets of a request; `failed` names each image or ControlNet that is missing."""
        for card in list(self.cards):
            self._remove(card)
        names = {network.name: network.name for network in self.fitting()}
        names |= {str(network.path): network.name for network in self.fitting()}
        for use in request.controls:
            if use.network not in names:
                self._say_missing(use.network)
            elif NamedFile.of(use.image) is not None:
                continue  # not found, which the room says
            elif read_image(use.image, 64).isNull():
                why = "cannot be read" if use.image.exists() else "no longer exists"
                self.failed.emit(f"The image {use.image.name} {why}, so its ControlNet is not used.")
            else:
                self._add(use.image).show_use(replace(use, network=names[use.network]))
        self._update_state()
        self.schedule_preview()

    def _say_missing(self, network: str) -> None:
        self.failed.emit(
            f"The ControlNet {Path(network).name} is missing or does not fit this checkpoint, so it is not used."
        )

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
            self.failed.emit(unreadable(path))
            return False
        if not self.fitting() or len(self.cards) >= MOST_CONTROLS:
            return False
        card = self._add(path)
        self._update_state()
        self.schedule_preview()
        self.changed.emit()
        self.opened.emit(card)
        return True

    def choose(self, chosen: Callable[[Path], object]) -> QFileDialog:
        return choose_image(self, "Choose a control image", pictures_folder(), chosen)

    def _add_pressed(self) -> None:
        if self.fitting():
            self.choose(self.add_image)
        else:
            self.models_room_requested.emit()

    def _add(self, path: Path) -> ControlNetCard:
        card = ControlNetCard(path, self.fitting() or self._networks)
        card.changed.connect(self._card_changed)
        card.remove_requested.connect(lambda: self._removed(card))
        card.replace_requested.connect(lambda: self.choose(card.set_image))
        takes_image(card, "Drop to replace the control image", lambda path: self._replace(card, path), self.failed.emit)
        self.cards.append(card)
        self._column.insertWidget(len(self.cards), card)  # below the heading and those before it
        return card

    def _replace(self, card: ControlNetCard, path: Path) -> None:
        if read_image(path, 64).isNull():
            self.failed.emit(unreadable(path))
        else:
            card.set_image(path)

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

    def _drop_text(self, items: Sequence[DroppedItem]) -> str:
        images = any(item.kind is DroppedKind.IMAGE for item in items)
        return "Drop to add a ControlNet with this image" if images and self.fitting() else ""

    def _take(self, items: Sequence[DroppedItem]) -> None:
        for path in image_paths(items):
            if len(self.cards) >= MOST_CONTROLS:
                self.failed.emit(f"{path.name} is not used: {MOST_CONTROLS} ControlNets are the most.")
            else:
                self.add_image(path)

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
                partial(_compute_previews, [use for _, use in requested], self._size(), self._resize()),
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
            ("Add another ControlNet…" if self.cards else "Add ControlNet…") if fitting else "Get ControlNet…",
            "Choose an image whose edges, depth or pose the result follows"
            if fitting
            else "No ControlNet that fits this checkpoint was found. Import one in the Models room",
        )
        button.setVisible(supported and len(self.cards) < MOST_CONTROLS)


def _compute_previews(uses: Sequence[ControlNetUse], size: tuple[int, int], resize: ResizeName) -> list[QImage | str]:
    """The preprocessed image of each ControlNet, or an error message. Runs in another thread."""
    from diffstudio.studio.generation.control_preprocess import control_preview

    previews: list[QImage | str] = []
    for use in uses:
        try:
            previews.append(numpy_to_qimage(control_preview(use, size, resize, _MAX_PREVIEW_SIDE)))
        except (DiffstudioError, OSError) as error:
            previews.append(str(error))
    return previews
