"""What is chosen in the Generate panel: kept over a restart, undone and redone, reset, and saved as presets."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from PySide6.QtCore import QObject, QTimer

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.studio.library.references import ModelRenamed, not_followed, state_after
from diffstudio.studio.panel_state import HIRES_FIX, SIZE, PanelState, read_state, save_state
from diffstudio.studio.presets import Preset, Presets, read_presets, save_presets
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.limits import LONGEST_PROMPT
from diffstudio.ui.generate.loading import compare_panel, load_request
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.generate.sections.loaded_settings import Loaded
from diffstudio.ui.generate.sections.preset_dialogs import EditPresetsDialog, SavePresetDialog
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.wiring.file_writer import FileWriter

SAVE_DELAY_MS = 1000  # after the first change that is not saved
RECORD_DELAY_MS = 300  # after the last change: a slider that is dragged is one change
TYPING_SECONDS = 2.0  # prompts typed without a longer pause are one change
MOST_RECORDED = 200  # changes that can be undone


def capture(panel: Panel, last: PanelState | None = None) -> PanelState:
    """Everything that is chosen in the panel. Without a checkpoint only the prompts are: the rest is of `last`."""
    texts = {"prompt": panel.prompt.text(), "negative": panel.negative.text()}
    typed = {name: text for name, text in texts.items() if len(text) > LONGEST_PROMPT}
    checkpoint = panel.checkpoint.current()
    request = GenerateRequest(
        prompt="" if "prompt" in typed else texts["prompt"],
        negative="" if "negative" in typed else texts["negative"],
        checkpoint=checkpoint.name if checkpoint is not None else "",
    )
    if checkpoint is None and last is not None:
        return last.with_prompts_of(PanelState(request, typed=typed, class_name=last.class_name))
    count = int(panel.count.value())
    if panel.seed.problem(count):
        typed["seed"] = panel.seed.field.text()
        request = replace(request, count=count)
    else:
        request = replace(request, count=count, seed=panel.seed.value())
    width, height = panel.size_control.requested_size()
    request = panel.hires_fix.with_values(replace(request, width=width, height=height))
    request = panel.sampling.as_kept(request)  # these include settings that the checkpoint does not support
    for section in (panel.guidance, panel.init_image):
        request = section.with_values(request)
    request = panel.controlnets.apply_to(request)
    scale, enlarges = float(panel.hires_fix.scale.value()), panel.hires_fix.is_enabled()
    if enlarges and request.mask is None and not any(request.outpaint):
        request = replace(request, enlarge=scale)
    return PanelState(
        request,
        seed_is_fixed=panel.seed.is_fixed(),
        sections_open=frozenset({HIRES_FIX} if enlarges else ()),
        set_by_hand=panel.sampling.set_by_hand() | ({SIZE} if panel.size_control.is_by_hand() else set()),
        typed=typed,
        class_name=str(panel.classes.value() or ""),
        hires_scale=scale,
        hidden_controls=panel.controlnets.hidden_uses(),
    )


def show(panel: Panel, state: PanelState) -> bool:
    """Show a state in the panel. False when its checkpoint is missing; everything else is shown."""
    drawn = panel.seed.field.text()
    found = load_request(panel, state.request)
    prompt, negative = state.prompts()
    panel.prompt.set_text(prompt)
    panel.negative.set_text(negative)
    panel.classes.set_value(state.class_name)
    panel.controlnets.add_hidden(state.hidden_controls)
    panel.hires_fix.restore(state.request, state.hires_scale, enabled=HIRES_FIX in state.sections_open)
    seed = state.typed.get("seed", str(state.request.seed))
    panel.seed.restore(seed if state.seed_is_fixed else drawn, is_fixed=state.seed_is_fixed)
    panel.sampling.mark_set_by_hand(state.set_by_hand)
    if SIZE in state.set_by_hand:
        panel.size_control.keep_by_hand()
    panel.refresh()
    return found


class PanelStateController(QObject):
    """Follows the panel from the first scan of the model folders on."""

    def __init__(self, room: GenerateRoom, writer: FileWriter) -> None:
        super().__init__()
        self._room, self._panel, self._writer = room, room.panel, writer
        self._to_restore: PanelState | None = None  # its checkpoint has not been found yet
        self._stand_in: PanelState | None = None  # what is shown while the checkpoint is missing
        self._renamed: PanelState | None = None  # to show when a renamed model is listed under its new name
        self._last: PanelState | None = None  # what was saved or read last
        self._recorded: list[PanelState] = []
        self._at = 0  # in `_recorded`: what is shown
        self._shown_as: PanelState | None = None  # by Undo or Redo, where a model or file that it names is gone
        self._recorded_at = 0.0
        self._showing = self._closed = False
        self.presets = Presets()
        self._before_edit: PanelState | None = None  # while a waiting job is edited
        self._save_timer = QTimer(self, singleShot=True, interval=SAVE_DELAY_MS)
        self._record_timer = QTimer(self, singleShot=True, interval=RECORD_DELAY_MS)
        self._save_timer.timeout.connect(self.save)
        self._record_timer.timeout.connect(self._record)
        self._connect()

    # Over a restart

    def restore(self) -> None:
        """Read what was kept. The prompts are shown at once, the rest when the checkpoints are known."""
        loaded, presets = read_state(), read_presets()
        self.presets = presets.state
        self._show_presets()
        if problems := [each for each in (loaded.problem, presets.problem) if each]:
            self._room.show_message("warn", " ".join(problems))
        self._to_restore = self._last = loaded.state
        if loaded.state is not None:
            for edit, text in zip((self._panel.prompt, self._panel.negative), loaded.state.prompts(), strict=True):
                edit.set_text(text)
                edit.document().clearUndoRedoStacks()

    def save(self) -> None:
        """Save what is chosen now.

        What is only shown because a checkpoint is missing, or because a waiting job is edited, does not replace what
        was kept.
        """
        self._save_timer.stop()
        if self._before_edit is not None:
            return
        state = capture(self._panel, self._last)
        if state in (self._last, self._stand_in):
            return
        self._keep(state)

    def _keep(self, state: PanelState) -> None:
        self._last = state
        self._writer.write(paths.panel_state_file(), partial(save_state, state))

    def close(self) -> None:
        """Save the last changes. What changes after that, such as the list of checkpoints, is not followed."""
        self._closed = True
        self._record_timer.stop()
        self.save()

    def follow_renamed(self, change: ModelRenamed) -> None:
        """Put the new name of a model everywhere: the panel shows it after the scan that follows."""

        kept: list[str] = []  # what cannot get the new name

        def after(state: PanelState, user: str = "") -> PanelState:
            try:
                return state_after(state, change)
            except BadRequest:
                kept.extend([not_followed(user, change)] if user else [])
                return state

        self._record()
        now = capture(self._panel, self._last)
        renamed = after(now, "What is chosen here")
        self._renamed = renamed if renamed != now else None
        self._recorded = [after(state) for state in self._recorded]
        self._shown_as = after(self._shown_as) if self._shown_as is not None else None
        if self._to_restore is not None:
            self._to_restore = after(self._to_restore)
        if self._before_edit is not None and (before := after(self._before_edit)) != self._before_edit:
            self._before_edit = before
            self._keep(before)
        presets = [
            replace(preset, state=after(preset.state, f"The preset {preset.name}")) for preset in self.presets.presets
        ]
        if tuple(presets) != self.presets.presets:
            self._set_presets(replace(self.presets, presets=tuple(presets)))
        if kept:
            self._room.show_message("warn", " ".join(kept))

    def _checkpoints_listed(self) -> None:
        """Show what was kept, once its checkpoint is found; nothing when other settings were chosen meanwhile."""
        if self._renamed is not None:
            renamed, self._renamed = self._renamed, None
            self._show(renamed)
            self.save()
        state, now = self._to_restore, capture(self._panel, self._last)
        if state is not None and self._panel.checkpoint.current() is not None:
            if not state.request.checkpoint:  # there has never been one: only the prompts were chosen
                self._to_restore = None
            elif self._stand_in is None:
                self._restore(state, now)
            elif now != self._stand_in:
                self._to_restore = self._stand_in = None
            elif self._panel.checkpoint.lists(state.request.checkpoint):
                self._room.show_message("info", "")
                self._restore(state, now)
        if not self._recorded:
            self._recorded = [capture(self._panel, self._last).without_drawn_seed()]

    def _restore(self, state: PanelState, now: PanelState) -> None:
        """Show a state with the prompts that are shown already, and what was set by hand before the first scan."""
        early = {name: value for name, value in now.request.to_json().items() if name in now.set_by_hand}
        shown = replace(state, request=replace(state.request, **early), set_by_hand=state.set_by_hand | now.set_by_hand)
        found = self._show(shown.with_prompts_of(replace(now, class_name=state.class_name)))
        self._panel.seed.restore(state.typed.get("seed", str(state.request.seed)), is_fixed=self._panel.seed.is_fixed())
        self._to_restore, self._stand_in = (None, None) if found else (state, capture(self._panel, self._last))
        self._recorded, self._at = [capture(self._panel, self._last).without_drawn_seed()], 0
        self._shown_as = None

    # While a waiting job is edited

    def begin_edit(self) -> None:
        """Keep what is chosen now: the settings of a waiting job take its place in the panel."""
        self._record()
        self.save()
        self._before_edit = capture(self._panel, self._last)

    def end_edit(self) -> None:
        """Show what was chosen before the edit."""
        state, self._before_edit = self._before_edit, None
        if state is not None:
            self._show(state)
            self._record()

    # Undo and redo

    def undo(self) -> None:
        self._record()
        self._go_to(self._at - 1)

    def redo(self) -> None:
        self._record()
        self._go_to(self._at + 1)

    def _go_to(self, at: int) -> None:
        if 0 <= at < len(self._recorded):
            self._at = at
            self._show(self._recorded[at])
            self._shown_as = capture(self._panel, self._last).without_drawn_seed()
            self._save_timer.start()
        self._update_buttons()

    def _changed(self) -> None:
        if self._showing or self._closed:
            return
        self._record_timer.start()
        if not self._save_timer.isActive():
            self._save_timer.start()

    def _record(self) -> None:
        """Make what is chosen now a step of the history, if it differs from the last one."""
        self._record_timer.stop()
        state = capture(self._panel, self._last).without_drawn_seed()
        if not self._recorded or state in (self._recorded[self._at], self._shown_as):
            return
        self._shown_as = None
        del self._recorded[self._at + 1 :]
        if self._goes_on_typing(state):
            self._recorded[-1] = state
        else:
            self._recorded.append(state)
        del self._recorded[:-MOST_RECORDED]
        self._at, self._recorded_at = len(self._recorded) - 1, time.monotonic()
        self._update_buttons()

    def _goes_on_typing(self, state: PanelState) -> bool:
        """Whether the last change and this one are of the prompts only, without a longer pause between them."""
        if self._at == 0 or time.monotonic() - self._recorded_at > TYPING_SECONDS:
            return False
        before, last = self._recorded[self._at - 1 : self._at + 1]
        return before.with_prompts_of(last) == last and last.with_prompts_of(state) == state

    def _update_buttons(self) -> None:
        self._panel.settings_bar.set_history(can_undo=self._at > 0, can_redo=self._at + 1 < len(self._recorded))

    def _show(self, state: PanelState) -> bool:
        """Show a state, and say what of it is missing."""
        self._showing = True
        try:
            self._room.loader.clear_warnings()
            found = show(self._panel, state)
        finally:
            self._showing = False
        loaded = self._compare(state, found)
        self._panel.show_loaded(Loaded())
        if loaded.changed:
            self._room.loader.add_warning(loaded.warning())
        if not found:
            self._room.loader.add_warning(self._room.loader.missing_checkpoint(state.request))
        return found

    def _compare(self, state: PanelState, found: bool) -> Loaded:
        """What is shown of a state; a seed that was drawn is not, and need not be."""
        seed = self._panel.seed
        drawn = not state.seed_is_fixed and not seed.problem(state.request.count)
        request = replace(state.request, seed=seed.value()) if drawn else state.request
        for section in (self._panel.sampling, self._panel.guidance):
            request = section.without_hidden(request)
        return compare_panel(self._panel, request, checkpoint_found=found)

    # Defaults and presets

    def reset(self) -> None:
        """What the checkpoint recommends, and no value set by hand."""
        self._record()
        self._panel.reset_to_recommended()
        self._record()

    def apply_preset(self, name: str) -> None:
        """Show a preset, once the models that it names can be found."""
        self._panel.when_scanned(partial(self._apply_preset, name))

    def _apply_preset(self, name: str) -> None:
        preset = self.presets.find(name)
        if preset is None:
            return
        self._record()
        now = capture(self._panel, self._last)
        state = preset.state if preset.with_prompts else preset.state.with_prompts_of(now)
        found = self._show(state)
        self._panel.show_loaded(self._compare(state, found))
        self._changed()
        self._record()

    def save_preset(self, name: str, with_prompts: bool = True) -> None:
        """Save what is chosen now under a name, in place of an earlier preset of that name."""
        self._set_presets(self.presets.with_preset(Preset(name, capture(self._panel, self._last), with_prompts)))

    def rename_preset(self, name: str, new_name: str) -> str:
        """Returns why the name cannot be used, or an empty text."""
        try:
            self._set_presets(self.presets.renamed(name, new_name))
        except BadRequest as error:
            return str(error)
        return ""

    def delete_preset(self, name: str) -> None:
        self._set_presets(self.presets.without(name))

    def open_save_dialog(self) -> SavePresetDialog:
        dialog = SavePresetDialog([preset.name for preset in self.presets.presets], self._room.window())
        dialog.save_requested.connect(self.save_preset)
        dialog.open()
        return dialog

    def open_edit_dialog(self) -> EditPresetsDialog:
        names = [preset.name for preset in self.presets.presets]
        dialog = EditPresetsDialog(names, self._room.window(), self.rename_preset, self.delete_preset)
        dialog.open()
        return dialog

    def _set_presets(self, presets: Presets) -> None:
        self.presets = presets
        self._show_presets()
        self._writer.write(paths.presets_file(), partial(save_presets, presets))

    def _show_presets(self) -> None:
        self._panel.settings_bar.set_presets([preset.name for preset in self.presets.presets])

    # Construction

    def _connect(self) -> None:
        bar = self._panel.settings_bar
        self._panel.changed.connect(self._changed)
        self._panel.checkpoints_listed.connect(self._checkpoints_listed)
        bar.undo_requested.connect(self.undo)
        bar.redo_requested.connect(self.redo)
        bar.reset_requested.connect(self.reset)
        bar.preset_chosen.connect(self.apply_preset)
        bar.save_requested.connect(self.open_save_dialog)
        bar.edit_requested.connect(self.open_edit_dialog)
        shortcuts.bind(shortcuts.UNDO_SETTINGS, self._room, self.undo)
        shortcuts.bind(shortcuts.REDO_SETTINGS, self._room, self.redo)
