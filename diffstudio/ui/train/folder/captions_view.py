"""Captions of a training folder in the window: searched, read, edited, replaced, and images left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QListView,
    QPlainTextEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from diffstudio.plurals import count_of
from diffstudio.studio.runs.caption_edits import Texts, cleaned_captions, with_added, with_replaced
from diffstudio.training.data.captions.caption_files import MAX_CAPTION_BYTES
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.ui.train.folder.caption_list import (
    ALL,
    LEFT_OUT,
    UNCAPTIONED,
    CaptionDelegate,
    CaptionRow,
    CaptionsModel,
)
from diffstudio.ui.widgets import actions, shortcuts, theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import (
    ElidedLabel,
    describe,
    label,
    leave_focus,
    limit_length,
    plain_button_text,
    reserve_scroll_bar,
    set_tooltip,
    takes_text_only,
)
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.inputs.search_field import SearchField
from diffstudio.ui.widgets.layout.overflow_row import OverflowRow
from diffstudio.ui.widgets.text_size import fix_size

EDITOR_HEIGHT = 64  # px: about three lines
LIST_HEIGHT, LOW_LIST_HEIGHT = 130, 90  # px, at least: two rows, and less in a low window
WHOLE_HEIGHT = 430  # px: below it, one image and all that are listed are edited in turn
ONE, LISTED = "one", "listed"


class CaptionsView(QWidget):
    """The list, an editor for the selected image, and what is done to all images that are listed."""

    edits_requested = Signal(object)  # dict[Path, Texts]: the new captions of images
    leave_out_requested = Signal(object)  # list[Path]: images and folders
    put_back_requested = Signal(object)  # list[Path]
    undo_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._current: CaptionRow | None = None
        self.setObjectName("contents")
        self.model = CaptionsModel()
        self.search = SearchField("Search captions", "Show images whose caption, name or class contains this text")
        self.kind = ComboBox(
            "Which images",
            ((ALL, "All images"), (UNCAPTIONED, "Without caption"), (LEFT_OUT, "Left out")),
            "Which images are listed",
        )
        self.kind.setMinimumContentsLength(8)  # keeps its first choice legible in a narrow window
        self.count = label("", "dim", pixels=theme.SMALL_PIXELS)
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setItemDelegate(CaptionDelegate(self.list))
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setUniformItemSizes(True)
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setMouseTracking(True)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)  # takes what is left
        reserve_scroll_bar(self.list)
        describe(self.list, "Images and their captions")
        set_tooltip(self.list, "")
        self.path = ElidedLabel("", "dim", pixels=theme.SMALL_PIXELS, mode=Qt.TextElideMode.ElideMiddle)
        self.editor = QPlainTextEdit()
        takes_text_only(self.editor)
        self.editor.setTabChangesFocus(True)
        self.editor.setPlaceholderText("Caption; several lines are alternatives")
        fix_size(self.editor, height=EDITOR_HEIGHT)
        describe(self.editor, "Caption", "The caption of the image. Of several lines, one is drawn each time")
        self.save = SecondaryButton("Save", "check", "Write the caption to its file (Ctrl+S)", name="Save caption")
        shortcuts.bind_button(shortcuts.SAVE_CAPTION, self.save)
        self.undo = SecondaryButton("Undo", "arrow-counter-clockwise", "Write the captions from before the last change")
        self.leave_out = SecondaryButton("Leave out", "eye-slash", "Do not train on the selected images")
        self.leave_out_folder = SecondaryButton(
            "Leave out folder", "folder-minus", "Do not train on the image's folder"
        )
        self.find_text = _field("Find", "Text to look for in the captions of the images that are listed")
        self.replacement = _field("Replace with", "Text to put in its place")
        self.replace_all = SecondaryButton(
            "Replace", "", "Replace the text in the captions of all images that are listed"
        )
        self.tag = _field("Add to captions", "Tag or words to put at the end of captions, after a comma")
        self.add_all = SecondaryButton("Add", "", "Add this to the captions of all images that are listed")
        self.edited = ChipRow(
            [(ONE, "Edit one"), (LISTED, "Edit all")],
            name="Captions to edit",
            tooltips=(
                "Edit the caption of the selected image",
                "Replace or add text in the captions of all listed images",
            ),
        )
        self.edited.set_value(ONE)
        self._is_low = False
        self._lay_out()
        self._connect()
        self._show_current()
        self.set_undoable(False)

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.search, 2)
        top.addWidget(self.kind, 1)
        counted = QHBoxLayout()
        counted.setSpacing(8)
        counted.addWidget(self.count)
        counted.addWidget(self.edited, 1)
        self._one, one = QWidget(), QVBoxLayout()
        buttons = (self.save, self.undo, self.leave_out, self.leave_out_folder)
        self._buttons = OverflowRow(buttons, SecondaryButton("", "dots-three", actions.MORE))
        for part in (self.path, self.editor, self._buttons):
            one.addWidget(part)
        self._one.setLayout(one)
        self._all, for_all = QWidget(), QGridLayout()
        for_all.addWidget(self.find_text, 0, 0)
        for_all.addWidget(self.replacement, 0, 1)
        for_all.addWidget(self.replace_all, 0, 2)
        for_all.addWidget(self.tag, 1, 0, 1, 2)
        for_all.addWidget(self.add_all, 1, 2)
        self._all.setLayout(for_all)
        column = QVBoxLayout(self)
        for layout in (one, for_all, column):
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(8)
        column.addLayout(top)
        column.addLayout(counted)
        column.addWidget(self.list, 1)
        column.addWidget(self._one)
        column.addWidget(self._all)
        self._show_parts()

    def set_room(self, height: int) -> None:
        """Fit into so many px: in a low window either the selected image is edited, or all that are listed."""
        is_low = height < theme.scaled(WHOLE_HEIGHT)
        if is_low != self._is_low:
            self._is_low = is_low
            self._show_parts()

    def _show_parts(self, *_: object) -> None:
        shown = self.edited.value()
        self.list.setMinimumHeight(LOW_LIST_HEIGHT if self._is_low else LIST_HEIGHT)
        self._buttons.set_most_rows(1 if self._is_low else 2)
        self.edited.setVisible(self._is_low)
        for part, name in ((self._one, ONE), (self._all, LISTED)):
            visible = not self._is_low or shown == name
            if not visible:
                leave_focus(part, self.list)
            part.setVisible(visible)

    def _connect(self) -> None:
        self.search.searched.connect(self._search)
        self.edited.value_changed.connect(self._show_parts)
        self.kind.chosen.connect(self._search)
        self.list.selectionModel().selectionChanged.connect(self._selection_changed)
        self.model.modelReset.connect(self._show_counts)
        self.save.clicked.connect(self.save_now)
        self.undo.clicked.connect(self.undo_requested)
        self.leave_out.clicked.connect(self._leave_out_or_put_back)
        self.leave_out_folder.clicked.connect(self._leave_out_folder)
        self.replace_all.clicked.connect(self._replace_all)
        self.replacement.returnPressed.connect(self._replace_all)
        self.add_all.clicked.connect(self._add_all)
        self.tag.returnPressed.connect(self._add_all)
        self.editor.textChanged.connect(self._show_buttons)
        for field in (self.find_text, self.tag):
            field.textChanged.connect(self._show_buttons)

    def set_report(self, report: FolderReport) -> None:
        """Show the captions of a folder; the selected image stays selected if it is still there."""
        selected = self._current.path if self._current is not None else None
        typed, cursor, edited = self.editor.toPlainText(), self.editor.textCursor().position(), self._edited()
        self._current = None
        self.model.set_report(report)
        number = self.model.row_of(selected) if selected is not None else -1
        if number >= 0:
            self.list.setCurrentIndex(self.model.index(number))
            if edited or not self._edited_as(typed):  # while the folder was inspected
                self.editor.setPlainText(typed)
                kept = self.editor.textCursor()
                kept.setPosition(cursor)
                self.editor.setTextCursor(kept)
        else:
            self._show_current()

    def set_captions(self, edits: Mapping[Path, Texts]) -> None:
        """Show captions that are being written; what was typed meanwhile stays in the editor."""
        edited = self._edited()
        self.model.set_captions(edits)
        if self._current is None or self._current.path not in edits or self._current.left_out:
            return
        self._current = replace(self._current, captions=edits[self._current.path])
        if edited or not self._edited():
            self._show_buttons()
        else:
            self._show_current()

    def set_undoable(self, undoable: bool) -> None:
        self.undo.setEnabled(undoable)

    def selected(self) -> list[CaptionRow]:
        rows = sorted(index.row() for index in self.list.selectionModel().selectedIndexes())
        return [self.model.shown()[number] for number in rows]

    def save_now(self) -> None:
        """Ask for the caption in the editor to be written, if it was changed."""
        if self._current is not None and self._edited():
            self.edits_requested.emit({self._current.path: self._typed()})

    def _typed(self) -> Texts:
        return _captions(self.editor.toPlainText())

    def _edited(self) -> bool:
        return self._edited_as(self.editor.toPlainText())

    def _edited_as(self, text: str) -> bool:
        return self._current is not None and _captions(text) != self._current.captions

    def _search(self, *_: object) -> None:
        self.save_now()
        self._current = None
        self.model.search(self.search.text(), self.kind.value())
        self._show_current()

    def _selection_changed(self, *_: object) -> None:
        rows = self.selected()
        only = rows[0] if len(rows) == 1 else None
        if only != self._current:
            self.save_now()
            self._current = only
            self._show_current()
        self._show_buttons()

    def _show_current(self) -> None:
        row = self._current
        self.editor.setPlainText(row.text if row is not None else "")
        editable = row is not None and not row.left_out
        self.editor.setEnabled(editable)
        self.path.setText(f"{row.path} · {row.about}" if row is not None else "Select an image to edit its caption")
        self._show_buttons()

    def _show_buttons(self) -> None:
        rows = self.selected()
        left_out = self.kind.value() == LEFT_OUT
        self.save.setEnabled(self._edited())
        self.leave_out.setText("Put back" if left_out else "Leave out")
        self.leave_out.setEnabled(bool(rows))
        parent = self._current.path.parent if self._current is not None else Path()
        self.leave_out_folder.setEnabled(not left_out and parent != Path())
        self.leave_out_folder.setText(plain_button_text(f"Leave out {parent.name or 'folder'}"))
        self.replace_all.setEnabled(bool(self.find_text.text()) and not left_out)
        self.add_all.setEnabled(bool(self.tag.text().strip()) and not left_out)

    def _show_counts(self) -> None:
        shown, total = len(self.model.shown()), self.model.total()
        of_all = f"{shown:,} of {count_of(total, 'image')}" if shown != total else count_of(total, "image")
        self.count.setText(f"{shown:,} left out" if self.kind.value() == LEFT_OUT else of_all)
        self.replace_all.setText(f"Replace in {shown:,}")
        self.add_all.setText(f"Add to {shown:,}")

    def _leave_out_or_put_back(self) -> None:
        self.save_now()
        paths = [row.path for row in self.selected()]
        if self.kind.value() == LEFT_OUT:
            self.put_back_requested.emit(paths)
        elif paths:
            self.leave_out_requested.emit(paths)

    def _leave_out_folder(self) -> None:
        self.save_now()
        if self._current is not None:
            self.leave_out_requested.emit([self._current.path.parent])

    def _replace_all(self) -> None:
        if self.replace_all.isEnabled():
            find, replacement = self.find_text.text(), self.replacement.text()
            self._change(lambda texts: with_replaced(texts, find, replacement) if texts else texts)

    def _add_all(self) -> None:
        if self.add_all.isEnabled():
            tag = self.tag.text()
            self._change(lambda texts: with_added(texts, tag))

    def _change(self, new: Callable[[Texts], Texts]) -> None:
        """Ask for changed captions of all images that are listed, beginning with what is in the editor."""
        self.save_now()
        edits = {row.path: (row.captions, new(row.captions)) for row in self.model.shown()}
        changed = {path: after for path, (before, after) in edits.items() if after != before}
        self._current = None  # what is in the editor is shown anew
        self.list.selectionModel().clearSelection()
        self.edits_requested.emit(changed)


def _captions(text: str) -> Texts:
    return cleaned_captions([text[:MAX_CAPTION_BYTES]])


def _field(placeholder: str, tooltip: str) -> QLineEdit:
    field = QLineEdit()
    field.setPlaceholderText(placeholder)
    limit_length(field, 1000)
    field.setMinimumWidth(60)
    describe(field, placeholder, tooltip)
    return field
