"""The recipe that suits a folder, and the sentence that says why."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffstudio.errors import CheckpointMissing, RunProblem
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.folder_report import FOLDER_NAMES, HELD_OUT, FolderReport, ImageRecord
from diffstudio.training.data.inspect_folder import inspect_folder
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe_choice import (
    CROSS_VALIDATED_BELOW_IMAGES,
    FEWEST_TO_SPLIT,
    check_recipe_name,
    choose_recipe,
    named_recipes,
    read_choice,
    without_cross_validation,
)


def reported(folder: Path) -> FolderReport:
    *_, report = inspect_folder(folder)
    assert isinstance(report, FolderReport)
    return report


def test_captions_are_learnt_where_there_are_enough(folder: Path) -> None:
    choice = choose_recipe("auto", reported(folder))
    assert choice.recipe.network.conditioning is Conditioning.TEXT and "aptions" in choice.why
    for caption in list(folder.rglob("*.txt"))[:20]:
        caption.unlink()
    choice = choose_recipe("auto", reported(folder))
    assert choice.recipe.network.conditioning is Conditioning.CLASS and "2 subfolders" in choice.why


def test_short_runs_take_the_small_network_and_accelerators_a_larger(folder: Path) -> None:
    report, recipes = reported(folder), named_recipes()
    tiny = choose_recipe("auto", report, minutes=1, start_from="none")
    assert tiny.recipe.name == recipes["tiny"].name and "1 minute " in tiny.why
    assert choose_recipe("auto", report, minutes=120).recipe.name == recipes["small"].name
    assert choose_recipe("auto", report, accelerator=True).recipe.name == recipes["small"].name  # for few pictures


def test_a_recipe_that_asks_for_less_gets_less(folder: Path, tmp_path: Path) -> None:
    Recipe.from_json({"network": {"conditioning": "none"}}).write(tmp_path / "plain.toml")
    choice = choose_recipe(str(tmp_path / "plain.toml"), reported(folder))
    assert choice.recipe.network.conditioning is Conditioning.NONE


def test_unknown_names_are_told_the_known(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunProblem, match="tiny, small, medium, large"):
        choose_recipe("huge", reported(folder))
    with pytest.raises(RunProblem, match="cannot be read"):
        choose_recipe(str(tmp_path / "nowhere.toml"), reported(folder))


def test_the_reason_for_an_unconditional_network_is_given(folder: Path, tmp_path: Path) -> None:
    disc = folder / "disc"
    captions = sorted(disc.glob("*.txt"))
    for caption in captions[1:]:
        caption.unlink()
    assert "only 1 of 12 images has a caption" in choose_recipe("tiny", reported(disc)).why
    captions[0].unlink()
    assert "there are no captions or classes" in choose_recipe("tiny", reported(disc)).why
    for told, expected in (("none", "the recipe asks for no conditioning"), ("class", "no subfolders")):
        Recipe.from_json({"network": {"conditioning": told}}).write(tmp_path / "told.toml")
        assert expected in choose_recipe(str(tmp_path / "told.toml"), reported(disc)).why


@pytest.mark.parametrize("name", ["auto", "tiny"])
def test_nothing_is_promised_where_no_image_can_be_used(tmp_path: Path, name: str) -> None:
    for number in range(3):
        Image.new("RGB", (640, 20 + number)).save(tmp_path / f"{number}.png")
    assert choose_recipe(name, reported(tmp_path)).why == "With its own settings it can use none of the images."


def test_a_choice_that_was_handed_over_is_not_made_again(folder: Path, tmp_path: Path) -> None:
    choice = choose_recipe("auto", reported(folder))
    changed = replace(choice, recipe=replace(choice.recipe, name="changed"))
    changed.write(tmp_path / "chosen.toml")
    for caption in folder.rglob("*.txt"):  # chosen anew, it would be a network of classes
        caption.unlink()
    check_recipe_name(str(tmp_path / "chosen.toml"))
    assert choose_recipe(str(tmp_path / "chosen.toml"), reported(folder), accelerator=True) == changed
    assert read_choice(tmp_path / "chosen.toml") == changed


def made_up(groups: dict[str, int], captioned: int = 0, sources: dict[str, int] | None = None) -> FolderReport:
    """A report of images in these classes, the first `captioned` of them with a caption."""
    names = [name for name, count in groups.items() for _ in range(count)]
    images = tuple(
        ImageRecord(Path(f"{number}.png"), 64, 64, ("a caption",) if number < captioned else (), name, False)
        for number, name in enumerate(names)
    )
    return FolderReport(Path("p"), images, groups=groups, caption_sources=sources or {})


@pytest.mark.parametrize(
    ("report", "conditioning", "classes", "parts"),
    [
        (made_up({"cat": 5, "dog": 5}), "class", "folders", ["2 subfolders are the classes"]),
        (
            made_up({"cat": 5, "dog": 5}, 10),
            "text",
            "none",
            ["aptions describe", "2 classes of the subfolders are not"],
        ),
        (
            made_up({"cat": 5, "dog": 5}, 3),
            "class",
            "folders",
            ["are the classes", "captions of 3 images are not used"],
        ),
        (made_up({"cat": 5, "dog": 5}, 10, {FOLDER_NAMES: 10}), "class", "folders", ["2 subfolders are the classes."]),
        (made_up({"sks dog": 5}, 5, {FOLDER_NAMES: 5}), "text", "none", ["aptions describe the images."]),
        (
            made_up({str(number): 1 for number in range(300)}),
            "none",
            "none",
            ["300 subfolders are not used as classes, because none of them has more than 1 image."],
        ),
        (made_up({"cat": 5, "dog": 1, "owl": 1}), "none", "none", ["because half of them have no more than 1 image."]),
        (
            made_up({str(number): 1 for number in range(9)}, 1),
            "none",
            "none",
            ["only 1 of 9 images has a caption, and"],
        ),
        (made_up({"": 5}), "none", "none", ["no captions or classes"]),
    ],
)
def test_captions_or_classes_or_neither(
    report: FolderReport, conditioning: str, classes: str, parts: list[str]
) -> None:
    choice = choose_recipe("tiny", report)
    assert choice.recipe.network.conditioning == conditioning
    assert choice.recipe.data.classes == classes
    assert all(part in choice.why for part in parts), choice.why


def test_classes_of_one_image_are_learnt_where_the_recipe_asks_for_classes(tmp_path: Path) -> None:
    Recipe.from_json({"network": {"conditioning": "class"}}).write(tmp_path / "classes.toml")
    report = made_up({str(number): 1 for number in range(9)})
    assert choose_recipe(str(tmp_path / "classes.toml"), report).recipe.network.conditioning is Conditioning.CLASS


def test_only_a_number_of_tokens_set_by_hand_is_fixed(tmp_path: Path) -> None:
    report = made_up({"": 5}, 5)
    assert choose_recipe("tiny", report).fits_captions
    (tmp_path / "short.toml").write_text("[data]\nsize = 32\n")
    assert choose_recipe(str(tmp_path / "short.toml"), report).fits_captions
    (tmp_path / "fixed.toml").write_text("[network]\ntext_tokens = 24\n")
    assert not choose_recipe(str(tmp_path / "fixed.toml"), report).fits_captions
    choose_recipe("tiny", report).write(tmp_path / "chosen.toml")
    assert choose_recipe(str(tmp_path / "chosen.toml"), report).fits_captions


def test_folders_of_every_number_of_channels_start_from_the_starter_and_it_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey, arrays = tmp_path / "grey", tmp_path / "arrays"
    for folder in (grey, arrays):
        folder.mkdir()
    for index in range(12):
        Image.fromarray(rng.integers(0, 255, (20, 20), np.uint8)).save(grey / f"{index}.png")
        np.save(arrays / f"{index}.npy", rng.random((20, 20, 5), np.float32))
    choice = choose_recipe("auto", reported(grey))
    assert choice.recipe.run.start_from == "starter" and choice.recipe.data.channels == 1
    assert "the weights of starter for red, green and blue are combined for grey" in choice.why
    assert "works better" in choice.why
    choice = choose_recipe("auto", reported(arrays))
    assert choice.recipe.run.start_from == "starter"
    assert "on grey and colour images only" in choice.why and "works better" not in choice.why
    choice = choose_recipe("small", reported(arrays), start_from="starter")
    assert choice.recipe.data.channels == 5
    assert "the layers that read and write 5 channels are initialised" in choice.why
    assert "weights" not in choose_recipe("small", reported(grey), start_from="none").why


def of_images(count: int, *, split: str = "") -> FolderReport:
    images = tuple(
        ImageRecord(Path(f"{index:03}.png"), 64, 64, (), "", False, split=split if index < 4 else "")
        for index in range(count)
    )
    return FolderReport(Path("folder"), images)


def test_a_folder_too_small_for_a_held_out_part_is_cross_validated_where_there_is_time() -> None:
    choice = choose_recipe("auto", of_images(24))
    assert choice.recipe.data.cross_splits == 4 and "cross-validation over 4 folds" in choice.why
    assert choose_recipe("small", of_images(24), minutes=30).recipe.data.cross_splits == 4
    without = [
        choose_recipe("auto", of_images(24), minutes=2),
        choose_recipe("auto", of_images(24), cross_validate=False),
        choose_recipe("auto", of_images(CROSS_VALIDATED_BELOW_IMAGES)),
        choose_recipe("auto", of_images(FEWEST_TO_SPLIT - 1)),
        choose_recipe("auto", of_images(24, split=HELD_OUT)),
        choose_recipe("vae", of_images(24)),
    ]
    same = replace(of_images(24), near_duplicates=tuple((Path("000.png"), Path(f"{i:03}.png")) for i in range(1, 24)))
    for choice in (*without, choose_recipe("auto", same)):
        assert choice.recipe.data.cross_splits == 0 and "cross" not in choice.why


@pytest.mark.parametrize(
    ("count", "copies", "said"),
    [
        (1, 0, "with only 1 different image it can hardly do more than repeat it"),
        (50, 49, "with only 1 different image it can hardly do more than repeat it"),
        (11, 0, "with only 11 different images it can hardly do more than repeat them"),
        (12, 0, "works better than training from scratch with 12 images"),
    ],
)
def test_nothing_is_promised_for_a_folder_that_is_too_small(count: int, copies: int, said: str) -> None:
    alike = tuple((Path("000.png"), Path(f"{index:03}.png")) for index in range(1, copies + 1))
    why = choose_recipe("auto", replace(of_images(count), duplicates=alike)).why
    assert said in why and ("works better" in why) == (count == 12)


def test_held_out_images_with_a_near_duplicate_among_the_others_are_said() -> None:
    alike = tuple((Path("000.png"), Path(f"{index:03}.png")) for index in range(1, 30))
    for name in ("auto", "small"):
        why = choose_recipe(name, replace(of_images(90), near_duplicates=alike)).why
        assert "among those that are trained on: the held-out loss will be too low." in why
        assert "too low" not in choose_recipe(name, replace(of_images(90), duplicates=alike)).why


def test_a_run_starts_from_an_included_checkpoint_by_its_name() -> None:
    choice = choose_recipe("small", of_images(60), start_from="four-styles")
    assert choice.recipe.run.start_from == "four-styles" and choice.recipe.network.width == 384
    assert "the weights of four styles · emoji 128, without its upper level;" in choice.why.lower()
    assert "upper level" not in choose_recipe("small", of_images(60), start_from="starter").why
    with pytest.raises(CheckpointMissing, match="`starter`, `four-styles` or `none`"):
        choose_recipe("small", of_images(60), start_from="five-styles")


def test_the_sentence_says_which_checkpoint_a_run_starts_from(tmp_path: Path) -> None:
    assert "it starts from the weights of" in choose_recipe("small", of_images(60), start_from="starter").why.lower()
    for why in (choose_recipe("auto", of_images(60)).why, choose_recipe("small", of_images(60)).why):
        assert "it starts from" not in why.lower()
    recipe = tmp_path / "mine.toml"
    choose_recipe("small", of_images(60), start_from="starter").recipe.write(recipe)
    alike = tuple((Path("000.png"), Path(f"{index:03}.png")) for index in range(1, 30))
    why = choose_recipe(str(recipe), replace(of_images(60), near_duplicates=alike)).why
    assert "it starts from the weights of" in why.lower()
    assert "the held-out loss will be too low" in why  # as with the recipes of the program


def test_of_a_film_the_last_part_is_held_out_and_its_frames_count_as_different_images() -> None:
    frames = [Path(f"{index:03}.png") for index in range(90)]
    report = replace(of_images(90), near_duplicates=tuple(itertools.pairwise(frames)), sequences=(tuple(frames),))
    why = choose_recipe("auto", report).why
    assert "works better" in why  # not: with only 1 different image
    assert "1 held-out image has a near-duplicate" in why and "a little too low" in why
    short = replace(of_images(24), sequences=(tuple(frames[:24]),))
    choice = choose_recipe("auto", short)
    assert choice.recipe.data.cross_splits == 4
    assert "6 images have near-duplicates in another fold: the cross-validated loss will be too low." in choice.why


def test_several_processes_train_without_cross_validation_and_it_is_said() -> None:
    choice = without_cross_validation(choose_recipe("auto", of_images(24)), "Because.")
    assert choice.recipe.data.cross_splits == 0 and choice.why.endswith(" Because.")


@pytest.mark.parametrize("values", [{"cross_splits": 1}, {"cross_splits": 21}, {"cross_splits": -1}])
def test_a_single_split_and_too_many_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(RunProblem, match=r"recipe\.data\.cross_splits"):
        Recipe.from_json({"data": values})
    with pytest.raises(RunProblem, match="only diffusion models"):
        Recipe.from_json({"data": {"cross_splits": 4}, "upper": {"factor": 2}})
