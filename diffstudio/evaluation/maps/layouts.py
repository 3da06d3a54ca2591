"""Two-dimensional layouts of features: PCA, and UMAP and PaCMAP if they are installed."""

from __future__ import annotations

import contextlib
import shlex
import sys
import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from diffstudio.errors import BadRequest
from diffstudio.evaluation.features.feature_arrays import Features
from diffstudio.evaluation.maps.principal import Components, principal_components
from diffstudio.plurals import count_of

FEWEST = 5  # images that UMAP and PaCMAP need
_COMPONENTS = 50  # principal components that they start from
_UMAP_NEIGHBOURS, _PACMAP_NEIGHBOURS = 15, 10  # the defaults of the packages


class LayoutName(StrEnum):
    PCA = "pca"
    UMAP = "umap"
    PACMAP = "pacmap"


TITLES = {LayoutName.PCA: "PCA", LayoutName.UMAP: "UMAP", LayoutName.PACMAP: "PaCMAP"}
PACKAGES = {LayoutName.UMAP: "umap-learn", LayoutName.PACMAP: "pacmap"}  # extra packages


@dataclass(frozen=True, slots=True)
class Layout:
    name: LayoutName
    coordinates: Features  # [N,2]
    about: str  # a sentence


def pca_layout(features: ArrayLike) -> Layout:
    """The two principal components of features [N,D]."""
    found = principal_components(features)
    first, second = (f"{share:.0%}" for share in found.shares)
    return Layout(
        LayoutName.PCA,
        found.coordinates,
        f"The first two principal components have {first} and {second} of the variance of the features. Distances on the "
        "map are never larger than in the features.",
    )


def neighbour_layout(name: LayoutName, features: ArrayLike, seed: int) -> Layout:
    """A layout of features [N,D] that keeps neighbours together, computed from their first principal components.

    It is reproducible for the same seed and version of the package. BadRequest if the package is not installed (with the
    command that installs it), for fewer than FEWEST images, and if all features are equal.
    """
    check_installed(name)
    whole = principal_components(features, min(_COMPONENTS, np.shape(features)[1]))
    number = len(whole.coordinates)
    if number < FEWEST:
        raise BadRequest(
            f"{TITLES[name]} cannot lay out {count_of(number, 'image')}",
            f"it needs at least {FEWEST}",
            "Use PCA, or add images",
        )
    if not whole.shares[0]:
        raise BadRequest(f"{TITLES[name]} cannot lay out these images", "all of them have the same features")
    wanted = _UMAP_NEIGHBOURS if name is LayoutName.UMAP else _PACMAP_NEIGHBOURS
    neighbours = min(wanted, number - 1)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        coordinates = (_umap if name is LayoutName.UMAP else _pacmap)(whole, neighbours, seed)
    fewer = f" (not {wanted}, because there are too few images)" if neighbours < wanted else ""
    return Layout(
        name,
        np.asarray(coordinates, np.float64),
        f"Keeps the {neighbours} nearest neighbours of each image together{fewer}. Distances between groups and their sizes "
        "mean little.",
    )


def check_installed(name: LayoutName) -> None:
    """BadRequest if the package of a layout is not installed, with the command that installs it."""
    try:
        if name is LayoutName.UMAP:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImportWarning)
                import umap  # noqa: F401
        elif name is LayoutName.PACMAP:
            import pacmap  # noqa: F401
    except ImportError as error:
        raise BadRequest(
            f"{TITLES[name]} is not installed",
            f"it is in the extra package {PACKAGES[name]}: `{install_command(name)}`",
            "Install it, or choose another layout",
        ) from error


def install_command(name: LayoutName) -> str:
    return f"{shlex.quote(sys.executable)} -m pip install {PACKAGES[name]}"


def _umap(whole: Components, neighbours: int, seed: int) -> ArrayLike:
    """UMAP, McInnes et al. 2018 (arXiv 1802.03426), initialised with PCA."""
    import umap

    layout = umap.UMAP(n_components=2, n_neighbors=neighbours, init="pca", random_state=_seed(seed), n_jobs=1)
    found: ArrayLike = layout.fit_transform(whole.coordinates.astype(np.float32))
    return found


def _pacmap(whole: Components, neighbours: int, seed: int) -> ArrayLike:
    """PaCMAP, Wang et al. 2021 (arXiv 2012.04456), initialised with PCA."""
    import pacmap

    layout = pacmap.PaCMAP(n_components=2, n_neighbors=neighbours, random_state=_seed(seed), apply_pca=False)
    found: ArrayLike = layout.fit_transform(whole.coordinates.astype(np.float32), init="pca")
    return found


def _seed(seed: int) -> int:
    return seed % 2**32
