"""A picture dropped on the window: what it says about how it was made."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import PictureRequest, UpscaleRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.images import Thumbnail


class PictureSettingsDialog(QDialog):
    """`use_requested` carries the request when a person wants it in the left column."""

    use_requested = Signal(object)
    start_requested = Signal()  # make another picture from this one
    enlarge_requested = Signal()

    def __init__(self, path: Path, image: QImage, settings: ImageSettings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        request = settings.request
        self.setWindowTitle("Settings of a picture")
        self.resize(600, 480)
        self.setMinimumSize(420, 320)
        describe(self, f"Settings of {path.name}", " ")
        picture = Thumbnail(160, 8, name=path.name)
        picture.set_image(image)
        self.prompt = QPlainTextEdit(request.prompt or "no prompt")
        self.negative = QPlainTextEdit(request.negative)
        for edit, name in ((self.prompt, "Prompt"), (self.negative, "Negative prompt")):
            edit.setReadOnly(True)
            edit.setTabChangesFocus(True)
            describe(edit, name, f"{name} of the picture")
        self.negative.setFixedHeight(56)
        again = isinstance(request, UpscaleRequest)
        self.use_button = PrimaryButton(
            "Enlarge again…" if again else "Use these settings",
            "",
            "Ask for it once more" if again else "Put them into the left column of the Generate room",
        )
        self.start_button = SecondaryButton("Start from this picture", "image", "Change it, paint on it or extend it")
        self.start_button.clicked.connect(self._start)
        self.enlarge_button = SecondaryButton("Enlarge…", "arrows-out", "Make this picture larger")
        self.enlarge_button.clicked.connect(self._enlarge)
        self.close_button = SecondaryButton("Close", "", "Close (Escape)")
        facts = QVBoxLayout()
        facts.setSpacing(4)
        facts.addWidget(ElidedLabel(path.name, bold=True, pixels=15, mode=Qt.TextElideMode.ElideMiddle))
        facts.addWidget(ElidedLabel(f"made with {settings.source}", "dim"))
        facts.addSpacing(8)
        facts.addLayout(_table(request, settings))
        facts.addStretch(1)
        top = QHBoxLayout()
        top.setSpacing(16)
        top.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(facts, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 24, 24, 16)
        column.setSpacing(8)
        column.addLayout(top)
        column.addWidget(SectionLabel("Prompt"))
        column.addWidget(self.prompt, 1)
        if request.negative:
            column.addWidget(SectionLabel("Left out"))
            column.addWidget(self.negative)
        if settings.not_imported:
            left_out = f"Not taken over: {'; '.join(settings.not_imported)}."
            column.addWidget(label(left_out, "warn", pixels=theme.SMALL_PIXELS, wrap=True))
        buttons = QHBoxLayout()
        buttons.addWidget(self.start_button)
        buttons.addWidget(self.enlarge_button)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        buttons.addWidget(self.use_button)
        column.addLayout(buttons)
        self.close_button.clicked.connect(self.reject)
        self.use_button.clicked.connect(self._use)
        self._request = request

    def _start(self) -> None:
        self.start_requested.emit()
        self.accept()

    def _enlarge(self) -> None:
        self.enlarge_requested.emit()
        self.accept()

    def _use(self) -> None:
        self.use_requested.emit(self._request)
        self.accept()


def _table(request: PictureRequest, settings: ImageSettings) -> QGridLayout:
    grid = QGridLayout()
    grid.setHorizontalSpacing(16)
    grid.setVerticalSpacing(4)
    size = f"{settings.width} × {settings.height}" if settings.width and settings.height else "not told"
    rows: tuple[tuple[str, str], ...] = (
        ("Checkpoint", request.checkpoint),
        ("Size", size),
        ("Steps", str(request.steps)),
        ("Sampler", f"{labels.SAMPLERS[request.sampler][0]}, {labels.SPACINGS[request.spacing][0].lower()}"),
        ("Guidance", f"{request.guidance:g}"),
        ("Seed", str(request.seed)),
    )
    if isinstance(request, UpscaleRequest):
        rows = (("Size", size), ("Made by", labels.enlarged_line(request)), ("Made from", request.source.name))
    else:
        rows += tuple(("Guided by", f"{Path(use.network).stem} at {use.scale:g}") for use in request.controls)
        if request.vae:
            rows += (("Autoencoder", Path(request.vae).stem),)
        if request.enlarge > 1:
            rows += (
                (
                    "Enlarged",
                    f"{request.enlarge:g}× by {labels.upscaler(request.upscaler)}, "
                    f"strength {request.enlarge_strength:g}",
                ),
            )
    for row, (name, value) in enumerate(rows):
        grid.addWidget(label(name, "dim", pixels=theme.SMALL_PIXELS), row, 0)
        grid.addWidget(ElidedLabel(value, pixels=theme.SMALL_PIXELS), row, 1)
    grid.setColumnStretch(1, 1)
    return grid
