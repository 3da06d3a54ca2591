"""Maps of real folders and small checkpoints: what is a point of what, the same for the same seed, and bad input."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image
from sklearn import manifold
from torch import Tensor

from diffstudio.errors import BadRequest, FolderProblem, Interrupted, RunProblem
from diffstudio.evaluation.features.feature_network import FeatureNetwork
from diffstudio.evaluation.maps.layouts import Layout, LayoutName
from diffstudio.imaging.reader import read_size
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.image_map import image_map as module
from diffstudio.studio.evaluations.image_map.image_map import RESULT, image_map
from diffstudio.studio.evaluations.image_map.request import LAYOUTS, MapRequest
from diffstudio.studio.evaluations.image_map.result import MapResult, PartKind
from tests.studio.evaluations.small_models import write_checkpoint, write_images


def quarters(images: Tensor) -> Tensor:
    """Stands for a feature network: the mean of each channel in each quarter of an image."""
    return F.adaptive_avg_pool2d(images, 2).flatten(1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    network = FeatureNetwork("quarters", 12, "as they are", quarters)
    monkeypatch.setattr(module, "feature_network", lambda *arguments: network)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("real"), 24, seed=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "squares.safetensors")


def run(*subjects: Path, folder: Path, **options: Any) -> MapResult:
    request = MapRequest(tuple(map(str, subjects)), folder, **({"count": 6, "device": "cpu"} | options))
    return image_map(request, Library())


def test_training_held_out_and_samples_are_parts_of_one_map(checkpoint: Path, real: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = run(checkpoint, folder=real, out=out, seed=5)
    training, held_out, samples = found.parts
    assert [part.kind for part in found.parts] == [PartKind.TRAINING, PartKind.HELD_OUT, PartKind.SAMPLES]
    assert len(training) + len(held_out) == 24 and len(samples) == 6
    assert set(training.names).isdisjoint(held_out.names) and all((real / name).is_file() for name in training.names)
    assert samples.seeds == (5, 6, 7, 8, 9, 10) and set(samples.labels) == {"red", "blue"} == set(training.classes)
    assert all(read_size(out / name) == (16, 16) for name in samples.names)
    assert Path(samples.checkpoint) == checkpoint.resolve()
    (layout,) = found.layouts
    assert layout.coordinates.shape == (30, 2) and layout.judged == 30
    red = np.array([name == "red" for part in (training, held_out) for name in part.classes])
    distances = np.linalg.norm(layout.coordinates[:24, None] - layout.coordinates[None, :24], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (red[distances.argmin(axis=1)] == red).mean() > 0.9  # images of one colour lie together


def test_a_result_is_read_back_and_its_plots_are_beside_it(checkpoint: Path, real: Path, tmp_path: Path) -> None:
    found = run(checkpoint, folder=real, out=tmp_path)
    values = json.loads((tmp_path / RESULT).read_text(encoding="utf-8"))
    back = MapResult.from_json(values, "it")
    np.testing.assert_allclose(back.layouts[0].coordinates, found.layouts[0].coordinates, rtol=1e-5, atol=1e-8)
    assert back.parts == found.parts and back.layouts[0].trusted() == found.layouts[0].trusted()
    assert read_size(tmp_path / "map-pca.png") == (1440, 1120) and "<svg" in (tmp_path / "map-pca.svg").read_text()
    rows = list(csv.DictReader((tmp_path / "map-pca.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 30 and rows[-1]["name"] == "seed 5" and rows[0]["group"] == "Training images"
    assert float(rows[3]["x"]) == pytest.approx(found.layouts[0].coordinates[3, 0], rel=1e-5)
    assert "30 images by the features of quarters" in found.text() and "squares" in found.text()


def test_the_same_seed_gives_the_same_map_and_another_seed_other_samples(checkpoint: Path, real: Path) -> None:
    one, again, other = (run(checkpoint, folder=real, seed=seed).layouts[0].coordinates for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_trustworthiness_is_that_of_the_features_or_of_some_of_them(
    checkpoint: Path, real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    true = module.pca_layout
    monkeypatch.setattr(module, "pca_layout", lambda features: true(kept.append(features) or features))
    layout = run(checkpoint, folder=real).layouts[0]
    expected = manifold.trustworthiness(kept[0], layout.coordinates, n_neighbors=10)
    assert layout.trustworthiness == pytest.approx(expected)
    monkeypatch.setattr(module, "JUDGED", 21)
    some = run(checkpoint, folder=real).layouts[0]
    assert some.judged == 21 and "21 of 30 images, evenly spaced" in some.trusted()


def test_a_folder_alone_and_beside_another_one(real: Path, tmp_path: Path) -> None:
    made = write_images(tmp_path / "made", 5, seed=9)
    (made / "red" / "copy.png").write_bytes(sorted((real / "red").glob("*.png"))[0].read_bytes())
    alone, both = run(folder=real), run(made, folder=real, most=10)
    assert [part.kind for part in alone.parts] == [PartKind.IMAGES] and len(alone.parts[0]) == 24
    assert [part.kind for part in both.parts] == [PartKind.IMAGES, PartKind.FOLDER]
    assert len(both.parts[0]) == 10 and both.parts[0].available == 24 and len(both.parts[1]) == 6
    assert any("1 of 6 images of made is also in" in note for note in both.notes)
    assert any("same features" in note for note in run(made, folder=real).notes)
    assert "10 of 24" in both.text()


def test_without_a_folder_for_the_result_samples_are_not_kept(checkpoint: Path, real: Path) -> None:
    assert set(run(checkpoint, folder=real).parts[2].names) == {""}


def test_captions_are_shown_where_there_are_any(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "captioned", 12, seed=0, captions=True, classes=False)
    by_text = write_checkpoint(tmp_path / "text.safetensors", Conditioning.TEXT)
    training, _, samples = run(by_text, folder=folder).parts
    assert "a red square" in training.labels and training.classes == ()
    assert "a red square" in samples.labels and samples.classes == ()
    unconditional = write_checkpoint(tmp_path / "none.safetensors", Conditioning.NONE)
    assert run(unconditional, folder=folder).parts[2].labels == ()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_folder_of_very_few_images_is_a_map_with_a_warning(tmp_path: Path, count: int) -> None:
    found = run(folder=write_images(tmp_path / "few", count, seed=0))
    assert found.count == count and np.isfinite(found.layouts[0].coordinates).all()
    assert found.layouts[0].trustworthiness is None
    assert any("few for a map" in note or "the map is a single point" in note for note in found.notes)


def test_equal_images_lie_on_one_point_and_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "equal"
    folder.mkdir()
    for number in range(8):
        Image.new("RGB", (16, 16), "red").save(folder / f"{number}.png")
    found = run(folder=folder)
    assert not found.layouts[0].coordinates.any() and found.layouts[0].trustworthiness is None
    assert any("have the same features, so the map is a single point" in note for note in found.notes)
    assert "needs at least" in found.layouts[0].trusted()


def test_other_layouts_come_beside_the_pca_and_say_when_they_cannot(
    real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_installed", lambda name: None)

    def layout(name: LayoutName, features: Any, seed: int) -> Layout:
        if name is LayoutName.PACMAP:
            raise BadRequest("PaCMAP cannot lay out these images", "all of them are equal")
        return Layout(name, np.asarray(features[:, :2], np.float64) + seed, "About it.")

    monkeypatch.setattr(module, "neighbour_layout", layout)
    found = run(folder=real, layout="all", seed=3)
    assert [one.name for one in found.layouts] == ["pca", "umap"]
    assert any("PaCMAP cannot lay out" in note for note in found.notes)


def test_a_package_that_is_missing_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(BadRequest, match="UMAP is not installed.*pip install umap-learn"):
        run(folder=tmp_path / "nowhere", layout="umap")


def test_what_cannot_be_asked_is_refused_by_name(real: Path, tmp_path: Path) -> None:
    for options, words in (
        ({"count": 0}, "number of samples is 0"),
        ({"most": 20_001}, "images of a part is 20001"),
        ({"seed": -1}, "seed is -1"),
        ({"layout": "tsne"}, "no layout called 'tsne'"),
    ):
        with pytest.raises(BadRequest, match=words):
            MapRequest((), real, **options)  # type: ignore[arg-type]
    assert "all" in LAYOUTS and MapRequest((), real, layout="pacmap").others == (LayoutName.PACMAP,)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderProblem):
        run(folder=tmp_path / "empty")
    with pytest.raises(BadRequest, match="inside the folder of images"):
        run(folder=real, out=real / "map")


def test_it_stops_when_it_is_cancelled(real: Path) -> None:
    with pytest.raises(Interrupted):
        image_map(MapRequest((), real, device="cpu"), Library(), cancelled=lambda: True)


def test_a_damaged_result_is_refused(real: Path, tmp_path: Path) -> None:
    run(folder=real, out=tmp_path / "out")
    text = (tmp_path / "out" / RESULT).read_text(encoding="utf-8")
    values = json.loads(text)
    with pytest.raises(RunProblem, match="format 99"):
        MapResult.from_json(values | {"format": 99}, "The map")
    broken = json.loads(text)
    broken["layouts"][0]["x"].pop()
    with pytest.raises(ValueError):
        MapResult.from_json(broken, "The map")
    broken = json.loads(text)
    broken["layouts"][0]["x"][0] = float("nan")
    with pytest.raises(ValueError, match="not a point for each of 24"):
        MapResult.from_json(broken, "The map")
    broken = json.loads(text)
    broken["parts"][0]["labels"].pop()
    with pytest.raises(ValueError, match="23 labels for 24 images"):
        MapResult.from_json(broken, "The map")
    with pytest.raises(ValueError, match="no layout"):
        MapResult.from_json(values | {"layouts": []}, "The map")
