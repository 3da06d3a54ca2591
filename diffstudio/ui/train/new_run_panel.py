"""The left column before a run: which pictures, which recipe, how long; and the button that starts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage, QKeySequence, QShortcut
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.studio.runs.runs import LONGEST_NAME
from diffstudio.training.data.inspect_folder import FolderReport
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import AUTO, RecipeChoice, choose_recipe, named_recipes
from diffstudio.ui.train.duration_slider import DurationSlider
from diffstudio.ui.train.recipe_options import (
    CHANGES,
    DEFAULT_MINUTES,
    FLIPS,
    MINUTES,
    NOISE_LEVELS,
    OPTIMISERS,
    SHIFTS,
    SIZES,
    TURNS,
    Options,
    estimate,
)
from diffstudio.ui.widgets import theme
from diffstudio.ui.widgets.controls import Card, PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import ElidedLabel, describe, label, scroll_area
from diffstudio.ui.widgets.images import Thumbnail
from diffstudio.ui.widgets.inputs import ChipRow, ComboBox, LabelledComboBox

PANEL_WIDTHS = 288, 328  # px, in a narrow window and in a wide one
CARD_THUMBS = 6
THUMB_SIDE = 34  # px


@dataclass(frozen=True, slots=True)
class StartChoice:
    """What a person asked for when pressing Start."""

    folder: Path
    chosen: RecipeChoice  # with the person's changes
    minutes: float
    name: str  # of the run; empty: after the folder

    @property
    def recipe(self) -> Recipe:
        return self.chosen.recipe


class FolderCard(Card):
    """A folder of pictures in a few lines: where, what, a row of them, what is wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.path = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.sentence = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.thumbs = [Thumbnail(THUMB_SIDE, name=f"Image {number + 1} of the folder") for number in range(CARD_THUMBS)]
        row = QHBoxLayout()
        row.setSpacing(6)
        for thumb in self.thumbs:
            row.addWidget(thumb)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(8)
        column.addWidget(self.path)
        column.addWidget(self.sentence)
        column.addLayout(row)
        self.column = column
        self.set_thumbs(())

    def set_thumbs(self, images: Sequence[QImage]) -> None:
        for index, thumb in enumerate(self.thumbs):
            thumb.setVisible(index < len(images))
            thumb.set_image(images[index] if index < len(images) else None)

    def show_folder(self, folder: Path, sentence: str) -> None:
        self.path.setText(short_path(folder))
        describe(self, f"Folder {folder}", str(folder))
        self.sentence.setText(sentence)
        self.sentence.setVisible(bool(sentence))


class NewRunPanel(QWidget):
    """Shows a form once there is a report; until then the choice of a folder."""

    folder_requested = Signal()
    start_requested = Signal(object)  # StartChoice
    recipe_changed = Signal(object)  # Recipe: another throughput may be known

    def __init__(self) -> None:
        super().__init__()
        self._report: FolderReport | None = None
        self._base: RecipeChoice | None = None
        self._accelerator = False
        self._images_per_second: float | None = None
        self.card = FolderCard()
        self.choose = SecondaryButton(
            "Another folder…", "folder-open", "Choose another folder of images to train on (Ctrl+O)"
        )
        self.recipe = ComboBox("Recipe", (), "Network and training settings")
        self.why = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.minutes = DurationSlider(
            "Training time", MINUTES, DEFAULT_MINUTES, "How long to train. You can stop at any time"
        )
        self.side = LabelledComboBox(
            "Size",
            [(size, f"{size} px") for size in SIZES],
            "Image size of the model. Twice the side trains about four times as slowly",
        )
        self.optimiser = LabelledComboBox("Optimiser", OPTIMISERS, "The algorithm that updates the weights")
        self.noise = LabelledComboBox("Noise levels", NOISE_LEVELS, "Distribution of noise levels in training")
        self.changes = ChipRow(
            [(FLIPS, "Flips"), (TURNS, "Rotation"), (SHIFTS, "Shifts")],
            exclusive=False,
            name="Augmentation",
            tooltips=(
                "Mirror some images: more variety, but wrong for text",
                "Rotate images by a few degrees. The network is conditioned on it, so generated images stay upright",
                "Shift images a little. The network is conditioned on it, so generated images stay centred",
            ),
        )
        self.enlarging = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.estimate = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.run_name = QLineEdit()
        self.run_name.setMaxLength(LONGEST_NAME)
        describe(self.run_name, "Run name", "Name of the run and its checkpoint")
        self.start = PrimaryButton(
            "Start training", "Ctrl+Enter", "Start training in a process of its own (Ctrl+Enter)"
        )
        self.none = label("No folder chosen yet.", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        for combo in (self.recipe, self.side.combo, self.optimiser.combo, self.noise.combo):
            combo.setStyleSheet("QComboBox { padding-right: 0; }")  # half a column is narrow
        self._form = QWidget()
        self._lay_out()
        self._connect()
        self.set_report(None)

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(12)
        grid.addWidget(self.minutes, 0, 0, 1, 2)
        grid.addWidget(self.side, 1, 0)
        grid.addWidget(self.optimiser, 1, 1)
        grid.addWidget(self.noise, 2, 0)
        name = QVBoxLayout()
        name.setSpacing(4)
        name.addWidget(label("Name"))
        name.addWidget(self.run_name)
        grid.addLayout(name, 2, 1)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        form = QVBoxLayout(self._form)
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(12)
        form.addWidget(SectionLabel("Recipe"))
        form.addWidget(self.recipe)
        form.addWidget(self.why)
        form.addLayout(grid)
        form.addWidget(self.changes)
        form.addWidget(self.enlarging)
        form.addWidget(self.estimate)
        self.column = scrolled_column(self)
        self.column.addWidget(SectionLabel("Images"))
        self.column.addWidget(self.none)
        self.column.addWidget(self.card)
        self.column.addWidget(self.choose)
        self.column.addWidget(self._form)
        self.column.addStretch(1)
        bottom = QVBoxLayout()
        bottom.setContentsMargins(16, 8, 16, 16)
        bottom.addWidget(self.start)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.addLayout(bottom)

    def _connect(self) -> None:
        self.choose.clicked.connect(self.folder_requested)
        self.start.clicked.connect(self._press_start)
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(self.start.click)
        self.recipe.chosen.connect(self._take_recipe)
        for part in (self.side, self.optimiser, self.noise, self.changes):
            part.value_changed.connect(self._changed)
        self.minutes.value_changed.connect(self._take_minutes)

    def set_accelerator(self, there_is_one: bool) -> None:
        """What `auto` and the texts reckon with."""
        self._accelerator = there_is_one
        self._take_recipe()

    def set_report(self, report: FolderReport | None) -> None:
        """What the inspection found; None takes the form away. RunProblem when the named recipes cannot be read."""
        self._report = report
        if report is not None:
            self.recipe.set_choices(
                [(AUTO, "Automatic"), *((name, recipe.name) for name, recipe in named_recipes().items())]
            )
            self.card.show_folder(report.folder, report.sentence())
            self.run_name.setPlaceholderText(report.folder.resolve().name[:LONGEST_NAME])
            self._take_recipe()
        self._show_form()

    def set_thumbs(self, images: Sequence[QImage]) -> None:
        self.card.set_thumbs(images[:CARD_THUMBS])

    def set_images_per_second(self, measured: float | None) -> None:
        self._images_per_second = measured
        self._say_estimate()

    def choice(self) -> StartChoice | None:
        """What Start would ask for; None while there is nothing to start with."""
        if self._report is None or self._base is None:
            return None
        recipe = self.options().applied_to(self._base.recipe)
        choice = replace(self._base, recipe=recipe)
        return StartChoice(self._report.folder, choice, self.minutes.value(), self.run_name.text().strip())

    def options(self) -> Options:
        return Options(
            self.side.value(),
            self.optimiser.value(),
            self.noise.value(),
            tuple(change for change in CHANGES if change in self.changes.value()),
        )

    def _take_recipe(self, *_: object) -> None:
        """Show what the chosen recipe says."""
        if self._report is None:
            return
        self._base = choose_recipe(
            self.recipe.value(), self._report, accelerator=self._accelerator, minutes=self.minutes.value()
        )
        recipe = self._base.recipe
        options = Options.of(recipe)
        self.side.set_choices([(size, f"{size} px") for size in sorted({*SIZES, options.size})])
        self.side.set_value(options.size)
        self.optimiser.set_value(options.optimiser)
        self.noise.set_value(options.noise_levels)
        self.changes.set_value(options.changes)
        automatic = self.recipe.value() == AUTO
        self.why.setText(f"{recipe.name}. {self._base.why}" if automatic else f"{recipe.description} {self._base.why}")
        self._changed()

    def _take_minutes(self, *_: object) -> None:
        """Another recipe may suit another time; what a person changed stays unless it does."""
        if self._report is not None and self.recipe.value() == AUTO and self._base is not None:
            suited = choose_recipe(AUTO, self._report, accelerator=self._accelerator, minutes=self.minutes.value())
            if suited.recipe != self._base.recipe:
                self._take_recipe()
            else:
                self._base = suited
                self.why.setText(f"{suited.recipe.name}. {suited.why}")
        self._say_estimate()

    def _changed(self, *_: object) -> None:
        choice = self.choice()
        if choice is None:
            return
        assert self._report is not None
        smaller = self._report.smaller_than(choice.recipe.data.size)
        self.enlarging.setText(
            f"{smaller:,} of {len(self._report.images):,} images are smaller than "
            f"{choice.recipe.data.size} px and will be upscaled"
        )
        self.enlarging.setVisible(smaller > 0)
        self.recipe_changed.emit(choice.recipe)

    def _say_estimate(self, *_: object) -> None:
        self.estimate.setText(estimate(self.minutes.value(), self._images_per_second))

    def _show_form(self) -> None:
        ready = self._report is not None
        self.card.setVisible(ready)
        self.none.setVisible(not ready)
        self.choose.setVisible(ready)
        self._form.setVisible(ready)
        self.start.setVisible(ready)
        self._say_estimate()

    def _press_start(self) -> None:
        choice = self.choice()
        if choice is not None:
            self.start_requested.emit(choice)


def scrolled_column(owner: QWidget) -> QVBoxLayout:
    """Give a side column a part that scrolls where the window is low; returns the layout inside it."""
    inner = QWidget()
    inner.setObjectName("contents")
    area = scroll_area(inner)
    outer = QVBoxLayout(owner)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.setSpacing(0)
    outer.addWidget(area, 1)
    column = QVBoxLayout(inner)
    column.setContentsMargins(16, 16, 16, 8)
    column.setSpacing(12)
    return column


def short_path(path: Path) -> str:
    """With `~` for the person's own folder."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)
