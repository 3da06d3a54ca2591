"""What is chosen in the Generate panel, as it is kept from one start of the program to the next.

It is a request, and what a request cannot hold: which values were set by hand, and what is typed but not valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.requests.limits import MOST_CONTROLS, MOST_ENLARGED
from diffstudio.studio.stored_json import read_object, set_aside, write_object

FORMAT = 1
HIRES_FIX = "hires_fix"  # a section that can be open
SIZE = "size"  # width and height, in `set_by_hand`
HAND_SET = frozenset({"steps", "guidance", "sampler", "spacing", SIZE})
_TYPED = ("prompt", "negative", "seed")
_WHAT = "The settings of the Generate room"


@dataclass(frozen=True, slots=True)
class PanelState:
    """Changed with `dataclasses.replace`. Prompts are as typed, with the spaces at their ends."""

    request: GenerateRequest
    seed_is_fixed: bool = False
    sections_open: frozenset[str] = frozenset()
    set_by_hand: frozenset[str] = frozenset()  # of HAND_SET: kept when another checkpoint is chosen
    typed: Mapping[str, str] = field(default_factory=dict)  # `prompt`, `negative`, `seed` that a request would refuse
    class_name: str = ""  # chosen for a checkpoint of classes
    hires_scale: float = 2.0  # of the hires fix while it is off
    hidden_controls: tuple[ControlNetUse, ...] = ()  # that do not fit the checkpoint, but may fit the next one

    def prompts(self) -> tuple[str, str]:
        """The prompt and the negative prompt as typed."""
        return self.typed.get("prompt", self.request.prompt), self.typed.get("negative", self.request.negative)

    def with_prompts_of(self, other: PanelState) -> PanelState:
        """The same settings with the prompts and the class of another state."""
        request = replace(self.request, prompt=other.request.prompt, negative=other.request.negative)
        typed = {name: text for name, text in self.typed.items() if name == "seed"}
        typed |= {name: text for name, text in other.typed.items() if name != "seed"}
        return replace(self, request=request, typed=typed, class_name=other.class_name)

    def without_drawn_seed(self) -> PanelState:
        """The same with seed 0 unless the seed is fixed: a seed that was drawn was not chosen."""
        if self.seed_is_fixed:
            return self
        return replace(self, request=replace(self.request, seed=0))

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "request": self.request.to_json(),
            "seed_is_fixed": self.seed_is_fixed,
            "sections_open": sorted(self.sections_open),
            "set_by_hand": sorted(self.set_by_hand),
            "typed": dict(self.typed),
            "class_name": self.class_name,
            "hires_scale": self.hires_scale,
            "hidden_controls": replace(self.request, controls=self.hidden_controls).to_json()["controls"],
        }

    @classmethod
    def from_json(cls, values: object) -> PanelState:
        """BadRequest when the request cannot be read. Other values of the wrong type become their defaults."""
        values = values if isinstance(values, dict) else {}
        typed, name, scale = values.get("typed"), values.get("class_name"), values.get("hires_scale")
        return cls(
            GenerateRequest.from_json(values.get("request", ())),
            seed_is_fixed=values.get("seed_is_fixed") is True,
            sections_open=_names(values.get("sections_open")),
            set_by_hand=_names(values.get("set_by_hand")) & HAND_SET,
            typed={name: typed[name] for name in _TYPED if isinstance(typed.get(name), str)}
            if isinstance(typed, dict)
            else {},
            class_name=name if isinstance(name, str) else "",
            hidden_controls=_controls(values.get("hidden_controls")),
            hires_scale=float(scale) if isinstance(scale, (int, float)) and 1 <= scale <= MOST_ENLARGED else 2.0,
        )


@dataclass(frozen=True, slots=True)
class LoadedState:
    state: PanelState | None  # None at the first start, or when the file could not be read
    problem: str = ""  # a sentence to show when it could not be read


def read_state(path: Path | None = None) -> LoadedState:
    """What was kept of the panel. Never raises; a file that is damaged, or of a newer program, is set aside."""
    path = path or paths.panel_state_file()
    stored = read_object(path, FORMAT)
    why = stored.why
    if not why and stored.values:
        try:
            return LoadedState(PanelState.from_json(stored.values))
        except BadRequest as error:
            why = str(error).rstrip(".")
    return LoadedState(None, set_aside(path, _WHAT, why, "it starts with the defaults") if why else "")


def save_state(state: PanelState, path: Path | None = None) -> None:
    """StorageProblem when it cannot be written."""
    write_object(path or paths.panel_state_file(), state.to_json(), _WHAT)


def _names(values: object) -> frozenset[str]:
    return frozenset(name for name in values if isinstance(name, str)) if isinstance(values, list) else frozenset()


def _controls(values: object) -> tuple[ControlNetUse, ...]:
    """Those that can be read."""
    found: list[ControlNetUse] = []
    for value in values if isinstance(values, list) else ():
        with suppress(BadRequest):
            found.append(ControlNetUse.from_json(value))
    return tuple(found)[:MOST_CONTROLS]
