"""What is chosen in the Generate panel, as it is kept from one start of the program to the next.

It is a request, and what a request cannot hold: which values were set by hand, and what is typed but not valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.requests.limits import MOST_CONTROLS, MOST_ENLARGED
from diffstudio.studio.stored_json import write_object
from diffstudio.studio.stored_values import Loaded, StoredValues, as_object, as_text, load

FORMAT = 1
HIRES_FIX = "hires_fix"  # a section that can be open
SIZE = "size"  # width and height, in `set_by_hand`
HAND_SET = frozenset({"steps", "guidance", "sampler", "spacing", SIZE})
_LONGEST_TYPED = 1 << 24  # characters
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
    def from_stored(cls, values: StoredValues) -> PanelState:
        """BadRequest when the request cannot be read."""
        typed = StoredValues(values.read("typed", {}, as_object, "typed texts"))
        state = cls(
            GenerateRequest.from_json(values.raw("request")),
            seed_is_fixed=values.flag("seed_is_fixed", label="whether the seed is fixed"),
            sections_open=frozenset(values.each("sections_open", as_text, "open sections")),
            set_by_hand=frozenset(values.each("set_by_hand", _hand_set, "settings made by hand")),
            typed={name: text for name in _TYPED if (text := typed.read(name, None, _typed)) is not None},
            class_name=values.text("class_name", label="class"),
            hires_scale=values.number("hires_scale", 2.0, 1, MOST_ENLARGED, "scale of the hires fix"),
            hidden_controls=values.each("hidden_controls", ControlNetUse.from_json, "ControlNets")[:MOST_CONTROLS],
        )
        values.unusable += typed.unusable
        return state


def read_state(path: Path | None = None) -> Loaded[PanelState | None]:
    """What was kept of the panel; None at the first start. Never raises; a damaged or newer file is set aside."""
    path = path or paths.panel_state_file()
    return load(path, FORMAT, PanelState.from_stored, None, what=_WHAT, instead="it starts with the defaults")


def save_state(state: PanelState, path: Path | None = None) -> None:
    """StorageProblem when it cannot be written."""
    write_object(path or paths.panel_state_file(), state.to_json(), _WHAT)


def _typed(text: Any) -> str:
    return as_text(text, _LONGEST_TYPED)


def _hand_set(name: Any) -> str:
    if name not in HAND_SET:
        raise ValueError(name)
    return as_text(name)
