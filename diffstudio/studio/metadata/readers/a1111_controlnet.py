"""ControlNets in AUTOMATIC1111's infotext, as its ControlNet extension writes them (without the control image)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from diffstudio.studio.requests import ControlNetUse, GenerateRequest, PictureRequest
from diffstudio.studio.requests.choices import PreprocessorName, ResizeName
from diffstudio.studio.requests.control_types import ControlTypeName

_INVERT = "invert (from white bg & black line)"
_MODULES = {
    PreprocessorName.AS_GIVEN: "none",
    PreprocessorName.CANNY: "canny",
    PreprocessorName.SCRIBBLE: _INVERT,
    PreprocessorName.INVERT: _INVERT,
}
_RESIZED = {ResizeName.CROP: "Crop and Resize", ResizeName.PAD: "Resize and Fill", ResizeName.STRETCH: "Just Resize"}
_UNION_TYPES: dict[str, str] = {  # which has no tile and repaint
    ControlTypeName.OPENPOSE: "OpenPose",
    ControlTypeName.DEPTH: "Depth",
    ControlTypeName.SOFT_EDGE: "Soft Edge",
    ControlTypeName.LINES: "Hard Edge",
    ControlTypeName.NORMAL: "Normal Map",
    ControlTypeName.SEGMENT: "Segmentation",
}
_NAME = re.compile(r"ControlNet \d{1,2}")


def fields(request: PictureRequest, details: object) -> dict[str, str]:
    """`ControlNet 0` and so on; `details` is what an image's metadata holds about each, in the same order."""
    if not isinstance(request, GenerateRequest):
        return {}
    known = details if isinstance(details, list) else []
    return {
        f"ControlNet {number}": _text(use, request.resize, known[number] if number < len(known) else {})
        for number, use in enumerate(request.controls)
    }


def _text(use: ControlNetUse, resize: ResizeName, details: object) -> str:
    details = details if isinstance(details, dict) else {}
    name = str(details.get("name") or Path(use.network).stem)
    values = {
        "Module": _MODULES[use.prepare],
        "Model": f"{name} [{details['old_hash']}]" if details.get("old_hash") else name,
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
    if union_type := _UNION_TYPES.get(str(details.get("control_type", use.control_type))):
        values["Union Control Type"] = union_type
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def controlnet_names(names: Iterable[str]) -> list[str]:
    """The names among an infotext's fields that describe a ControlNet."""
    return [name for name in names if _NAME.fullmatch(name)]


def not_imported(details: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """A phrase for each ControlNet, which cannot be imported because its control image is not in the text."""
    return {f"{name}, {values.get('Model', '').partition(' [')[0]}": _usage(values) for name, values in details.items()}


def _usage(values: Mapping[str, str]) -> str:
    """`canny, weight 0.8, from 0.1 to 0.9, without its control image`; of a union ControlNet also the control type."""
    begins, ends = values.get("Guidance Start", "0"), values.get("Guidance End", "1")
    whole = begins in ("0", "0.0") and ends in ("1", "1.0")
    module = values.get("Module", "").partition(" (")[0]
    parts = (
        module,
        values.get("Union Control Type", "").casefold(),
        f"weight {values.get('Weight', '1')}",
        "" if whole else f"from {begins} to {ends}",
        "without its control image",
    )
    return ", ".join(part for part in parts if part)
