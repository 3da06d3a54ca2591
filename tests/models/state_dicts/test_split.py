"""Published checkpoints in full size, by their headers: every tensor of every component finds its place, there and
back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from diffstudio import paths
from diffstudio.models.components.components import FolderComponents, empty_module
from diffstudio.models.files.lazy_tensor import lazy
from diffstudio.models.state_dicts.prefixes import unused_for_inference
from diffstudio.models.state_dicts.split import join_components, split_components
from diffstudio.models.state_dicts.to_original import to_original
from diffstudio.models.tools.export import component_class
from tests.models import headers

FAMILIES = ("sd1", "sd2", "sdxl", "sdxl_refiner")


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Described, and never there."""

    def nothing() -> torch.Tensor:
        raise AssertionError("no weight is needed for this")

    return {name: lazy(shape, torch.float16, nothing) for name, shape in shapes.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_component_is_whole(family: str) -> None:
    parts = FolderComponents(Path(paths.resources() / "families" / family))
    found = split_components(tensors(headers.whole(family)), family, parts.config)
    for part, state in found.items():
        module = empty_module(component_class(parts.config(part)), parts.config(part))
        expected = {name.removeprefix("text_model."): tuple(value.shape) for name, value in module.state_dict().items()}
        assert {name.removeprefix("text_model."): tuple(value.shape) for name, value in state.items()} == expected, part
    assert set(found) == {
        part for part in ("unet", "vae", "text_encoder", "text_encoder_2") if (parts.folder / part).is_dir()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back(family: str) -> None:
    parts = FolderComponents(Path(paths.resources() / "families" / family))
    there = split_components(tensors(headers.whole(family)), family, parts.config)
    original = to_original(family, there)
    shapes = {name: shape for name, shape in headers.whole(family).items() if not name.endswith("logit_scale")}
    unread = {
        name for name in shapes if family == "sd2" and (".resblocks.23." in name or name.endswith("text_projection"))
    }
    assert {name: tuple(value.shape) for name, value in original.items()} == {
        name: shape for name, shape in shapes.items() if name not in unread
    }
    again = split_components(original, family, parts.config)
    by_diffusers = split_components(join_components(there), family, parts.config)
    for part, state in there.items():
        assert state.keys() == again[part].keys() == by_diffusers[part].keys()


def test_what_draws_is_no_unused_for_inference() -> None:
    for family in FAMILIES:
        assert not [name for name in headers.whole(family) if unused_for_inference(name)]
    assert not [
        name for name in (*headers.bfl_flux(), *headers.mmdit_sd3(), *headers.openclip()) if unused_for_inference(name)
    ]
