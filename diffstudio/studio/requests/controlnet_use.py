"""How a request uses a ControlNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest
from diffstudio.studio.requests.checks import check_range, check_text, check_types, named
from diffstudio.studio.requests.choices import PreprocessorName
from diffstudio.studio.requests.control_types import ControlTypeName
from diffstudio.studio.requests.json_values import FORMAT, created, known_values, with_paths
from diffstudio.studio.requests.limits import HIGHEST_THRESHOLD


@dataclass(frozen=True, slots=True)
class ControlNetUse:
    """A ControlNet and the control image it is given."""

    network: str  # a name from the library, or a path
    image: Path
    prepare: PreprocessorName = PreprocessorName.AS_GIVEN  # the preprocessor
    scale: float = 1.0  # conditioning scale
    begins: float = 0.0  # the fraction of the steps at which it starts to act
    ends: float = 1.0  # and at which it stops
    low: int = 100  # Canny thresholds: a gradient below `low` is not an edge;
    high: int = 200  # above `high` it is one; in between it is where it continues another
    control_type: ControlTypeName = ControlTypeName.AUTO  # of the image, for a union ControlNet

    def __post_init__(self) -> None:
        object.__setattr__(self, "prepare", named(PreprocessorName, "preprocessor", self.prepare))
        object.__setattr__(self, "control_type", named(ControlTypeName, "control type", self.control_type))
        check_types(self)
        check_text("The ControlNet", self.network)
        check_range("The conditioning scale of a ControlNet", self.scale, 0.0, 4.0)
        check_range("The start of a ControlNet", self.begins, 0.0, 1.0)
        check_range("The end of a ControlNet", self.ends, 0.0, 1.0)
        check_range("The lower Canny threshold", self.low, 0, HIGHEST_THRESHOLD)
        check_range("The upper Canny threshold", self.high, 0, HIGHEST_THRESHOLD)
        if self.begins >= self.ends:
            raise BadRequest(
                f"A ControlNet starts at {self.begins:g} of the steps and ends at {self.ends:g}",
                remedy="It must end after it starts",
            )
        if self.low > self.high:
            raise BadRequest(
                f"The lower Canny threshold, {self.low}, is above the upper one, {self.high}", remedy="Swap them"
            )

    @classmethod
    def from_json(cls, values: object) -> ControlNetUse:
        known = known_values(cls, {"format": FORMAT} | values) if isinstance(values, dict) else {}
        return created(cls, {"image": Path()} | with_paths(known, "image"))
