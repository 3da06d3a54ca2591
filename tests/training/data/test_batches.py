"""What a step sees depends on the seed and the step alone, and an epoch is every picture once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.batches import Batches, derived_seed
from diffstudio.training.data.dataset import ImageDataset, build_dataset
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.inspect_folder import inspect_folder
from diffstudio.training.data.pixel_choice import choose_pixels
from diffstudio.training.preparation.stored_dataset import StoredDataset
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.data_recipe import MasksName


@pytest.fixture
def pictures(folder: Path, recipe: Recipe, tmp_path: Path) -> ImageDataset:
    *_, report = inspect_folder(folder)
    assert isinstance(report, FolderReport)
    return build_dataset(report, recipe.data, tmp_path / "cache")


@pytest.fixture
def batches(pictures: ImageDataset, recipe: Recipe) -> Batches:
    return Batches(pictures, recipe, CaptionTokenizer.learn(pictures.captions, 300))


def test_a_step_is_the_same_whenever_it_is_asked_for(batches: Batches) -> None:
    first = batches.at(5)
    batches.at(0)
    again = batches.at(5)
    assert torch.equal(first.images, again.images)
    assert first.condition.token_ids is not None and again.condition.token_ids is not None
    assert torch.equal(first.condition.token_ids, again.condition.token_ids)
    assert torch.equal(torch.rand(4, generator=first.generator), torch.rand(4, generator=again.generator))
    assert not torch.equal(first.images, batches.at(6).images)


def test_an_accelerator_augments_its_own_images(pictures: ImageDataset, recipe: Recipe) -> None:
    """The device `meta` stands for one: it refuses tensors of another device, and computes nothing."""
    moved = replace(recipe, data=replace(recipe.data, flips=0.5, rotation_degrees=9.0, translation=0.1))
    batches = Batches(pictures, moved, CaptionTokenizer.learn(pictures.captions, 300))
    batch, expected = batches.at(3, torch.device("meta")), batches.at(3)
    assert batch.images.is_meta and batch.images.shape == expected.images.shape
    assert [value is None or value.is_meta for value in batch.condition] == [True] * len(batch.condition)
    assert torch.equal(batch.generator.get_state(), expected.generator.get_state())


def test_images_kept_on_an_accelerator_are_those_of_the_file(pictures: ImageDataset, batches: Batches) -> None:
    expected = batches.at(3).images
    pictures.keep_on(torch.device("cpu"))
    assert not pictures._kept  # a processor reads them from the file
    pictures.keep_on(torch.device("meta"))
    assert pictures._kept[torch.device("meta")].shape == pictures.images.shape
    assert batches.at(3, torch.device("meta")).images.is_meta
    pictures._kept[torch.device("cpu")] = torch.from_numpy(np.array(pictures.images))
    assert torch.equal(batches.at(3).images, expected)


def test_images_that_take_much_memory_are_not_kept(pictures: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffstudio.models.memory.devices.free_bytes", lambda device: pictures.images.nbytes)
    pictures.keep_on(torch.device("meta"))
    assert not pictures._kept


def test_an_epoch_is_every_training_picture_once_and_no_other(batches: Batches, pictures: ImageDataset) -> None:
    size, batch = len(pictures.training_indices), 8
    seen = [int(index) for step in range(size) for index in batches._indices(step)]  # `batch` epochs
    for epoch in range(batch):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == pictures.training_indices.tolist()
    assert Counter(seen).keys().isdisjoint(pictures.held_out_indices.tolist())
    assert seen[:size] != seen[size : 2 * size]


def test_another_seed_is_another_run(batches: Batches, pictures: ImageDataset, recipe: Recipe) -> None:
    other = Batches(
        pictures, replace(recipe, run=replace(recipe.run, seed=1)), CaptionTokenizer.learn(pictures.captions, 300)
    )
    assert not torch.equal(batches.at(0).images, other.at(0).images)


def test_held_out_pictures_are_whole_and_unmoved(batches: Batches, pictures: ImageDataset) -> None:
    held_out = batches.held_out()
    assert torch.equal(held_out.images, pictures.batch(pictures.held_out_indices))
    assert held_out.condition.augment_labels is None


def test_classes_are_sometimes_left_unsaid(pictures: ImageDataset, recipe: Recipe) -> None:
    by_class = replace(recipe, network=replace(recipe.network, conditioning=Conditioning.CLASS, drop_condition=0.25))
    class_batches = Batches(pictures, by_class, None)
    labels = torch.cat([class_batches.at(step).condition.class_labels for step in range(100)])  # type: ignore[misc]
    assert abs(float((labels == 2).float().mean()) - 0.25) < 0.06
    assert set(labels.tolist()) == {0, 1, 2}


def test_purposes_do_not_share_seeds() -> None:
    seeds = {
        derived_seed(seed, purpose, index) for seed in range(3) for purpose in ("step", "epoch") for index in range(50)
    }
    assert len(seeds) == 300 and all(0 <= seed < 2**63 for seed in seeds)


def test_an_image_with_several_captions_is_seen_with_each_of_them(pictures: ImageDataset, recipe: Recipe) -> None:
    """One at a time, the same in a resumed run, and held-out images with the first."""
    texts = tuple((f"one {number}", f"two {number}") for number in range(len(pictures)))
    several = replace(pictures, alternatives=texts, captions=tuple(first for first, _ in texts))
    plain = replace(recipe, network=replace(recipe.network, drop_condition=0.0))
    tokenizer = CaptionTokenizer.learn(several.all_captions(), 300)
    batches = Batches(several, plain, tokenizer)
    known = {tuple(row) for row in tokenizer.encode([text for both in texts for text in both], 6).tolist()}
    seen = Counter(tuple(row) for step in range(40) for row in _tokens(batches, step))
    assert seen.keys() <= known and len(seen) > len(pictures.training_indices) * 1.8
    assert _tokens(Batches(several, plain, tokenizer), 7) == _tokens(batches, 7)
    held_out = [several.captions[index] for index in several.held_out_indices]
    assert batches.held_out().condition.token_ids is not None
    assert torch.equal(batches.held_out().condition.token_ids, tokenizer.encode(held_out, 6))  # type: ignore[arg-type]


def _tokens(batches: Batches, step: int) -> list[list[int]]:
    tokens = batches.at(step).condition.token_ids
    assert tokens is not None
    return tokens.tolist()


def test_repeats_are_how_often_an_image_is_seen(pictures: ImageDataset, recipe: Recipe) -> None:
    repeats = tuple(3 if number % 2 else 1 for number in range(len(pictures)))
    batches = Batches(replace(pictures, repeats=repeats), recipe, CaptionTokenizer.learn(pictures.captions, 300))
    epoch = sum(repeats[index] for index in pictures.training_indices)
    seen = Counter(int(index) for step in range(epoch) for index in batches._indices(step))  # `batch` epochs
    assert seen == {int(index): 8 * repeats[index] for index in pictures.training_indices}


@pytest.fixture
def photographs(recipe: Recipe, tmp_path: Path) -> tuple[ImageDataset, Recipe]:
    """24 wide images and 8 tall ones, in aspect buckets."""
    for number in range(32):
        Image.new("RGB", (30, 20) if number % 4 else (20, 30), (8 * number, 0, 0)).save(tmp_path / f"{number:02}.png")
    *_, report = inspect_folder(tmp_path)
    assert isinstance(report, FolderReport)
    data, _ = choose_pixels(replace(recipe.data, held_out=0.0), report, 4)
    recipe = replace(recipe, data=data, network=replace(recipe.network, conditioning=Conditioning.NONE))
    return build_dataset(report, data, tmp_path / "cache"), recipe


def test_a_batch_is_of_one_bucket_and_every_image_is_seen_equally_often(
    photographs: tuple[ImageDataset, Recipe],
) -> None:
    dataset, recipe = photographs
    batches, seen = Batches(dataset, recipe, None), Counter[int]()
    for step in range(2400):
        indices = batches._indices(step)
        assert len({tuple(size) for size in dataset.sizes[indices].tolist()}) == 1
        seen.update(indices.tolist())
    mean = 2400 * 8 / 32
    assert len(seen) == 32
    assert max(abs(count - mean) for count in seen.values()) < 0.15 * mean
    wide = [seen[index] for index in range(32) if index % 4]
    assert max(wide) - min(wide) <= 1  # an epoch of a bucket is each of its images once


def test_buckets_are_the_same_for_a_run_that_is_resumed(photographs: tuple[ImageDataset, Recipe]) -> None:
    dataset, recipe = photographs
    first, resumed = Batches(dataset, recipe, None), Batches(dataset, recipe, None)
    uninterrupted = [first._indices(step).tolist() for step in range(1020, 2060)]
    assert [resumed._indices(step).tolist() for step in range(2059, 1019, -1)] == uninterrupted[::-1]
    assert torch.equal(first.at(2050).images, Batches(dataset, recipe, None).at(2050).images)
    assert first.at(2050).images.shape[-2:] in ((12, 20), (20, 12))
    width, height = dataset.size
    shapes = {batch.images.shape[1:] for batch in (first.held_out(), first.training_part())}
    assert shapes == {first.training_images(4).shape[1:]} == {(3, height, width)}  # they are compared


def test_masks_weigh_the_loss_and_move_with_their_images(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Each image is black where its mask is, so that they can be compared after any augmentation."""
    for path in folder.rglob("*.png"):
        half = Image.new("L", (20, 20), 255)
        half.paste(0, (0, 0, 10, 20))
        half.save(path.with_name(f"{path.stem}-masklabel.png"))
        half.convert("RGB").save(path)
    *_, report = inspect_folder(folder)
    assert isinstance(report, FolderReport)
    data = replace(
        recipe.data, masks=MasksName.USE, unmasked_weight=0.25, flips=0.5, translation=0.2, background="#ffffff"
    )
    made = replace(recipe, data=data, network=replace(recipe.network, conditioning=Conditioning.NONE))
    dataset = build_dataset(report, data, tmp_path / "cache")
    stored = StoredDataset.of(dataset, made, folder)
    stored.write(tmp_path / "dataset.json")
    again = StoredDataset.read(tmp_path / "dataset.json")
    assert (
        again is not None
        and again.masked
        and torch.equal(again.among(dataset).batch_with_masks([3]), dataset.batch_with_masks([3]))
    )
    batches = Batches(dataset, made, None)
    flipped = set()
    for batch in (batches.at(0), batches.at(1), batches.held_out().to(torch.device("cpu"))):
        assert batch.pixel_weights is not None and batch.pixel_weights.shape == (len(batch.images), 1, 16, 16)
        expected = ((batch.images.mean(dim=1, keepdim=True) + 1) / 2).clamp(0.25, 1)
        torch.testing.assert_close(batch.pixel_weights, expected)
        flipped |= {bool(weights[0, 8, 1] > 0.9) for weights in batch.pixel_weights}
    assert flipped == {True, False}
