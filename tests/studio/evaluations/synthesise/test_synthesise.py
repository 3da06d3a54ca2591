"""Synthetic images: the same request gives the same folder, copies are left out and counted, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from diffstudio import cli
from diffstudio.errors import BadRequest, Interrupted
from diffstudio.evaluation import classifier
from diffstudio.evaluation.features.feature_network import FeatureNetwork
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.folders.reading import read_generated, read_real
from diffstudio.studio.evaluations.samples import CheckpointSamples
from diffstudio.studio.evaluations.synthesise import prove
from diffstudio.studio.evaluations.synthesise import synthesise as module
from diffstudio.studio.evaluations.synthesise.records import Record, SyntheticFolder
from diffstudio.studio.evaluations.synthesise.request import SynthesiseRequest
from diffstudio.studio.evaluations.synthesise.result import Synthesis
from diffstudio.studio.evaluations.synthesise.synthesise import synthesise
from diffstudio.studio.metadata.full_range import was_generated
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.inspect_folder import inspect_folder
from diffstudio.training.recipe.data_recipe import RangesRecipe
from diffstudio.training.run.run_folder import RunFolder
from tests.studio.evaluations.small_models import COLOURS, RECIPE, write_checkpoint, write_images

COPIED = 7  # seeds that are multiples of it give a training image again


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def pixels(*_: object) -> FeatureNetwork:
        return FeatureNetwork("pixels", 48, "resized to 4 px", lambda images: F.avg_pool2d(images, 4).flatten(1))

    monkeypatch.setattr(module, "feature_network", pixels)
    trained = classifier.train_classifier
    monkeypatch.setattr(prove, "train_classifier", lambda *given, **named: trained(*given, **named, steps=2))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("real"), 60, seed=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "squares.safetensors")


@pytest.fixture
def faithful(monkeypatch: pytest.MonkeyPatch, real: Path) -> Callable[[int], NDArray[Any]]:
    """In place of a trained model: squares of the colour asked for, and now and then a training image."""
    dataset = read_real(real, RECIPE.data, lambda *_: None, lambda: None)

    def image(label: str, seed: int) -> NDArray[Any]:
        if seed % COPIED == 0:
            return np.asarray(dataset.dataset.images[dataset.training[seed % len(dataset.training)]])
        rng = np.random.default_rng(1000 + seed)
        pixels = np.full((16, 16, 3), 255.0)
        top, left = rng.integers(0, 8, 2)
        pixels[top : top + 8, left : left + 8] = COLOURS[label]
        return np.asarray((pixels + rng.normal(size=pixels.shape) * 12).clip(0, 255), np.uint8)

    def batches(
        self: CheckpointSamples,
        prompts: Sequence[str],
        seed: int,
        size: tuple[int, int],
        *,
        seeds: Sequence[int],
        guidance: object,
    ) -> Iterator[NDArray[Any]]:
        for first in range(0, len(prompts), 8):
            self.check()
            part = slice(first, first + 8)
            yield np.stack([image(label, one) for label, one in zip(prompts[part], seeds[part], strict=True)])

    monkeypatch.setattr(CheckpointSamples, "batches", batches)
    return lambda seed: image("red", seed)


def run(request: SynthesiseRequest, **given: Any) -> Synthesis:
    return synthesise(request, Library(), **given)


def request_of(checkpoint: Path, real: Path, out: Path, **changes: Any) -> SynthesiseRequest:
    return SynthesiseRequest(str(checkpoint), real, out, **({"per_class": 12, "device": "cpu"} | changes))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.png"))}


def test_near_copies_are_left_out_and_made_up_for(
    checkpoint: Path, real: Path, tmp_path: Path, faithful: object
) -> None:
    out = tmp_path / "out"
    found = run(request_of(checkpoint, real, out))
    assert (found.made, found.wanted, found.by_label) == (24, 24, {"blue": 12, "red": 12})
    assert len(list((out / "red").glob("*.png"))) == len(list((out / "blue").glob("*.png"))) == 12
    records = lines(out / "records.jsonl")
    left_out = [record for record in records if not record["file"]]
    assert found.left_out == len(left_out) >= 3
    assert {record["seed"] for record in left_out} == {one["seed"] for one in records if one["seed"] % COPIED == 0}
    assert all((real / record["copy_of"]).is_file() and record["ratio"] < 1 for record in left_out)
    assert all(record["seed"] == 2 * record["attempt"] + (record["label"] == "red") for record in records)
    metadata = lines(out / "metadata.jsonl")
    assert len(metadata) == 24 and all((out / one["file_name"]).is_file() for one in metadata)
    assert {(one["label"], one["file_name"].split("/")[0]) for one in metadata} == {("red", "red"), ("blue", "blue")}
    assert "near-copies of training images were left out" in found.text() and len(found.checkpoint_hash) == 64
    assert Synthesis.from_json(json.loads(json.dumps(found.to_json()))).to_json() == found.to_json()


def test_an_ended_request_goes_on_and_gives_the_same_folder(
    checkpoint: Path, real: Path, tmp_path: Path, faithful: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(request_of(checkpoint, real, tmp_path / "whole"))
    request = request_of(checkpoint, real, tmp_path / "ended")

    with pytest.raises(Interrupted):
        run(request, cancelled=lambda: len(list(tmp_path.glob("ended/*/*.png"))) >= 8)
    some = contents(request.out)
    assert 8 <= len(some) < 24 and not (request.out / "metadata.jsonl").exists()
    with (request.out / "records.jsonl").open("a") as file:
        file.write('{"seed": 99')  # a process that was killed
    again = run(request)
    assert contents(request.out) == contents(tmp_path / "whole") and again.left_out == whole.left_out
    assert lines(request.out / "metadata.jsonl") == lines(tmp_path / "whole" / "metadata.jsonl")
    monkeypatch.setattr(CheckpointSamples, "batches", None)  # nothing is left to generate
    assert run(request).to_json() == again.to_json()


def test_it_trains_as_a_folder_of_classes(checkpoint: Path, real: Path, tmp_path: Path, faithful: object) -> None:
    run(request_of(checkpoint, real, tmp_path / "out", per_class=3))
    *_, report = inspect_folder(tmp_path / "out")
    assert isinstance(report, FolderReport)
    assert report.groups == {"blue": 3, "red": 3} and not report.captioned and not report.skipped


def test_captions_lie_beside_the_images_and_are_read_once(real: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "captioned", 40, seed=0, captions=True, classes=False)
    by_text = write_checkpoint(tmp_path / "text.safetensors", Conditioning.TEXT)
    found = run(request_of(by_text, folder, tmp_path / "out", per_class=None, count=5))
    assert found.made == 5 and found.sampling["seed"] == 0
    assert sorted(found.by_label.values()) == [2, 3] and set(found.by_label) == {"a red square", "a blue square"}
    *_, report = inspect_folder(tmp_path / "out")
    assert isinstance(report, FolderReport) and report.captioned == 5
    assert all(record.captions in (("a red square",), ("a blue square",)) for record in report.images)


def test_a_folder_that_holds_something_else_is_left_alone(
    checkpoint: Path, real: Path, tmp_path: Path, faithful: object
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.png").write_bytes(b"mine")
    request = request_of(checkpoint, real, out, per_class=2)
    with pytest.raises(BadRequest, match=r"is not empty: it holds mine.png. .* or give --force to write into it"):
        run(request)
    assert run(replace(request, force=True)).made == 4 and (out / "mine.png").read_bytes() == b"mine"
    with pytest.raises(BadRequest, match="holds synthetic images with other settings: they differ in seed"):
        run(replace(request, seed=1000))
    before = set(contents(out))
    assert run(replace(request, seed=1000, force=True)).made == 4
    assert (out / "mine.png").exists() and not (before - {"mine.png"}) & set(contents(out))
    with pytest.raises(BadRequest, match="they would be mixed with the real ones"):
        run(replace(request, out=real / "more"))


@pytest.mark.parametrize("name", ["metadata.jsonl", "records.jsonl", "settings.json", "synthesise.json"])
def test_files_of_ones_own_are_never_deleted(name: str, tmp_path: Path) -> None:
    theirs = tmp_path / name
    theirs.write_text('{"seed": 3, "label": "", "attempt": 0, "file": "photo.png"}\n')
    (tmp_path / "photo.png").write_bytes(b"mine")
    before = theirs.read_text()
    for force, match in ((False, "is not empty: it holds "), (True, f"would be replaced: {name}")):
        with pytest.raises(BadRequest, match=match):
            SyntheticFolder(tmp_path).open({"checkpoint": "a", "seed": 0}, force)
    assert theirs.read_text() == before and (tmp_path / "photo.png").read_bytes() == b"mine"


def test_only_recorded_images_and_their_captions_are_replaced(tmp_path: Path) -> None:
    tmp_path = tmp_path / "out"
    tmp_path.mkdir()
    folder = SyntheticFolder(tmp_path)
    folder.open({"seed": 0}, False, {"red"})
    (tmp_path / "red").mkdir()
    for name in ("red/000000001.png", "red/000000001.txt", "red/000000002.png", "notes.txt", "000000003.png"):
        (tmp_path / name).write_bytes(b"")
    folder.append([Record(1, "red", 0, "red/000000001.png")])
    with pytest.raises(BadRequest, match=r"red/000000001.txt, red/000000002.png"):
        SyntheticFolder(tmp_path).open({"seed": 1}, True, {"red"})
    assert (tmp_path / "red/000000001.png").exists() and (tmp_path / "records.jsonl").exists()
    for name in ("red/000000001.txt", "red/000000002.png"):
        (tmp_path / name).rename(tmp_path / Path(name).name.replace("0000", "old-"))
    SyntheticFolder(tmp_path).open({"seed": 1}, True, {"red"})
    assert not any((tmp_path / "red").iterdir()) and not (tmp_path / "records.jsonl").exists()
    assert {"notes.txt", "000000003.png"} < {path.name for path in tmp_path.iterdir()}
    captioned = SyntheticFolder(tmp_path)
    captioned.append([Record(7, "a cat", 0, "000000007.png")])
    for suffix in (".png", ".txt"):
        (tmp_path / f"000000007{suffix}").write_bytes(b"")
    (tmp_path / "000000003.png").unlink()
    SyntheticFolder(tmp_path).open({"seed": 2}, True)
    assert not list(tmp_path.glob("000000007.*"))


def test_a_model_that_has_memorised_its_images_is_said_to(
    checkpoint: Path,
    real: Path,
    tmp_path: Path,
    faithful: Callable[[int], NDArray[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = faithful(0)

    def copies(self: object, prompts: Sequence[str], *_: object, **__: object) -> Iterator[NDArray[Any]]:
        yield np.stack([copy] * len(prompts))

    monkeypatch.setattr(CheckpointSamples, "batches", copies)
    found = run(request_of(checkpoint, real, tmp_path / "out", per_class=1))
    assert (found.made, found.left_out) == (0, 48)
    assert "Only 0 of 2 images were kept" in found.notes[-1] and "has memorised them" in found.notes[-1]


def test_the_command_line_makes_the_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[SynthesiseRequest] = []

    def catch(request: SynthesiseRequest, *_: object, **__: object) -> None:
        seen.append(request)
        raise BadRequest("Enough was seen")

    monkeypatch.setattr(module, "synthesise", catch)
    place = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.main(["synthesise", "squares", "50", "photos", *place]) == BadRequest.exit_code
    cli.main(
        ["synthesise", "squares", "photos", "--per-class", "7", "--prove", "--ratios", "1,3", "--cads", "0", *place]
    )
    first = SynthesiseRequest("squares", Path("photos"), tmp_path / "out", 50, device="cpu")
    assert seen == [first, replace(first, count=None, per_class=7, prove=True, ratios=(1.0, 3.0), cads=0.0)]
    assert cli.main(["synthesise", "squares", "5", "photos", "--ratios", "many", *place]) == BadRequest.exit_code


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"per_class": None}, "The number of images is missing"),
        ({"count": 5}, "Two numbers of images were given"),
        ({"per_class": 0}, "The number of synthetic images is 0"),
        ({"seed": -1}, "The first seed is -1"),
        ({"cads": 2.0}, "The CADS scale is 2"),
        ({"autoguidance_scale": 0.5}, "The autoguidance scale is 0.5"),
        ({"seeds": 2}, "The number of classifiers of each kind is 2"),
        ({"ratios": (1.0, -1.0)}, "The ratios are 1, -1"),
        ({"ratios": (1.0, 2.0, 1.0)}, "The ratios are 1, 2, 1: one of them is given twice"),
    ],
)
def test_requests_that_cannot_be(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(BadRequest, match=match):
        request_of(Path("x"), Path("y"), Path("z"), **changes)


def test_what_a_checkpoint_cannot_do(real: Path, tmp_path: Path) -> None:
    unconditional = write_checkpoint(tmp_path / "none.safetensors", Conditioning.NONE)
    with pytest.raises(BadRequest, match="has no classes and no captions"):
        run(request_of(unconditional, real, tmp_path / "a"))
    with pytest.raises(BadRequest, match="is a folder of images"):
        run(request_of(real, real, tmp_path / "b"))
    with pytest.raises(BadRequest, match="CADS cannot be used with"):
        run(request_of(unconditional, real, tmp_path / "c", per_class=None, count=2, cads=0.2))
    with pytest.raises(BadRequest, match="There are too few training images"):
        few = write_images(tmp_path / "few", 2, seed=0)
        run(request_of(unconditional, few, tmp_path / "d", per_class=None, count=2))


def test_what_the_test_for_copies_does_not_know_is_said(
    checkpoint: Path, real: Path, tmp_path: Path, faithful: object
) -> None:
    """Copies of training images that are in another folder are not found, and equal images tell nothing about copies."""
    found = run(request_of(checkpoint, real, tmp_path / "alone", per_class=1))
    assert any("squares is not in the folder of its run" in note for note in found.notes)
    there = RunFolder.create(tmp_path / "run", RECIPE, tmp_path / "other photos")
    (tmp_path / "other photos").mkdir()
    there.latest_checkpoint.parent.mkdir(exist_ok=True)
    there.latest_checkpoint.write_bytes(checkpoint.read_bytes())
    found = run(request_of(there.path, real, tmp_path / "other", per_class=1))
    assert any("near-copies are only looked for among the images of" in note for note in found.notes)
    equal = tmp_path / "equal"
    equal.mkdir()
    for number in range(30):
        Image.new("RGB", (16, 16), "red").save(equal / f"{number}.png")
    with pytest.raises(BadRequest, match=r"The training images of equal cannot be compared with: all \d+ are equal"):
        run(request_of(checkpoint, equal, tmp_path / "none"))


def test_equal_images_and_a_folder_of_other_classes_are_said(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def equal(
        self: CheckpointSamples, prompts: Sequence[str], *args: object, **options: object
    ) -> Iterator[NDArray[Any]]:
        yield np.full((len(prompts), 16, 16, 3), 90, np.uint8)

    monkeypatch.setattr(CheckpointSamples, "batches", equal)
    folder = write_images(tmp_path / "photos", 40, seed=3, classes=False)
    notes = run(request_of(checkpoint, folder, tmp_path / "made", per_class=2)).notes
    assert "All 4 images of made are identical." in notes
    assert any("photos has none of the classes of squares, such as blue: it was probably" in note for note in notes)


def test_a_proof_is_part_of_the_result(checkpoint: Path, real: Path, tmp_path: Path, faithful: object) -> None:
    found = run(request_of(checkpoint, real, tmp_path / "out", prove=True, ratios=(0.5, 5.0)))
    assert found.proof is not None and found.problem is None
    assert [row.name for row in found.proof.rows][:2] == ["real", "real, classic augmentation"]
    assert any("The ratio 5 needs" in note for note in found.proof.notes)
    assert found.proof.sentence in found.text() and found.proof.left_out == found.near_held_out
    assert Synthesis.from_json(json.loads(json.dumps(found.to_json()))).proof == found.proof
    for path in (real / "blue").iterdir():  # not changed: one class alone has nothing to tell apart
        assert path.is_file()


def test_without_classes_the_images_are_there_and_the_proof_is_not(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 40, seed=0, classes=False)
    unconditional = write_checkpoint(tmp_path / "none.safetensors", Conditioning.NONE)
    found = run(request_of(unconditional, folder, tmp_path / "out", per_class=None, count=3, prove=True))
    assert found.made == 3 and found.proof is None and "a classifier needs two classes" in str(found.problem)


def test_synthetic_images_of_12_bits_are_measured_as_bright_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their white is 65,535 and that of the folder 4,095: they were all white."""
    grey = FeatureNetwork("grey", 16, "resized to 4 px", lambda images: F.avg_pool2d(images, 4).flatten(1))
    monkeypatch.setattr(module, "feature_network", lambda *_: grey)
    folder = tmp_path / "real"
    folder.mkdir()
    for number, values in enumerate(np.random.default_rng(0).integers(0, 4096, (40, 16, 16))):
        Image.fromarray(values.astype(np.uint16)).save(folder / f"{number}.png")
    data = replace(RECIPE.data, channels=1, bits=16, ranges=RangesRecipe(uint16=(0.0, 4095.0)))
    deep = write_checkpoint(tmp_path / "deep.safetensors", Conditioning.NONE, recipe=replace(RECIPE, data=data))
    run(request_of(deep, folder, tmp_path / "out", per_class=None, count=3))
    files = sorted((tmp_path / "out").glob("*.png"))
    assert len(files) == 3 and all(map(was_generated, files))
    real = read_real(folder, data, lambda *_: None, lambda: None)
    read = read_generated(tmp_path / "out", real, lambda *_: None, lambda: None).dataset
    stored = np.stack([np.asarray(Image.open(file)) for file in files])
    assert np.array_equal(np.asarray(read.images)[..., 0], stored) and len(np.unique(stored)) > 10
