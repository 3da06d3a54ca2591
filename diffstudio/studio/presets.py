"""Named presets of the Generate panel, in one JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.studio.panel_state import PanelState
from diffstudio.studio.stored_json import read_object, set_aside, write_object
from diffstudio.studio.stored_values import Loaded, StoredValues, as_object, as_text, partly_unreadable

FORMAT = 1
LONGEST_NAME = 80  # characters
_WHAT = "The presets"


@dataclass(frozen=True, slots=True)
class Preset:
    name: str
    state: PanelState
    with_prompts: bool = True  # whether the prompts are replaced when it is applied

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "with_prompts": self.with_prompts, "state": self.state.to_json()}


@dataclass(frozen=True, slots=True)
class Presets:
    """In the order of their names, each name once. `unreadable` entries stay in the file as they are."""

    presets: tuple[Preset, ...] = ()
    unreadable: tuple[Any, ...] = ()

    def find(self, name: str) -> Preset | None:
        return next((preset for preset in self.presets if preset.name == name), None)

    def with_preset(self, preset: Preset) -> Presets:
        """With this one, in place of one of the same name. BadRequest for a name that cannot be used."""
        name = checked_name(preset.name)
        return self._of((*self.without(name).presets, Preset(name, preset.state, preset.with_prompts)))

    def without(self, name: str) -> Presets:
        return self._of([preset for preset in self.presets if preset.name != name])

    def renamed(self, name: str, new_name: str) -> Presets:
        """BadRequest when the new name cannot be used, or is another preset's."""
        new_name, preset = checked_name(new_name), self.find(name)
        if preset is None or name == new_name:
            return self
        if self.find(new_name) is not None:
            raise BadRequest(f"There is already a preset “{new_name}”", remedy="Choose another name")
        return self.without(name).with_preset(Preset(new_name, preset.state, preset.with_prompts))

    def _of(self, presets: Sequence[Preset]) -> Presets:
        return Presets(
            tuple(sorted(presets, key=lambda preset: (preset.name.casefold(), preset.name))), self.unreadable
        )

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "presets": [preset.to_json() for preset in self.presets] + list(self.unreadable)}


def checked_name(name: str) -> str:
    """A preset's name on one line, without spaces at its ends. BadRequest when it is empty or too long."""
    name = " ".join(name.split())
    if not name:
        raise BadRequest("The preset has no name", remedy="Type a name for it")
    if len(name) > LONGEST_NAME:
        raise BadRequest(f"The name of the preset has {len(name)} characters", f"the limit is {LONGEST_NAME}")
    return name


def read_presets(path: Path | None = None) -> Loaded[Presets]:
    """Never raises; a file that is damaged, or of a newer program, is set aside. Single presets that are stay in it."""
    path = path or paths.presets_file()
    stored = read_object(path, FORMAT)
    entries = stored.values.get("presets", [])
    why = stored.why or ("" if isinstance(entries, list) else "the list of presets is damaged")
    if why:
        return Loaded(Presets(), set_aside(path, _WHAT, why, "there are none"))
    presets, unreadable, unusable = Presets(), list[Any](), list[str]()
    for entry in entries:
        try:
            preset, defaults = _preset(entry)
            presets = presets.with_preset(preset)
        except (BadRequest, TypeError):
            unreadable.append(entry)
        else:
            unusable += defaults
    named = [str(entry.get("name"))[:LONGEST_NAME] if isinstance(entry, dict) else "?" for entry in unreadable]
    problems = [f"Some presets could not be read and are not offered: {', '.join(named)}."] if named else []
    if unusable:
        problems.append(partly_unreadable("The settings in presets", unusable))
    return Loaded(Presets(presets.presets, tuple(unreadable)), " ".join(problems))


def save_presets(presets: Presets, path: Path | None = None) -> None:
    """StorageProblem when they cannot be written."""
    write_object(path or paths.presets_file(), presets.to_json(), _WHAT)


def _preset(entry: Any) -> tuple[Preset, list[str]]:
    """A stored preset, and what of it became its default. BadRequest or TypeError if it cannot be read."""
    values = StoredValues(as_object(entry))
    name, state = as_text(values.raw("name")), StoredValues(as_object(values.raw("state")))
    preset = Preset(name, PanelState.from_stored(state), values.flag("with_prompts", True, "prompts"))
    return preset, [f"{label} of “{name}”" for label in (*state.unusable, *values.unusable)]
