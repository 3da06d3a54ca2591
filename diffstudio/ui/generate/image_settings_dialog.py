"""The dialog for an image dropped on the window: the settings it was generated with."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QDialog, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import UpscaleRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import actions, terms, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import resize_within_screen
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, ElidedLabel, describe, label, scroll_area
from diffstudio.ui.widgets.images.pasted_images import name_of
from diffstudio.ui.widgets.images.thumbnail import Thumbnail
from diffstudio.ui.widgets.text_size import fix_size
from diffstudio.ui.widgets.wrapping_text import FactsTable

_WIDTH, _MAX_HEIGHT = 600, 680  # px


class ImageSettingsDialog(QDialog):
    """`use_requested` carries the request that is to be loaded into the Generate room, and what the image leaves open."""

    use_requested = Signal(object, object)  # PictureRequest, Gaps
    start_requested = Signal()  # img2img
    upscale_requested = Signal()

    def __init__(self, path: Path, image: QImage, settings: ImageSettings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        request = settings.request
        self.setWindowTitle("Image settings")
        self.setMinimumSize(420, 320)
        describe(self, f"Settings of {name_of(path)}", " ")
        thumbnail = Thumbnail(160, 8, name=name_of(path))
        thumbnail.set_image(image)
        self.prompt = QPlainTextEdit(request.prompt or "No prompt")
        self.negative = QPlainTextEdit(request.negative)
        for edit, name in ((self.prompt, terms.PROMPT), (self.negative, terms.NEGATIVE_PROMPT)):
            edit.setReadOnly(True)
            edit.setTabChangesFocus(True)
            describe(edit, name, f"{name} of the image")
        fix_size(self.prompt, height=84)
        fix_size(self.negative, height=56)
        self.facts = FactsTable(96)
        self.facts.show_facts(_rows(settings))
        again = isinstance(request, UpscaleRequest)
        self.use_button = PrimaryButton(
            "Upscale again…" if again else actions.USE_SETTINGS,
            "",
            "Upscale the same source again" if again else actions.USE_SETTINGS_TIP,
        )
        self.start_button = SecondaryButton(actions.START_FROM_IMAGE, "image", actions.START_FROM_IMAGE_TIP)
        self.start_button.clicked.connect(self._start)
        self.upscale_button = SecondaryButton(actions.UPSCALE, "arrows-out", "Make this image larger")
        self.upscale_button.clicked.connect(self._upscale)
        self.close_button = SecondaryButton(actions.CLOSE, "", "Close (Escape)")
        self._lay_out(thumbnail, name_of(path), settings)
        self.close_button.clicked.connect(self.reject)
        self.use_button.clicked.connect(self._use)
        self._settings = settings

    def _lay_out(self, thumbnail: Thumbnail, name: str, settings: ImageSettings) -> None:
        facts = QVBoxLayout()
        facts.setSpacing(4)
        facts.addWidget(ElidedLabel(name, bold=True, pixels=16, mode=Qt.TextElideMode.ElideMiddle))
        facts.addWidget(ElidedLabel(f"Made with {settings.source}", "dim"))
        facts.addSpacing(8)
        facts.addWidget(self.facts)
        facts.addStretch(1)
        top = QHBoxLayout()
        top.setSpacing(16)
        top.addWidget(thumbnail, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(facts, 1)
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(24, 24, 24 - SCROLL_BAR_WIDTH, 8)
        column.setSpacing(8)
        column.addLayout(top)
        column.addWidget(SectionLabel(terms.PROMPT))
        column.addWidget(self.prompt)
        if settings.request.negative:
            column.addWidget(SectionLabel(terms.NEGATIVE_PROMPT))
        column.addWidget(self.negative)
        self.negative.setVisible(bool(settings.request.negative))
        if settings.not_imported:
            not_imported = f"Not imported: {'; '.join(settings.not_imported)}."
            column.addWidget(label(not_imported, "warn", pixels=theme.SMALL_PIXELS, wrap=True))
        column.addStretch(1)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(24, 8, 24, 16)
        buttons.setSpacing(8)
        buttons.addWidget(self.start_button)
        buttons.addWidget(self.upscale_button)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        buttons.addWidget(self.use_button)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(scroll_area(contents), 1)
        whole.addLayout(buttons)
        resize_within_screen(self, _WIDTH, min(contents.sizeHint().height() + buttons.sizeHint().height(), _MAX_HEIGHT))

    def _start(self) -> None:
        self.start_requested.emit()
        self.accept()

    def _upscale(self) -> None:
        self.upscale_requested.emit()
        self.accept()

    def _use(self) -> None:
        self.use_requested.emit(self._settings.request, self._settings.gaps)
        self.accept()


def _rows(settings: ImageSettings) -> list[tuple[str, str]]:
    size = f"{settings.width} × {settings.height} px" if settings.width and settings.height else "unknown"
    return [(terms.SIZE, size), *labels.request_facts(settings.request, settings.request.checkpoint, settings.not_held)]
