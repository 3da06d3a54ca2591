"""The right column of the gallery: the prompt and settings of an image, and its actions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.plurals import count_of
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.gallery.sidecar import LONGEST_NOTE
from diffstudio.studio.metadata import metadata
from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.ui.gallery.item_model import date_text, missing_text
from diffstudio.ui.gallery.tag_editor import TagEditor
from diffstudio.ui.generate.labels import request_facts
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets import actions, terms, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.formatting import device_text
from diffstudio.ui.widgets.helpers import SCROLL_BAR_WIDTH, label, scroll_area, set_tooltip
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout
from diffstudio.ui.widgets.note_field import NoteField
from diffstudio.ui.widgets.wrapping_text import FactsTable, WrappingText

WIDTH = 304
_DELETE_TIP = "Move to the gallery's trash (Delete). This can be undone"


class Details(QFrame):
    """Shows the settings of the selected image."""

    use_settings_requested = Signal()
    copy_requested = Signal()
    save_requested = Signal()
    folder_requested = Signal()
    delete_requested = Signal()
    star_requested = Signal()
    upscale_requested = Signal()
    compare_requested = Signal()
    restore_requested = Signal()
    note_changed = Signal(object, str)  # GalleryImage, its new note

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self._tasks = tasks
        self._reading: asyncio.Task[None] | None = None
        self.setObjectName("panel")
        self.setProperty("side", "right")
        self._image: GalleryImage | None = None
        self._settings: ImageSettings | None = None
        self.prompt, self.negative = WrappingText(pixels=theme.FONT_PIXELS), WrappingText(tone="dim")
        self.prompt.setAccessibleName(terms.PROMPT)
        self.negative.setAccessibleName(terms.NEGATIVE_PROMPT)
        self._prompt_title, self._negative_title = SectionLabel(terms.PROMPT), SectionLabel(terms.NEGATIVE_PROMPT)
        self.facts = FactsTable()
        self.not_imported = WrappingText(tone="warn")
        self.placeholder, self.missing = label("", "dim", wrap=True), WrappingText(tone="warn")
        self._note_title = SectionLabel("Note")
        self.note = NoteField(
            "What is good about it, what to try next…", "Your note on this image. Its file is not changed", LONGEST_NOTE
        )
        self.note.edited.connect(self._save_note)
        self._tags_title, self.tags = SectionLabel("Tags"), TagEditor()
        self.use_settings = PrimaryButton(actions.USE_SETTINGS, tooltip=f"{actions.USE_SETTINGS_TIP} (Ctrl+U)")
        self.upscale = SecondaryButton(actions.UPSCALE, "arrows-out", actions.UPSCALE_TIP, name="Upscale")
        self.star = SecondaryButton(actions.STAR, "star", "Star this image (Ctrl+D)")
        self.compare = SecondaryButton(actions.COMPARE_WITH, "columns", actions.COMPARE_TIP)
        self.restore = SecondaryButton(actions.RESTORE, "arrow-counter-clockwise", actions.RESTORE_TIP)
        self.copy = SecondaryButton(actions.COPY_IMAGE, "copy", actions.COPY_IMAGE_TIP)
        self.save = SecondaryButton(actions.SAVE_AS, "floppy-disk", actions.SAVE_AS_TIP)
        self.folder = SecondaryButton(actions.SHOW_IN_FOLDER, "folder-open", actions.SHOW_IN_FOLDER_TIP)
        self.delete = SecondaryButton(actions.DELETE, "trash", _DELETE_TIP)
        self._lay_out()
        self.show_image(None)
        self.show_tags((), chosen=0, trash=False)

    def _lay_out(self) -> None:
        contents = QWidget()
        contents.setObjectName("contents")
        column = QVBoxLayout(contents)
        column.setContentsMargins(16, 16, 16 - SCROLL_BAR_WIDTH, 16)
        column.setSpacing(8)
        for part in (
            self._prompt_title,
            self.prompt,
            self._negative_title,
            self.negative,
            SectionLabel("Settings"),
            self.placeholder,
            self.missing,
            self.facts,
            self.not_imported,
            self._tags_title,
            self.tags,
            self._note_title,
            self.note,
        ):
            if isinstance(part, SectionLabel) and part is not self._prompt_title:
                column.addSpacing(8)
            column.addWidget(part)
        column.addStretch(1)
        self._scroll = scroll_area(contents)

        self._buttons = QWidget()
        below = QVBoxLayout(self._buttons)
        below.setContentsMargins(16, 8, 16, 16)
        below.setSpacing(8)
        below.addWidget(self.use_settings)
        flow = FlowLayout(spacing=8)
        for button, signal in (
            (self.star, self.star_requested),
            (self.upscale, self.upscale_requested),
            (self.restore, self.restore_requested),
            (self.compare, self.compare_requested),
            (self.delete, self.delete_requested),
            (self.copy, self.copy_requested),
            (self.save, self.save_requested),
            (self.folder, self.folder_requested),
        ):
            flow.addWidget(button)
            button.clicked.connect(signal)
        below.addLayout(flow)
        self.use_settings.clicked.connect(self.use_settings_requested)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self._scroll, 1)
        whole.addWidget(self._buttons)

    def show_image(self, image: GalleryImage | None, chosen: int = 0, *, trash: bool = False) -> None:
        """Show the settings of an image; for None, the actions for `chosen` selected images.

        `trash`: those that are selected are in the trash.
        """
        before = self._image
        if before is not None and (image is None or image.id != before.id):
            self.note.save()  # of the image before
        file_settings = self._settings if image and before and image.path == before.path else None
        self._image, self._settings = image, None
        self._show_prompts(image, chosen)
        self.missing.set_text(missing_text(image) if image is not None and image.missing else "")
        self.missing.setVisible(image is not None and image.missing)
        self.facts.show_facts(_rows(image) if image else [])
        self._show_note(image, before, trash=trash)
        self._show_buttons(image, chosen, trash=trash)
        if file_settings is not None:
            self.show_file(file_settings)
        else:
            self._scroll.verticalScrollBar().setValue(0)
        if image is not None and image != before:
            if self._reading is not None:
                self._reading.cancel()
            self._reading = self._tasks.start(self._read(image))

    def _show_prompts(self, image: GalleryImage | None, chosen: int) -> None:
        request = image.request if image else None
        self._prompt_title.setVisible(request is not None)
        self.prompt.setVisible(request is not None)
        self._negative_title.setVisible(bool(request and request.negative))
        self.negative.setVisible(bool(request and request.negative))
        self.prompt.set_text((request.prompt or "No prompt") if request else "")
        self.negative.set_text(request.negative if request else "")
        self.not_imported.hide()
        if image is None:
            self.placeholder.setText(
                "Select an image to see its settings." if chosen == 0 else f"{count_of(chosen, 'image')} selected."
            )
        elif request is None:
            self.placeholder.setText(
                "The settings of this image cannot be read by this version of diffstudio."
                if image.request_json
                else "This image has no settings."
            )
        self.placeholder.setVisible(image is None or request is None)
        self.use_settings.setVisible(request is not None)

    def _show_buttons(self, image: GalleryImage | None, chosen: int, *, trash: bool) -> None:
        self.upscale.setVisible(image is not None and not trash)
        for button in (self.save, self.folder):
            button.setVisible(image is not None)
        self.compare.setVisible(chosen in (1, 2) and not trash)
        self.compare.setText(actions.COMPARE if chosen == 2 else actions.COMPARE_WITH)
        self.restore.setVisible(trash)
        self.star.setVisible(not trash)
        self._buttons.setVisible(image is not None or chosen > 0)
        self.copy.setText(actions.COPY_IMAGE if chosen < 2 else actions.COPY_FILES)
        delete = actions.PURGE if trash else actions.DELETE
        self.delete.setText(delete if chosen < 2 or trash else f"{delete} {chosen:,}")
        set_tooltip(self.delete, actions.PURGE_TIP if trash else _DELETE_TIP)
        starred = image is not None and image.starred
        self.star.setText(actions.STARRED if starred else actions.STAR)
        self.star.set_icon(*(("star-fill", "warn") if starred else ("star", "text")))

    def show_tags(self, tags: Sequence[str], *, chosen: int, trash: bool) -> None:
        """Show the tags that all selected images have."""
        for part in (self._tags_title, self.tags):
            part.setVisible(chosen > 0 and (not trash or bool(tags)))
        self._tags_title.set_right(f"of all {chosen:,}" if chosen > 1 else "")
        self.tags.show_tags(tags, editable=not trash)

    def _show_note(self, image: GalleryImage | None, before: GalleryImage | None, *, trash: bool) -> None:
        self._note_title.setVisible(image is not None)
        self.note.setVisible(image is not None)
        self.note.setReadOnly(image is None or image.missing or trash)
        typing = image is not None and before is not None and image.id == before.id and self.note.has_edits()
        if not typing:
            self.note.show_text(image.note if image is not None else "")

    def _save_note(self, text: str) -> None:
        if self._image is not None:
            self.note_changed.emit(self._image, text)

    async def _read(self, image: GalleryImage) -> None:
        try:
            settings = await self._tasks.to_thread(metadata.read, image.path)
        except (DiffstudioError, OSError):
            return  # the gallery's record is shown already
        if self._image is not None and self._image.path == image.path:
            self.show_file(settings)

    def show_file(self, settings: ImageSettings) -> None:
        """Show what only the file contains: its program and device, and the settings that were not imported."""
        image = self._image
        if image is None:
            return
        self._settings = settings
        environment = settings.environment
        parts = (device_text(str(environment.get("device") or "")), str(environment.get("dtype") or ""))
        device = " · ".join(part for part in parts if part)
        version = f" {environment['version']}" if environment.get("version") else ""
        self.facts.show_facts(
            [*_rows(image, settings.not_held), ("Computed on", device), ("Program", f"{settings.source}{version}")]
        )
        if settings.not_imported:
            self.not_imported.set_text("Not imported: " + "; ".join(settings.not_imported) + ".")
            self.not_imported.show()


def _rows(image: GalleryImage, not_held: Collection[str] = ()) -> list[tuple[str, str]]:
    settings = request_facts(image.request, image.checkpoint, not_held) if image.request is not None else []
    size = (terms.SIZE, f"{image.width} × {image.height} px")
    deleted = [("Deleted", date_text(image.trashed))] if image.trashed is not None else []
    return [size, *settings, ("Created", date_text(image.created)), *deleted, ("File", image.name)]
