"""The training folder of a new run: chosen or dropped, inspected, and shown as the network will see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio import paths
from diffstudio.errors import CHOOSE_IMAGE_FOLDER, DiffstudioError
from diffstudio.studio.runs.add_images import copy_into
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.usable_images import usable_images
from diffstudio.training.recipe import DataRecipe, Recipe
from diffstudio.ui.shell.desktop_environment import pictures_folder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.folder.folder_actions import FolderActions
from diffstudio.ui.train.folder.folder_card import CARD_THUMB_SIDE, CARD_THUMBS
from diffstudio.ui.train.folder.folder_inspector import FolderInspector
from diffstudio.ui.train.folder.folder_view import MAX_THUMBNAILS, THUMB_SIDE, FolderView
from diffstudio.ui.train.folder.thumbnails import evenly_spaced
from diffstudio.ui.train.new_run_panel import NewRunPanel
from diffstudio.ui.widgets.dialogs import choose_folder
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DroppedKind
from diffstudio.ui.widgets.images.image_menu import ImageTarget


class FolderController(QObject):
    """Keeps the form for a new run and the view of its folder in step. `shut_down` stops its thread."""

    inspecting = Signal()  # the inspection of a folder for a new run begins
    cancelled = Signal()  # that inspection
    report_shown = Signal(object)  # FolderReport, in the form
    run_thumbnails_loaded = Signal(object)  # Sequence[QImage] of the folder of a run
    message = Signal(str, str)  # kind and text of a banner

    def __init__(self, panel: NewRunPanel, view: FolderView, tasks: Tasks) -> None:
        super().__init__(view)
        self._panel, self._view, self._tasks = panel, view, tasks
        self._inspector = FolderInspector(tasks)
        self._actions = FolderActions(tasks)
        self._report: FolderReport | None = None
        self._shown_pixels: DataRecipe | None = None  # the settings of the thumbnails on screen
        for folder_requested in (panel.folder_requested, view.folder_requested):
            folder_requested.connect(self.choose)
        panel.recipe_changed.connect(self._load_thumbnails)
        view.cancel_requested.connect(self._cancel)
        self._inspector.progressed.connect(view.show_progress)
        self._inspector.finished.connect(self._show_report)
        self._inspector.failed.connect(self._show_failure)
        self._inspector.thumbnails_loaded.connect(self._show_thumbnails)
        self._inspector.run_thumbnails_loaded.connect(self.run_thumbnails_loaded)
        self._actions.attach(view.report_view.captions, self._inspector)
        self._actions.message.connect(self.message)

    def is_idle(self) -> bool:
        """Whether no folder is chosen, and none is being inspected."""
        return not self._inspector.busy() and self._panel.run_settings() is None

    def choose(self) -> None:
        before = self._panel.run_settings()
        parent = str(before.folder.parent) if before else pictures_folder()
        choose_folder(self._view, CHOOSE_IMAGE_FOLDER, parent, self.inspect)

    def inspect(self, folder: Path) -> None:
        """Inspect a folder in a thread and offer to train on it."""
        self.inspecting.emit()
        self._inspector.cancel()
        self._actions.set_report(None)
        self._panel.set_report(None)
        self._view.show_inspecting(folder)
        self._inspector.inspect(folder)

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        """The effect of dropping these items; empty if nothing happens."""
        if any(item.kind is DroppedKind.FOLDER for item in items):
            return "Drop to train on this folder"
        settings = self._panel.run_settings()
        count = sum(item.kind is DroppedKind.IMAGE for item in items)
        if settings is None or not count or self._view.isHidden():
            return ""
        return f"Drop to copy {count:,} image{'' if count == 1 else 's'} into {settings.folder.name}"

    def take(self, items: Sequence[DroppedItem]) -> None:
        """Use dropped items: train on a folder, or copy images into the chosen folder."""
        folder = next((item.path for item in items if item.kind is DroppedKind.FOLDER), None)
        settings = self._panel.run_settings()
        if folder is not None:
            self.inspect(folder)
        elif settings is not None:
            images = [item.path for item in items if item.kind is DroppedKind.IMAGE and item.path is not None]
            self._tasks.start(self._add_images(images, settings.folder))

    async def _add_images(self, images: Sequence[Path], folder: Path) -> None:
        try:
            added = await self._tasks.to_thread(copy_into, images, folder)
        except DiffstudioError as error:
            self.message.emit("bad", str(error))
            return
        self.inspect(folder)  # hides the previous message
        self.message.emit("good", f"{added:,} image{'' if added == 1 else 's'} copied into {paths.short(folder)}.")

    def load_run_thumbnails(self, folder: Path | None) -> None:
        """Load a few images of a run's folder; emits `run_thumbnails_loaded`."""
        side = round(CARD_THUMB_SIDE * self._view.devicePixelRatioF())
        self._inspector.load_run_thumbnails(folder, CARD_THUMBS, side)

    def shut_down(self) -> None:
        self._inspector.shut_down()

    def _cancel(self) -> None:
        self._inspector.cancel()
        self._view.show_empty()
        self.cancelled.emit()

    def _show_report(self, report: FolderReport) -> None:
        self._report = report
        try:
            self._panel.set_report(report)
        except DiffstudioError as error:
            self._show_failure(error)
            return
        self.report_shown.emit(report)
        self._actions.set_report(report)
        self._panel.set_thumbs(())
        self._view.show_report(report)
        settings = self._panel.run_settings()
        self._shown_pixels = None
        if settings is not None:
            self._load_thumbnails(settings.recipe)

    def _load_thumbnails(self, recipe: Recipe) -> None:
        """Show the images as a network with this recipe sees them, unless they are shown already."""
        pixels = replace(recipe.data, flips=0, rotation_degrees=0, translation=0, held_out=0)
        if self._report is not None and pixels != self._shown_pixels:
            self._shown_pixels = pixels
            self._view.show_unfit(usable_images(self._report, recipe.data)[1])
            side = round(THUMB_SIDE * self._view.devicePixelRatioF())
            self._inspector.load_thumbnails(self._report, recipe, MAX_THUMBNAILS, side)

    def _show_thumbnails(self, thumbnails: Sequence[tuple[ImageTarget, str]]) -> None:
        self._panel.set_thumbs([target.image for target, _ in evenly_spaced(thumbnails, CARD_THUMBS)])
        self._view.set_thumbs(thumbnails)

    def _show_failure(self, error: Exception) -> None:
        self._view.show_empty()
        self.message.emit("bad", str(error))
