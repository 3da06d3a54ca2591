"""What a checkpoint is, how it was trained, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint, Origin, Role
from diffstudio.models.hashes import short
from diffstudio.studio.annotations import Annotation
from diffstudio.ui import theme
from diffstudio.ui.basics import scroll_area
from diffstudio.ui.controls import Elided, FlowLayout, PrimaryButton, QuietButton, SectionLabel, Thumb
from diffstudio.ui.gallery.passage import Facts, Passage
from diffstudio.ui.models import facts
from diffstudio.ui.models.model import Entry, Problem
from diffstudio.ui.models.notes import NotesEditor

WIDEST = 640            # px of text: longer lines are hard to read


class CheckpointDetails(QWidget):
    """The right side of the Models room."""

    generate_wanted = Signal()
    star_wanted = Signal()
    folder_wanted = Signal()
    delete_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._entry: Entry | None = None
        self._hash = ""
        self.picture = Thumb(128, theme.RADIUS, name="A picture made with this checkpoint")
        self.title = Elided("", pixels=18, bold=True)
        self.below = Elided("", "dim")
        self.about = Passage(pixels=theme.FONT_PIXELS)
        self.model_facts, self.training_facts = Facts(96), Facts(96)
        self._training_title = SectionLabel("Training")
        self._model_title = SectionLabel("Checkpoint")
        self.generate = PrimaryButton("Generate with this", tooltip="Choose this checkpoint in the Generate room")
        self.notes = NotesEditor()
        self.star = QuietButton("Star", "star", "Keep this model among the starred (Ctrl+D)")
        self.star.clicked.connect(self.star_wanted)
        self.folder = QuietButton("Show in folder", "folder-open", "Open the folder this file is in")
        self.delete = QuietButton("Delete", "trash", "Move this file to the system's trash")
        self.generate.clicked.connect(self.generate_wanted)
        self.folder.clicked.connect(self.folder_wanted)
        self.delete.clicked.connect(self.delete_wanted)

        head = QHBoxLayout()
        head.setSpacing(16)
        head.addWidget(self.picture, 0, Qt.AlignmentFlag.AlignTop)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self.title)
        words.addWidget(self.below)
        words.addSpacing(8)
        buttons = FlowLayout(spacing=8)
        buttons.addWidget(self.star)
        buttons.addWidget(self.folder)
        buttons.addWidget(self.delete)
        words.addWidget(self.generate, 0, Qt.AlignmentFlag.AlignLeft)
        words.addSpacing(4)
        words.addLayout(buttons)
        words.addStretch(1)
        head.addLayout(words, 1)
        contents = QWidget()
        contents.setObjectName("contents")
        contents.setMaximumWidth(WIDEST)
        column = QVBoxLayout(contents)
        column.setContentsMargins(24, 20, 20, 20)
        column.setSpacing(8)
        column.addLayout(head)
        column.addSpacing(8)
        column.addWidget(self.about)
        column.addSpacing(8)
        for part in (self.notes, self._model_title, self.model_facts, self._training_title, self.training_facts):
            if part in (self._model_title, self._training_title):
                column.addSpacing(8)
            column.addWidget(part)
        column.addStretch(1)
        scroll = scroll_area(contents)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scroll)
        self._scroll = scroll

    def entry(self) -> Entry | None:
        return self._entry

    def show_said(self, said: Annotation) -> None:
        """What a person noted about the entry."""
        self.notes.show_said(said)
        self.star.setText("Starred" if said.favourite else "Star")
        self.star.set_icon(*(("star-fill", "warn") if said.favourite else ("star", "text")))

    def show_hash(self, sha256: str) -> None:
        """Of the entry's file, with the short form other programs name it by; empty while it is not known."""
        self._hash = sha256
        self._show_facts()

    def show_entry(self, entry: Entry | None, picture: QImage) -> None:
        """A checkpoint, or a file that is none and why."""
        if entry is not self._entry:
            self._hash = ""
            self._scroll.verticalScrollBar().setValue(0)
        self._entry = entry
        self.setVisible(entry is not None)
        if entry is None:
            return
        self.picture.setVisible(not picture.isNull())
        self.picture.set_image(picture)
        checkpoint = entry if isinstance(entry, Checkpoint) else None
        if checkpoint is not None:
            self.title.setText(checkpoint.title)
            self.below.setText(facts.summary(checkpoint))
            about = facts.description(checkpoint)
            if checkpoint.role is Role.UNKNOWN:
                about = "This program does not know this kind of file and cannot make pictures with it."
            self.about.set_text(about)
        elif not isinstance(entry, Checkpoint):
            self.title.setText(entry.path.name)
            self.below.setText("This file cannot be used")
            self.about.set_text(str(entry.error))
        self._show_facts()
        training = facts.training_facts(checkpoint) if checkpoint else []
        self.training_facts.show_facts(training)
        self._training_title.setVisible(bool(training))
        self._model_title.set_text("Checkpoint" if checkpoint else "File")
        self.about.setVisible(bool(self.about.text()))
        self.generate.setVisible(checkpoint is not None and facts.usable(checkpoint))
        self.delete.setVisible(checkpoint is None or checkpoint.origin is not Origin.STARTER)

    def _show_facts(self) -> None:
        match self._entry:
            case Checkpoint() as checkpoint:
                hashes = [("AutoV2", short(self._hash)), ("SHA-256", self._hash)] if self._hash else []
                self.model_facts.show_facts(facts.model_facts(checkpoint) + hashes)
            case Problem(path=path):
                self.model_facts.show_facts([("File", str(path))])
