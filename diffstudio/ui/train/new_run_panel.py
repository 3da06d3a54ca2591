"""The left column for a new run: image folder, recipe, training time, and the Start button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QImage, QShowEvent
from PySide6.QtWidgets import QGridLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.plurals import by_number
from diffstudio.studio.runs.runs import LONGEST_NAME
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.usable_images import is_usable, no_usable_images, usable_images
from diffstudio.training.network_sizes.recipe_size import memory_bytes, size_problem
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_choice import AUTO, RecipeChoice, choose_recipe, named_recipes
from diffstudio.training.recipe_from_checkpoint import FROM_SCRATCH
from diffstudio.ui.train.devices import DevicesForm
from diffstudio.ui.train.duration_slider import DurationSlider
from diffstudio.ui.train.folder.folder_card import CARD_THUMBS, FolderCard
from diffstudio.ui.train.form_parts import STARTS, augmentation_chips, labelled, without_padding
from diffstudio.ui.train.kept_changes import kept_changes
from diffstudio.ui.train.recipe_dialog import RecipeDialog
from diffstudio.ui.train.recipe_options import (
    AUGMENTATIONS,
    DEFAULT_MINUTES,
    MINUTES,
    NOISE_LEVELS,
    OPTIMISER_TIP,
    OPTIMISERS,
    SIZES,
    RecipeOptions,
    estimate_text,
    has_two_levels,
    noise_levels_choices,
    short_size_texts,
    size_choices,
)
from diffstudio.ui.train.run_settings import RunSettings
from diffstudio.ui.widgets import shortcuts, theme
from diffstudio.ui.widgets.controls import PrimaryButton, SecondaryButton, SectionLabel
from diffstudio.ui.widgets.helpers import describe, label, limit_length, takes_text_only
from diffstudio.ui.widgets.inputs.combo_box import ComboBox, LabelledComboBox
from diffstudio.ui.widgets.layout.side_column import scrolled_column

_SIZE_OF_CHECKPOINT = "A distilled model keeps the image size of its teacher"
PANEL_WIDTHS = 288, 328  # px, in a narrow window and in a wide one


class NewRunPanel(QWidget):
    """The form for a new run; hidden until a folder is inspected."""

    folder_requested = Signal()
    start_requested = Signal(object)  # RunSettings
    recipe_changed = Signal(object)  # Recipe
    form_changed = Signal()  # anything that is chosen in it

    def __init__(self) -> None:
        super().__init__()
        self._report: FolderReport | None = None
        self._recipe_choice: RecipeChoice | None = None
        self._unchanged: Recipe | None = None  # that of the choice, before it was changed
        self._accelerator = False
        self._images_per_second: float | None = None
        self.card = FolderCard()
        self.choose_folder_button = SecondaryButton(
            "Another folder…", "folder-open", "Choose another folder of images to train on (Ctrl+O)"
        )
        self.recipe = ComboBox("Recipe", (), "Network and training settings")
        self.recipe_reason = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.minutes = DurationSlider(
            "Training time", MINUTES, DEFAULT_MINUTES, "How long to train. You can stop at any time"
        )
        self.image_size = LabelledComboBox(
            "Size",
            size_choices(SIZES[0], two_levels=True),
            "Image size of the model. Twice the side trains about four times as slowly. In two levels, a second network "
            "enlarges the images of the first",
        )
        self.optimiser = LabelledComboBox("Optimiser", OPTIMISERS, OPTIMISER_TIP)
        self.noise_levels = LabelledComboBox("Noise levels", NOISE_LEVELS, "Distribution of noise levels in training")
        self.augmentations = augmentation_chips()
        self.upscale_note = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.start_from = LabelledComboBox(
            "Start from", STARTS, "The weights to begin with: a checkpoint that was trained here, or none"
        )
        self.lost_note = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)  # of what another start cannot keep
        self.devices = DevicesForm()
        self.all_settings = SecondaryButton(
            "All settings…", "sliders-horizontal", "Change any value of the recipe: network, optimiser, batch, samples"
        )
        self.changed_note = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self._by_hand = False  # whether the recipe was changed in the dialog of all settings
        self._start_problem = ""  # why the run cannot start from what is chosen
        self.estimate = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.problem = label("", "warn", pixels=theme.SMALL_PIXELS, wrap=True)
        self.run_name = QLineEdit()
        takes_text_only(self.run_name)
        limit_length(self.run_name, LONGEST_NAME)
        describe(self.run_name, "Run name", "Name of the run and its checkpoint")
        self.start = PrimaryButton("Start training", "Ctrl+Enter", "Start training in a separate process (Ctrl+Enter)")
        self.no_folder = label("No folder chosen yet.", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        without_padding(self.recipe, self.image_size.combo, self.optimiser.combo, self.noise_levels.combo)
        self._starts = list(STARTS)
        self._form = QWidget()
        self._lay_out()
        self._connect()
        self.set_report(None)

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(12)
        grid.addWidget(self.minutes, 0, 0, 1, 2)
        grid.addWidget(self.image_size, 1, 0)
        grid.addWidget(self.optimiser, 1, 1)
        grid.addLayout(labelled("Name", self.run_name), 2, 0)
        grid.addWidget(self.noise_levels, 2, 1)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        form = QVBoxLayout(self._form)
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(12)
        form.addWidget(SectionLabel("Recipe"))
        form.addWidget(self.recipe)
        form.addWidget(self.recipe_reason)
        form.addLayout(grid)
        form.addLayout(labelled("Augmentation", self.augmentations))
        form.addWidget(self.start_from)
        form.addWidget(self.lost_note)
        form.addWidget(self.devices)
        form.addWidget(self.all_settings)
        form.addWidget(self.changed_note)
        form.addWidget(self.upscale_note)
        form.addWidget(self.estimate)
        self.column = scrolled_column(self)
        self.column.addWidget(SectionLabel("Images"))
        self.column.addWidget(self.no_folder)
        self.column.addWidget(self.card)
        self.column.addWidget(self.choose_folder_button)
        self.column.addWidget(self._form)
        self.column.addStretch(1)
        bottom = QVBoxLayout()
        bottom.setContentsMargins(16, 8, 16, 16)
        bottom.setSpacing(8)
        bottom.addWidget(self.problem)  # beside the button that it disables, wherever the form is scrolled to
        bottom.addWidget(self.start)
        layout = self.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.addLayout(bottom)

    def _connect(self) -> None:
        self.choose_folder_button.clicked.connect(self.folder_requested)
        self.start.clicked.connect(self._start)
        shortcuts.bind_in_window(shortcuts.START_RUN, self, self.start.click)  # while the panel is shown
        self.recipe.chosen.connect(self._show_recipe)
        self.all_settings.clicked.connect(self.open_all_settings)
        for part in (self.image_size, self.optimiser, self.noise_levels, self.augmentations):
            part.value_changed.connect(self._options_changed)
        self.minutes.value_changed.connect(self._minutes_changed)
        self.start_from.value_changed.connect(self._choose_again)
        for changed in (
            self.recipe_changed,
            self.minutes.value_changed,
            self.start_from.value_changed,
            self.run_name.textChanged,
            self.devices.changed,
        ):
            changed.connect(self.form_changed)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.noise_levels.set_choices(noise_levels_choices(self.noise_levels.value()))  # one may be new

    def set_accelerator(self, available: bool) -> None:
        """Whether training runs on an accelerator; the automatic recipe depends on it."""
        self._accelerator = available
        self._choose_again()

    def set_report(self, report: FolderReport | None) -> None:
        """Show the form for an inspected folder; None hides it.

        Raises RunProblem if the named recipes cannot be read.
        """
        again = self._report is not None and report is not None and report.folder == self._report.folder
        self._report = report
        if report is not None:
            self.recipe.set_choices(
                [(AUTO, "Automatic"), *((name, recipe.name) for name, recipe in named_recipes().items())]
            )
            self.card.show_folder(report.folder, report.sentence())
            self.devices.set_folder(report.folder)
            self.run_name.setPlaceholderText(report.folder.resolve().name[:LONGEST_NAME])
            if again:  # captions were edited or images left out
                self._choose_again()
            else:
                self._show_recipe()
        self._show_form()

    def set_thumbs(self, images: Sequence[QImage]) -> None:
        self.card.set_thumbs(images[:CARD_THUMBS])

    def offer_checkpoints(self, checkpoints: Sequence[tuple[Path, str]]) -> None:
        """The checkpoints of runs, with the names of these, that a run can start from."""
        choices = [*STARTS, *((str(path), name) for path, name in checkpoints)]
        if choices != self._starts:
            before, self._starts = self.start_from.value(), choices
            self.start_from.set_choices(choices)
            if self.start_from.value() != before:  # the checkpoint was removed
                self._choose_again()

    def start_with(self, checkpoint: Path | None) -> None:
        """Start the next run from this checkpoint, which must be offered; None for the automatic choice."""
        before = self.start_from.value()
        self.start_from.set_value(None if checkpoint is None else str(checkpoint))
        if self.start_from.value() != before:
            self._choose_again()

    def show_choice(self, recipe: str, start_from: str | None) -> tuple[bool, bool]:
        """Select a recipe and what it starts from, for an inspected folder; whether each of them is offered."""
        found = self.recipe.set_value(recipe), self.start_from.set_value(start_from)
        self._show_recipe()
        return found

    def show_changed(self, recipe: Recipe, *, by_hand: bool) -> None:
        """Show the selected recipe with changes: those of the form, or of any of its settings."""
        if by_hand:
            self._use_recipe(recipe)
        else:
            self._show_options(RecipeOptions.from_recipe(recipe))

    def changed_recipe(self) -> tuple[Recipe | None, bool]:
        """The recipe with the changes made in the form, None without any, and whether it was changed by hand."""
        settings = self.run_settings()
        if settings is None or self._recipe_choice is None:
            return None, False
        changed = self._by_hand or settings.recipe != self._recipe_choice.recipe
        return (settings.recipe if changed else None), self._by_hand

    def set_images_per_second(self, measured: float | None) -> None:
        self._images_per_second = measured
        self._show_estimate()

    def run_settings(self) -> RunSettings | None:
        """The settings in the form; None without an inspected folder."""
        if self._report is None or self._recipe_choice is None:
            return None
        recipe = self.recipe_options().apply_to(self._recipe_choice.recipe)
        choice = replace(self._recipe_choice, recipe=recipe)
        return RunSettings(
            self._report.folder,
            choice,
            self.minutes.value(),
            self.run_name.text().strip(),
            self.start_from.value(),
            self.devices.cluster(),
        )

    def recipe_options(self) -> RecipeOptions:
        return RecipeOptions(
            self.image_size.value(),
            self.optimiser.value(),
            self.noise_levels.value(),
            tuple(name for name in AUGMENTATIONS if name in self.augmentations.value()),
        )

    def open_all_settings(self) -> RecipeDialog | None:
        """Open the dialog of all settings of the recipe in the form."""
        settings = self.run_settings()
        if settings is None:
            return None
        dialog = RecipeDialog(settings.recipe, self.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.recipe_chosen.connect(self._use_recipe)
        dialog.open()
        return dialog

    def _use_recipe(self, recipe: Recipe) -> None:
        """Train with a recipe that was changed by hand, until another one is chosen."""
        if self._recipe_choice is not None and recipe != self._recipe_choice.recipe:
            self._recipe_choice, self._by_hand = replace(self._recipe_choice, recipe=recipe), True
            self.changed_note.setText("Changed by hand. Choose a recipe above to start again from it.")
            self.changed_note.show()
            self._show_options(RecipeOptions.from_recipe(recipe))

    def _show_recipe(self, *_: object) -> None:
        """Show the settings of the selected recipe."""
        if self._report is None:
            return
        self._by_hand = False
        for note in (self.changed_note, self.lost_note):
            note.hide()
        self._recipe_choice = self._choose(self._report)
        self._unchanged = recipe = self._recipe_choice.recipe
        options = RecipeOptions.from_recipe(recipe)
        self._show_options(options)
        automatic = self.recipe.value() == AUTO
        self.recipe_reason.setText(
            f"{recipe.name}. {self._recipe_choice.why}"
            if automatic
            else f"{recipe.description} {self._recipe_choice.why}"
        )

    def _choose_again(self, *_: object) -> None:
        """What the recipe depends on is another, such as its start: keep the changes, and name those that cannot be kept."""
        settings, before = self.run_settings(), self._unchanged
        self._show_recipe()
        if settings is None or before is None or self._unchanged is None:
            return
        kept = kept_changes(before, settings.recipe, self._unchanged)
        if kept.by_hand:
            self._use_recipe(kept.recipe)
        else:
            self._show_options(RecipeOptions.from_recipe(kept.recipe))
        self.lost_note.setText(kept.text())
        self.lost_note.setVisible(bool(kept.lost))

    def _choose(self, report: FolderReport) -> RecipeChoice:
        """The selected recipe with what it starts from; where that cannot be used, from scratch, and Start is disabled."""
        choose = partial(
            choose_recipe, self.recipe.value(), report, accelerator=self._accelerator, minutes=self.minutes.value()
        )
        self._start_problem = ""
        try:
            return choose(start_from=self.start_from.value())
        except DiffstudioError as error:
            self._start_problem = str(error)
        try:
            return choose(start_from=FROM_SCRATCH)
        except DiffstudioError:  # it cannot start from scratch: show what it is
            return RecipeChoice(named_recipes()[self.recipe.value()], "")

    def _show_options(self, options: RecipeOptions) -> None:
        recipe = self._recipe_choice.recipe if self._recipe_choice is not None else None
        denoises = recipe is None or recipe.objective.kind is ObjectiveName.DIFFUSION
        distils = recipe is not None and recipe.few_steps.enabled
        sizes = size_choices(options.size, two_levels=recipe is None or has_two_levels(recipe))
        self.image_size.set_choices(sizes)
        self.image_size.combo.set_short_texts(short_size_texts(sizes))
        self.image_size.set_value(options.size)
        self.image_size.combo.set_unavailable(_SIZE_OF_CHECKPOINT if distils else "")
        self.noise_levels.setVisible(denoises and not distils)  # VAEs and GANs have none
        has_blocks = recipe is None or (denoises and recipe.network.kind is NetworkName.TRANSFORMER)
        self.optimiser.set_choices([each for each in OPTIMISERS if has_blocks or each[0] is not OptimiserName.MUON])
        self.optimiser.set_value(options.optimiser)
        self.noise_levels.set_choices(noise_levels_choices(options.noise_levels))
        self.noise_levels.set_value(options.noise_levels)
        self.augmentations.set_value(options.augmentations)
        self._options_changed()

    def _minutes_changed(self, *_: object) -> None:
        """Switch the automatic recipe if it depends on the time."""
        automatic = self.recipe.value() == AUTO and not self._by_hand
        if self._report is not None and automatic and self._recipe_choice is not None:
            choice = self._choose(self._report)
            if choice.recipe != self._recipe_choice.recipe:
                self._choose_again()
            else:
                self._recipe_choice = choice
                self.recipe_reason.setText(f"{choice.recipe.name}. {choice.why}")
                self._show_problem(self.recipe_options().apply_to(choice.recipe))
        self._show_estimate()

    def _options_changed(self, *_: object) -> None:
        settings = self.run_settings()
        if settings is None:
            return
        assert self._report is not None
        smaller = self._report.smaller_than(settings.recipe.prepared.size)
        self.upscale_note.setText(
            f"{smaller:,} of {len(self._report.images):,} images {by_number(smaller, 'is', 'are')} smaller than "
            f"{settings.recipe.prepared.size} px and will be upscaled"
        )
        self.upscale_note.setVisible(smaller > 0)
        self._show_problem(settings.recipe)
        self._show_estimate()
        self.recipe_changed.emit(settings.recipe)

    def _show_problem(self, recipe: Recipe) -> None:
        self.problem.setText(self._start_problem or size_problem(recipe) or self._folder_problem(recipe))
        self.problem.setVisible(bool(self.problem.text()))
        self.start.setEnabled(not self.problem.text())

    def _folder_problem(self, recipe: Recipe) -> str:
        """Why nothing of the folder can be trained on with this recipe; empty if something can."""
        if self._report is None or any(is_usable(record, recipe.data) for record in self._report.images):
            return ""
        return str(no_usable_images(self._report, usable_images(self._report, recipe.data)[1], recipe.data))

    def _show_estimate(self, *_: object) -> None:
        settings = self.run_settings()
        memory = memory_bytes(settings.recipe) if settings is not None and not size_problem(settings.recipe) else None
        self.estimate.setText(estimate_text(self.minutes.value(), self._images_per_second, memory=memory))

    def _show_form(self) -> None:
        ready = self._report is not None
        self.card.setVisible(ready)
        self.no_folder.setVisible(not ready)
        self.choose_folder_button.setVisible(ready)
        self._form.setVisible(ready)
        for part in (self.start, self.problem):
            part.setVisible(ready and (part is self.start or bool(self.problem.text())))
        self._show_estimate()

    def _start(self) -> None:
        settings = self.run_settings()
        if settings is not None:
            self.start_requested.emit(settings)
