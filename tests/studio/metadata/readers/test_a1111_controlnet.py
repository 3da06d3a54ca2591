"""ControlNets in AUTOMATIC1111's infotext."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffstudio.studio.metadata.readers import a1111_controlnet
from diffstudio.studio.requests import ControlNetUse, GenerateRequest, UpscaleRequest
from diffstudio.studio.requests.choices import PreprocessorName, ResizeName
from diffstudio.studio.requests.control_types import ControlTypeName

CANNY = ControlNetUse(
    "folder/edges.safetensors", Path("a.png"), PreprocessorName.CANNY, 0.8, 0.1, 0.9, low=50, high=150
)


def test_each_is_a_field() -> None:
    request = GenerateRequest(
        init=None, resize=ResizeName.PAD, controls=(CANNY, replace(CANNY, prepare=PreprocessorName.AS_GIVEN))
    )
    details = [{"name": "Edges", "old_hash": "abcd1234"}]
    first, second = a1111_controlnet.fields(request, details).values()
    assert first == (
        "Module: canny, Model: Edges [abcd1234], Weight: 0.8, Resize Mode: Resize and Fill, Threshold A: 50, "
        "Threshold B: 150, Guidance Start: 0.1, Guidance End: 0.9, Pixel Perfect: True, Control Mode: Balanced"
    )
    assert second.startswith("Module: none, Model: edges, Weight: 0.8") and "Threshold" not in second


def test_the_type_of_a_union_controlnet_has_the_extension_s_name() -> None:
    """Chosen, or as it was determined when the image was made. The extension has no tile and no repaint."""
    for control_type, name in (("lines", "Hard Edge"), ("soft_edge", "Soft Edge"), ("segment", "Segmentation")):
        request = GenerateRequest(controls=(CANNY,))
        (text,) = a1111_controlnet.fields(request, [{"control_type": control_type}]).values()
        assert text.endswith(f", Union Control Type: {name}")
    chosen = GenerateRequest(controls=(replace(CANNY, control_type=ControlTypeName.DEPTH),))
    assert "Union Control Type: Depth" in a1111_controlnet.fields(chosen, None)["ControlNet 0"]
    tile = GenerateRequest(controls=(replace(CANNY, control_type=ControlTypeName.TILE),))
    for request, details in ((tile, None), (GenerateRequest(controls=(CANNY,)), [{"control_type": ["lines"]}])):
        assert "Union" not in a1111_controlnet.fields(request, details)["ControlNet 0"]
    values = {"Module": "none", "Model": "union [1]", "Union Control Type": "Hard Edge"}
    assert a1111_controlnet.not_imported({"ControlNet 0": values}) == {
        "ControlNet 0, union": "none, hard edge, weight 1, without its control image"
    }


def test_details_may_be_anything() -> None:
    request = GenerateRequest(controls=(CANNY,))
    for details in (None, "text", [7], [{}]):
        assert "Model: edges," in a1111_controlnet.fields(request, details)["ControlNet 0"]
    assert a1111_controlnet.fields(GenerateRequest(), None) == {}
    assert a1111_controlnet.fields(UpscaleRequest(Path("a.png"), 2.0), None) == {}


def test_what_is_read_is_named_with_its_use() -> None:
    assert a1111_controlnet.controlnet_names(["Steps", "ControlNet 0", "ControlNet 12", "ControlNet 123"]) == [
        "ControlNet 0",
        "ControlNet 12",
    ]
    found = a1111_controlnet.not_imported(
        {
            "ControlNet 0": {"Module": "invert (from white)", "Model": "a [1]", "Weight": "0.5", "Guidance End": "0.5"},
            "ControlNet 1": {"Guidance Start": "0.0", "Guidance End": "1.0"},
        }
    )
    assert found == {
        "ControlNet 0, a": "invert, weight 0.5, from 0 to 0.5, without its control image",
        "ControlNet 1, ": "weight 1, without its control image",
    }
