"""The bars above the gallery: search, filters, order and thumbnail size; and, in the trash, what can be done there."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from diffstudio.studio.gallery.search import GalleryQuery, Period, SortOrder
from diffstudio.studio.gallery.view_state import LARGEST_CELL, SMALLEST_CELL, USUAL_CELL
from diffstudio.ui.gallery.image_view import BACK_TIP
from diffstudio.ui.widgets import actions
from diffstudio.ui.widgets.controls import Chip, SecondaryButton
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.inputs.search_field import SearchField
from diffstudio.ui.widgets.inputs.sliders import Slider

ORDERS = [
    (SortOrder.NEWEST, "Newest first"),
    (SortOrder.OLDEST, "Oldest first"),
    (SortOrder.STARRED, "Starred first"),
    (SortOrder.PROMPT, "Prompt, A to Z"),
    (SortOrder.CHECKPOINT, "Checkpoint, A to Z"),
    (SortOrder.SEED, "Seed, lowest first"),
    (SortOrder.PIXELS, "Largest image first"),
    (SortOrder.BYTES, "Largest file first"),
]
PERIODS = [
    (Period.ANY, "Any date"),
    (Period.TODAY, "Today"),
    (Period.WEEK, "Last 7 days"),
    (Period.MONTH, "Last 30 days"),
    (Period.YEAR, "Last 365 days"),
]
SHORT = {  # where the room is narrow
    "Newest first": "Newest",
    "Oldest first": "Oldest",
    "Starred first": "Starred",
    "Prompt, A to Z": "Prompt",
    "Checkpoint, A to Z": "Checkpoint",
    "Seed, lowest first": "Seed",
    "Largest image first": "Image size",
    "Largest file first": "File size",
    "Last 7 days": "7 days",
    "Last 30 days": "30 days",
    "Last 365 days": "365 days",
}
SEARCH_HELP = (
    "Words are looked for in the prompts and the checkpoint's name. Search also by seed:42, sampler:euler, lora:name, "
    "checkpoint:name, tag:name, size:512x768 or date:2026-11; a minus excludes, as in -tag:draft, and quotes hold words "
    'together, as in lora:"my style"'
)


class TopBar(QWidget):
    """Emits `changed` when the query changes, `cell_changed` with the size of a thumbnail and its gap in px."""

    changed = Signal()
    cell_changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.search = SearchField("Search prompts, seed:42, tag:…", f"{SEARCH_HELP} (Ctrl+F)")
        self.search.setMaximumWidth(480)
        self.starred = Chip(actions.STARRED, tooltip="Show starred images only", icon="star")
        self.period = ComboBox(
            "Date", PERIODS, "Show images of this time only; for another one search for date:2026-11"
        )
        self.order = ComboBox("Sort", ORDERS, "The order of the images")
        self.cell = Slider()
        self.cell.setRange(SMALLEST_CELL, LARGEST_CELL)
        self.cell.setValue(USUAL_CELL)
        self.cell.setMinimumWidth(56)
        self.cell.setMaximumWidth(96)
        describe(self.cell, "Thumbnail size")
        self.count_label = label("", "dim")
        self.trash = SecondaryButton("", "trash", "Images in the gallery's trash", name="Trash")
        self.rescan_button = SecondaryButton(
            "", "arrows-clockwise", "Rescan the folder for images added or removed by other programs", name="Rescan"
        )
        above, below = QHBoxLayout(), QHBoxLayout()
        for row in (above, below):
            row.setSpacing(8)
        above.addWidget(self.search, 4)
        above.addStretch(1)
        for part in (self.count_label, self.trash, self.rescan_button):
            above.addWidget(part)
        below.addWidget(self.starred)
        for combo in (self.period, self.order):
            combo.set_short_texts(SHORT)
            combo.setMinimumWidth(80)
            combo.setMaximumWidth(172)
            combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            below.addWidget(combo, 1)
        below.addStretch(0)  # what the lists do not need
        below.addWidget(self.cell)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 12, 16, 4)
        column.setSpacing(8)
        column.addLayout(above)
        column.addLayout(below)
        self.search.searched.connect(self.changed)
        self.starred.clicked.connect(self.search.search_now)
        self.period.chosen.connect(lambda _: self.search.search_now())
        self.order.chosen.connect(lambda _: self.search.search_now())
        self.cell.valueChanged.connect(lambda cell: self.cell_changed.emit(cell))

    def query(self) -> GalleryQuery:
        return GalleryQuery(self.search.text(), self.starred.isChecked(), self.order.value(), self.period.value())

    def show_query(self, query: GalleryQuery) -> None:
        """Show what is searched for. `changed` is not emitted."""
        self.search.blockSignals(True)
        self.search.setText(query.search)
        self.search.blockSignals(False)
        self.starred.setChecked(query.starred)
        self.period.set_value(query.period)
        self.order.set_value(query.order)

    def clear(self) -> None:
        """Show no filter; the order stays. `changed` is not emitted."""
        self.show_query(GalleryQuery(order=self.order.value()))


class TrashBar(QWidget):
    """Above the images in the trash."""

    back_requested = Signal()
    restore_requested = Signal()
    purge_requested = Signal()
    empty_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.back = SecondaryButton("", "arrow-left", BACK_TIP, name="Gallery")
        self.heading = ElidedLabel("Trash", bold=True)
        self.restore = SecondaryButton(actions.RESTORE, "arrow-counter-clockwise", actions.RESTORE_TIP)
        self.purge = SecondaryButton("", "trash", actions.PURGE_TIP, name=actions.PURGE)
        self.empty = SecondaryButton(actions.EMPTY_TRASH, "", "Move everything here to the system trash")
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 12, 16, 4)
        row.setSpacing(8)
        row.addWidget(self.back)
        row.addWidget(self.heading, 1, Qt.AlignmentFlag.AlignVCenter)
        for button, signal in (
            (self.back, self.back_requested),
            (self.restore, self.restore_requested),
            (self.purge, self.purge_requested),
            (self.empty, self.empty_requested),
        ):
            button.clicked.connect(signal)
        for button in (self.restore, self.purge, self.empty):
            row.addWidget(button)
        self.show_counts(0, 0)

    def show_counts(self, total: int, chosen: int) -> None:
        self.heading.setText(f"Trash: {total:,} image{'' if total == 1 else 's'}")
        for button in (self.restore, self.purge):
            button.setEnabled(chosen > 0)
        self.empty.setEnabled(total > 0)
