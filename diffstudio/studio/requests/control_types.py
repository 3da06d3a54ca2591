"""The types of control image that a union ControlNet takes, by the names of xinsir's controlnet-union-sdxl-1.0."""

from __future__ import annotations

from enum import StrEnum


class ControlTypeName(StrEnum):
    """What a control image shows. The names of its makers, of diffusers, ComfyUI and A1111 are read too (`_OTHERS`)."""

    AUTO = "auto"  # what the preprocessor makes
    OPENPOSE = "openpose"
    DEPTH = "depth"
    SOFT_EDGE = "soft_edge"  # HED, PiDiNet, TED, scribbles
    LINES = "lines"  # Canny, lineart, anime lineart, MLSD
    NORMAL = "normal"
    SEGMENT = "segment"
    TILE = "tile"  # from here on of ProMax alone
    REPAINT = "repaint"  # inpainting: what is to be made anew is black

    @classmethod
    def _missing_(cls, value: object) -> ControlTypeName | None:
        """The type of another name, in any case, with blanks or hyphens."""
        if not isinstance(value, str):
            return None
        plain = value.strip().casefold().replace(" ", "_").replace("-", "_")
        return next((one for one in cls if plain == one.value or plain in _OTHERS.get(one, ())), None)


_OTHERS = {
    ControlTypeName.OPENPOSE: ("pose",),
    ControlTypeName.SOFT_EDGE: ("hed/pidi/scribble/ted", "hed", "pidi", "scribble", "ted", "softedge"),
    ControlTypeName.LINES: (
        "canny/lineart/anime_lineart/mlsd",
        "canny",
        "lineart",
        "anime_lineart",
        "mlsd",
        "hard_edge",
    ),
    ControlTypeName.NORMAL: ("normal_map", "normalmap"),
    ControlTypeName.SEGMENT: ("segmentation",),
    ControlTypeName.REPAINT: ("inpaint",),
}
CONTROL_TYPES = tuple(ControlTypeName)[1:]  # in the order of a union's rows
