"""ControlNets in AUTOMATIC1111's text, as its ControlNet extension writes them; what is read there names no picture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffstudio.studio.requests import ControlNetUse, PictureRequest, PreprocessorName, ResizeName

_MODULES = {
    PreprocessorName.AS_GIVEN: "none",
    PreprocessorName.CANNY: "canny",
    PreprocessorName.SCRIBBLE: "invert (from white bg & black line)",
    PreprocessorName.INVERT: "invert (from white bg & black line)",
}
_RESIZED = {ResizeName.CROP: "Crop and Resize", ResizeName.PAD: "Resize and Fill", ResizeName.STRETCH: "Just Resize"}
_NAME = re.compile(r"ControlNet \d{1,2}")


def fields(request: PictureRequest, told: Any) -> dict[str, str]:
    """`ControlNet 0` and so on; `told` is what a picture's record says of the networks, in the same order."""
    known = told if isinstance(told, list) else []
    resize = getattr(request, "resize", ResizeName.CROP)
    return {
        f"ControlNet {number}": _text(use, resize, known[number] if number < len(known) else {})
        for number, use in enumerate(getattr(request, "controls", ()))
    }


def _text(use: ControlNetUse, resize: ResizeName, told: Any) -> str:
    told = told if isinstance(told, dict) else {}
    name = str(told.get("name") or Path(use.network).stem)
    values = {
        "Module": _MODULES[use.prepare],
        "Model": f"{name} [{told['old_hash']}]" if told.get("old_hash") else name,
        "Weight": f"{use.scale:g}",
        "Resize Mode": _RESIZED[resize],
    }
    if use.prepare is PreprocessorName.CANNY:
        values |= {"Threshold A": str(use.low), "Threshold B": str(use.high)}
    values |= {
        "Guidance Start": f"{use.begins:g}",
        "Guidance End": f"{use.ends:g}",
        "Pixel Perfect": "True",
        "Control Mode": "Balanced",
    }
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def among(names: Iterable[str]) -> list[str]:
    """Those of a text's fields that tell of a ControlNet."""
    return [name for name in names if _NAME.fullmatch(name)]


def lost(told: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What cannot be asked for again, as the picture that steered is not in the text: which network, and how it was used."""
    return {f"{name}, {values.get('Model', '').partition(' [')[0]}": _about(values) for name, values in told.items()}


def _about(values: Mapping[str, str]) -> str:
    """`canny, weight 0.8, from 0.1 to 0.9, without its picture`."""
    begins, ends = values.get("Guidance Start", "0"), values.get("Guidance End", "1")
    whole = begins in ("0", "0.0") and ends in ("1", "1.0")
    module = values.get("Module", "").partition(" (")[0]
    parts = (
        module,
        f"weight {values.get('Weight', '1')}",
        "" if whole else f"from {begins} to {ends}",
        "without its picture",
    )
    return ", ".join(part for part in parts if part)
