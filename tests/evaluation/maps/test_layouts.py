"""Layouts: PCA with what it keeps, and UMAP and PaCMAP where they are installed, seeded and within their limits."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation.maps.layouts import (
    LayoutName,
    check_installed,
    install_command,
    neighbour_layout,
    pca_layout,
)

RNG = np.random.default_rng(2)
FEATURES = np.concatenate([RNG.normal(size=(20, 8)), RNG.normal(size=(20, 8)) + 6]).astype(np.float32)
OTHERS = (LayoutName.UMAP, LayoutName.PACMAP)


class Package:
    """Stands for both packages: keeps what it was asked, and prints as PaCMAP does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: dict[str, Any] = {}
        self.given: np.ndarray = np.zeros(0)
        monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=self.make))
        monkeypatch.setitem(sys.modules, "pacmap", SimpleNamespace(PaCMAP=self.make))

    def make(self, **asked: Any) -> Package:
        self.asked = asked
        return self

    def fit_transform(self, features: np.ndarray, **asked: Any) -> np.ndarray:
        print("Warning: random state is set")
        self.asked |= asked
        self.given = features
        return features[:, :2]


def test_pca_says_how_much_of_the_variance_it_shows() -> None:
    found = pca_layout(np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]]))
    assert "have 90% and 10%" in found.about and found.name is LayoutName.PCA
    np.testing.assert_allclose(found.coordinates, [[3, 0], [-3, 0], [0, 1], [0, -1]], atol=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_missing_is_said_with_the_command_that_brings_it(
    name: LayoutName, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("umap", "pacmap"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadRequest) as raised:
        neighbour_layout(name, FEATURES, 0)
    assert install_command(name) in str(raised.value) and "-m pip install" in str(raised.value)
    check_installed(LayoutName.PCA)


@pytest.mark.parametrize("name", OTHERS)
def test_neighbours_are_as_many_as_there_are(
    name: LayoutName, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = Package(monkeypatch)
    found = neighbour_layout(name, FEATURES, 2**32 + 7)
    assert package.asked["random_state"] == 7 and package.asked["init"] == "pca" and package.given.shape == (40, 8)
    assert found.coordinates.shape == (40, 2) and "(not " not in found.about
    assert not capsys.readouterr().out  # which belongs to the result
    few = neighbour_layout(name, FEATURES[:6], 0)
    assert package.asked["n_neighbors"] == 5 and "5 nearest neighbours" in few.about and "(not " in few.about


@pytest.mark.parametrize("name", OTHERS)
def test_too_few_and_equal_images_are_refused(name: LayoutName, monkeypatch: pytest.MonkeyPatch) -> None:
    Package(monkeypatch)
    with pytest.raises(BadRequest, match="cannot lay out 3 images"):
        neighbour_layout(name, FEATURES[:3], 0)
    with pytest.raises(BadRequest, match="same features"):
        neighbour_layout(name, np.ones((30, 4), np.float32), 0)


@pytest.mark.parametrize(("name", "module"), [(LayoutName.UMAP, "umap"), (LayoutName.PACMAP, "pacmap")])
def test_the_real_packages_keep_groups_apart_and_repeat_themselves(name: LayoutName, module: str) -> None:
    pytest.importorskip(module)
    one, other = neighbour_layout(name, FEATURES, 3).coordinates, neighbour_layout(name, FEATURES, 3).coordinates
    assert np.array_equal(one, other)
    centres = one[:20].mean(axis=0), one[20:].mean(axis=0)
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * max(one[:20].std(), one[20:].std())
