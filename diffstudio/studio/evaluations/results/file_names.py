"""The names of the files and folders that the verbs of the Lab write into the folder of their result. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_IMAGES, _PLAN = "images", "plan.json"
FILES: Mapping[str, tuple[str, ...]] = {  # by verb; `synthesise` examines its folder itself
    "evaluate": ("evaluation.json", _IMAGES),
    "anomalies": ("anomalies.json", "anomalies.csv", "heat maps", "decisions.json", "run", "recipe.toml", _PLAN),
    "attention": ("attention.json", "attention.npz", _IMAGES),
    "compare": ("compare.json", "compare.html", _IMAGES, "plots", "runs", "recipes", "measured", "memory.json", _PLAN),
    "features": ("features.json", "features.npy", "ids.csv", "ids.json"),
    "likelihood": ("likelihood.json",),
    "map": ("map.json", "map-*", _IMAGES),
    "models": ("models.json", "sample-*.png"),
    "restore": ("restore.json", "restored", "mean", "sample"),
    "reverse": ("reverse.json", "image.png", "film.gif", "frames"),
}


def existing(folder: Path, verb: str) -> str:
    """The name of the first file or non-empty folder that a verb would overwrite; empty if there is none."""
    for pattern in FILES.get(verb, ()):
        for path in sorted(folder.glob(pattern)):
            if not path.is_dir() or any(path.iterdir()):
                return path.name
    return ""
