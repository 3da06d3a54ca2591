"""PointField: chooses a point of the latent space by a seed or an image."""

from __future__ import annotations

import secrets
from pathlib import Path

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.studio.evaluations.latents.tasks import LatentPoint
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.widgets.controls import SecondaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import choose_image
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, leave_focus
from diffstudio.ui.widgets.inputs.number_fields import IntegerField

LARGEST_SEED = 2**31 - 1  # of the field


class PointField(QWidget):
    """A seed with a button for a new one; with a VAE, optionally an image instead."""

    changed = Signal()

    def __init__(self, text: str, seed: int) -> None:
        super().__init__()
        self._text, self._image = text, Path()
        self._has_image = False
        self.seed = IntegerField()
        self.seed.setRange(0, LARGEST_SEED)
        self.seed.setValue(seed)
        self.seed.setPrefix("Seed ")
        self.seed.setKeyboardTracking(False)
        describe(self.seed, f"{text}: seed", "The seed of an image, as in Generate")
        self.dice = SecondaryButton("", "dice-five", "New random seed", name=f"{text}: new random seed", role="dim")
        self.choose = SecondaryButton(
            "Image…", "image", "Start from an image instead of a seed", name=f"{text}: choose an image"
        )
        self._name = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.remove = SecondaryButton("", "x", "Go back to the seed", name=f"{text}: go back to the seed", role="dim")
        self.remove.setFixedSize(QSize(26, 26))
        self._seed_row, self._image_row = QWidget(), QWidget()
        for whole, parts in ((self._seed_row, (self.seed, self.dice)), (self._image_row, (self._name, self.remove))):
            row = QHBoxLayout(whole)
            row.setContentsMargins(0, 0, 0, 0)
            row.setSpacing(4)
            row.addWidget(parts[0], 1)
            row.addWidget(parts[1])
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for part in (SectionLabel(text), self._seed_row, self._image_row, self.choose):
            column.addWidget(part)
        describe(self, text, " ")
        self.setFocusProxy(self.seed)
        self.seed.valueChanged.connect(lambda _: self.changed.emit())
        self.dice.clicked.connect(lambda: self.seed.setValue(secrets.randbelow(LARGEST_SEED + 1)))
        self.choose.clicked.connect(lambda: choose_image(self, text, pictures_folder(), self.set_image))
        self.remove.clicked.connect(lambda: self.set_image(None))
        self._show()

    def point(self, amounts: tuple[tuple[int, float], ...] = ()) -> LatentPoint:
        return LatentPoint(self.seed.value(), self.image(), amounts)

    def image(self) -> Path | None:
        return self._image if self._has_image else None

    def set_image(self, image: Path | None) -> None:
        """Use an image; None for the seed."""
        self._image, self._has_image = image or Path(), image is not None
        self._show()
        self.changed.emit()

    def set_takes_images(self, takes: bool) -> None:
        """Set whether the model can encode images; otherwise only a seed can be chosen."""
        self.choose.setVisible(takes)
        if not takes and self._has_image:
            self._has_image = False
            self._show()

    def _show(self) -> None:
        self._name.setText(self._image.name if self._has_image else "")
        if not self._has_image:
            leave_focus(self._image_row, self.seed)
        self._image_row.setVisible(self._has_image)
        self._seed_row.setVisible(not self._has_image)
