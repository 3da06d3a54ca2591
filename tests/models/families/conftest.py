"""What the tests of the families share: pairs of diffusers' pipeline and our model, and a picture to begin from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models import small
from tests.models.families.beside import Build, Pair, load


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """diffusers' pipeline and our model from the same folder; each pair is built once."""
    known: dict[str, Pair] = {}

    def made(builder: Callable[..., Any], family: str, **options: Any) -> Pair:
        key = f"{builder.__name__} {options}"
        if key not in known:
            folder = tmp_path_factory.mktemp(family)
            pipeline = builder(folder, **options)
            known[key] = (pipeline, load(folder, family))
        return known[key]

    return made


@pytest.fixture
def image() -> Tensor:
    """[1,3,64,64] in [-1,1]: smooth, so that it is like a picture."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (small.SIDE, small.SIDE), mode="bicubic").clamp(-1, 1)
