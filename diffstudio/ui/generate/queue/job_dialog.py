"""The dialog that shows what a waiting job will make: all its settings, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from diffstudio.studio.jobs.job_records import QueuedJob
from diffstudio.studio.requests import GenerateRequest, PictureRequest
from diffstudio.ui.generate import labels
from diffstudio.ui.generate.sections.loaded_settings import OF_HIRES_FIX, OF_INIT_IMAGE, OF_MASK
from diffstudio.ui.widgets import actions, terms, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.dialogs import FittedDialog
from diffstudio.ui.widgets.helpers import ElidedLabel, describe
from diffstudio.ui.widgets.images.thumbnail import Thumbnail
from diffstudio.ui.widgets.wrapping_text import FactsTable

_WIDTH, _THUMB = 560, 112  # px


class JobDialog(FittedDialog):
    """The settings of a waiting job in full. Its buttons close it."""

    edit_requested = Signal()
    duplicate_requested = Signal()
    remove_requested = Signal()

    def __init__(self, queued: QueuedJob, image: QImage, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        request = queued.request
        self.setWindowTitle("Waiting job")
        self.setMinimumWidth(420)
        self.resize(QSize(_WIDTH, 320))
        describe(self, f"Settings of {labels.title_of(request)[:80]}", " ")
        self.thumbnail = Thumbnail(_THUMB, 8, name=actions.CHECKPOINT_IMAGE)
        self.thumbnail.set_image(image)
        self.prompts: list[tuple[str, QPlainTextEdit]] = []
        for name, text, height in ((terms.PROMPT, request.prompt, 84), (terms.NEGATIVE_PROMPT, request.negative, 56)):
            if text:
                edit = QPlainTextEdit(text)
                edit.setReadOnly(True)
                edit.setTabChangesFocus(True)
                edit.setFixedHeight(height)
                describe(edit, name, f"{name} of the job")
                self.prompts.append((name, edit))
        self.facts = FactsTable(112)
        self.facts.show_facts(job_facts(queued))
        self.edit = PrimaryButton(actions.EDIT_JOB, "", actions.EDIT_JOB_TIP)
        self.duplicate = SecondaryButton(actions.DUPLICATE, "copy-simple", actions.DUPLICATE_TIP)
        self.remove = SecondaryButton(actions.REMOVE, "x", actions.REMOVE_JOB)
        self.close_button = SecondaryButton(actions.CLOSE, "", "Close (Escape)")
        self._lay_out(queued)
        for button, signal in (
            (self.edit, self.edit_requested),
            (self.duplicate, self.duplicate_requested),
            (self.remove, self.remove_requested),
        ):
            button.clicked.connect(signal)
            button.clicked.connect(self.accept)
        self.close_button.clicked.connect(self.reject)
        self.close_button.setFocus()

    def _lay_out(self, queued: QueuedJob) -> None:
        head, top, buttons = QVBoxLayout(), QHBoxLayout(), QHBoxLayout()
        head.setSpacing(4)
        head.addWidget(ElidedLabel(labels.title_of(queued.request), bold=True, pixels=15))
        head.addWidget(ElidedLabel(_about(queued), "dim", pixels=theme.SMALL_PIXELS))
        head.addStretch(1)
        top.setSpacing(16)
        if not self.thumbnail.image().isNull():
            top.addWidget(self.thumbnail, 0, Qt.AlignmentFlag.AlignTop)
        else:
            self.thumbnail.setParent(self)
            self.thumbnail.hide()
        top.addLayout(head, 1)
        column = QVBoxLayout()
        column.setContentsMargins(24, 24, 24, 8)
        column.setSpacing(8)
        column.addLayout(top)
        for name, edit in self.prompts:
            column.addWidget(SectionLabel(name))
            column.addWidget(edit)
        column.addWidget(SectionLabel("Settings"))
        column.addWidget(self.facts)
        column.addStretch(1)
        buttons.setSpacing(8)
        buttons.addWidget(self.duplicate)
        buttons.addWidget(self.remove)
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        buttons.addWidget(self.edit)
        self.set_contents(column, buttons)


def _about(queued: QueuedJob) -> str:
    count = labels.image_count(queued.request.count)
    kind = "Upscale" if not isinstance(queued.request, GenerateRequest) else count
    return f"{kind} · {queued.done:,} saved already" if queued.done else kind


def job_facts(queued: QueuedJob) -> list[tuple[str, str]]:
    """Every setting of a waiting job as (name, value): those of all requests, then what differs from the defaults."""
    request: PictureRequest = queued.request
    facts = labels.request_facts(request, request.checkpoint)
    if not isinstance(request, GenerateRequest):
        return facts
    size = (
        f"{request.width} × {request.height} px" if request.width and request.height else "as the checkpoint recommends"
    )
    if request.width is None and request.height is None and request.init is not None:
        size = "that of the init image"
    facts = [("Images", str(request.count)), (terms.SIZE, size), *facts]
    if request.clip_skip is not None:
        facts.append((terms.CLIP_SKIP, str(request.clip_skip)))
    if request.truncation != 1:
        facts.append((terms.TRUNCATION, f"{request.truncation:g}"))
    now, usual = request.to_json(), GenerateRequest().to_json()
    shown = {"strength", "enlarge", "enlarge_strength"}  # by `request_facts`
    names: dict[str, str] = {}
    if request.init is not None:
        names |= OF_INIT_IMAGE
    if request.mask is not None or any(request.outpaint):
        names |= OF_MASK
    if request.enlarge > 1:
        names |= OF_HIRES_FIX
    facts += [
        (name[0].upper() + name[1:], labels.value_text(now[field]))
        for field, name in names.items()
        if field not in shown and now[field] != usual[field]
    ]
    if request.guide_last_call:
        facts.append((terms.GUIDE_LAST_STEP, labels.value_text(True)))
    return facts
