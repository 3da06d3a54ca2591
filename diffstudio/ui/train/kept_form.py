"""What is chosen for the next training run: kept over a restart, and what of it is missing then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio import paths
from diffstudio.studio.runs.form_state import FormState, read_form, save_form
from diffstudio.studio.stored_values import Loaded
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.ui.train.folder_controller import FolderController
from diffstudio.ui.train.new_run_panel import NewRunPanel

Keep = Callable[[Path, Callable[[], None]], None]  # writes a file with a function, in a thread


class KeptForm(QObject):
    """Follows the form for a new run. The folder is inspected again in `restore`; the rest is shown with its report."""

    message = Signal(str, str)  # kind and text of a banner

    def __init__(self, panel: NewRunPanel, folders: FolderController, keep: Keep | None) -> None:
        """Without `keep` nothing is read or kept."""
        super().__init__(panel)
        self._panel, self._folders, self._keep = panel, folders, keep
        loaded = read_form() if keep is not None else Loaded(FormState())
        self._state, self.problem = loaded.state, loaded.problem
        self._to_inspect = self._state.folder
        self._shown = False  # whether what was kept is in the form
        if self._state.minutes is not None:
            panel.minutes.set_value(self._state.minutes)
        folders.inspecting.connect(self._folder_chosen)
        folders.report_shown.connect(self._report_shown)
        folders.cancelled.connect(self._forget_folder)
        panel.form_changed.connect(self._form_changed)

    def restore(self) -> None:
        """Inspect the folder that was chosen last, once, unless another one is chosen already."""
        folder, self._to_inspect = self._to_inspect, None
        if folder is not None and self._folders.is_idle():
            self._folders.inspect(folder)

    def _folder_chosen(self) -> None:
        self._to_inspect = None

    def _report_shown(self, report: FolderReport) -> None:
        if not self._shown:
            start_from = self._panel.start_from.value()  # with "Start from this…" of a run, before there was a form
            as_before = report.folder == self._state.folder and start_from in (None, self._state.start_from)
            self._show(self._state, start_from, as_before=as_before)
            self._shown = True
        self._form_changed()

    def _show(self, state: FormState, start_from: str | None, *, as_before: bool) -> None:
        """Show what was kept: `as_before` all of it, otherwise only what is not about its folder and its start."""
        panel = self._panel
        found = panel.devices.set_cluster(state.cluster)
        missing = [] if found else ["The devices that were chosen last are not there: choose others in the form."]
        start_from = state.start_from if as_before else start_from
        recipe_found, start_found = panel.show_choice(state.recipe, start_from)
        if not recipe_found:
            missing.append(f"There is no recipe {state.recipe} any more: Automatic is chosen.")
        if not start_found:
            missing.append(f"{start_from} is not there any more: choose in the form what the run starts from.")
        if as_before:
            panel.run_name.setText(state.name)
            if state.changed is not None and recipe_found and start_found:
                panel.show_changed(state.changed, by_hand=state.by_hand)
            elif state.changed is not None:
                missing.append("The changes to the settings of the recipe are not shown.")
        if missing:
            self.message.emit("warn", " ".join(missing))

    def _form_changed(self) -> None:
        settings = self._panel.run_settings()
        if self._shown and settings is not None:
            changed, by_hand = self._panel.changed_recipe()
            self._put(
                FormState(
                    folder=settings.folder,
                    recipe=self._panel.recipe.value(),
                    changed=changed,
                    by_hand=by_hand,
                    minutes=settings.minutes,
                    start_from=settings.start_from,
                    name=settings.name,
                    cluster=settings.cluster,
                )
            )

    def _forget_folder(self) -> None:
        """A folder whose inspection was cancelled is not inspected at the next start."""
        self._put(replace(self._state, folder=None))

    def _put(self, state: FormState) -> None:
        if self._keep is not None and state != self._state:
            self._keep(paths.training_form_file(), partial(save_form, state))
        self._state = state
