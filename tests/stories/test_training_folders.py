"""Folders as people have them, trained on: splits, classes, long captions, one image, and runs of earlier versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from PIL import Image

from diffstudio.models.families import pixel_file
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.left_out import write_left_out
from diffstudio.training.loop import train
from diffstudio.training.recipe.data_recipe import ClassesName
from diffstudio.training.recipe.recipe import read_table
from diffstudio.training.run.events import RunStarted
from diffstudio.training.run.run_folder import RunFolder

SMALL = {
    "data": {"size": 16, "held_out": 0.1},
    "network": {"patch": 4, "margin": 1, "bottleneck": 8, "width": 16, "depth": 1, "heads": 1, "condition_width": 16},
    "optimiser": {"warm_up_steps": 2, "ema": 0.5},
    "run": {
        "steps": 2,
        "batch": 4,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "sample_count": 2,
        "sample_steps": 1,
    },
}


@pytest.fixture
def trained(tmp_path: Path) -> Callable[[Path], tuple[RunFolder, str]]:
    """Trains two steps on a folder; the run, and why it is as it is."""
    recipe = tmp_path / "small.toml"
    recipe.write_text(tomli_w.dumps(SMALL))

    def run(folder: Path) -> tuple[RunFolder, str]:
        started: list[RunStarted] = []
        done = train(
            tmp_path / "runs" / folder.name,
            folder,
            recipe=str(recipe),
            on_event=lambda event: started.append(event) if isinstance(event, RunStarted) else None,
        )
        return done, started[0].why

    return run


def write(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((20, 20)).save(path)
    return folder


def test_splits_and_classes_reach_the_checkpoint_and_an_earlier_run_keeps_its_own(
    trained: Callable[[Path], tuple[RunFolder, str]], tmp_path: Path
) -> None:
    names = [f"data/{split}/{kind}/{n}" for split in ("train", "val") for kind in ("cat", "dog") for n in range(4)]
    folder = write(tmp_path / "pets", [*names, "@eaDir/thumb", "data/train/cat/gone"])
    write_left_out(folder, [Path("data/train/cat/gone.png")])
    run, why = trained(folder)
    assert "2 subfolders are the classes" in why and "The folders train and val are kept apart" in why
    assert "Left out by name, or in the Train room: 2 (@eaDir: kept there by another program, …)." in why
    recipe = run.recipe()
    assert recipe.network.conditioning is Conditioning.CLASS and recipe.data.classes is ClassesName.FOLDERS
    checkpoint = read_checkpoint(run.latest_checkpoint)
    assert checkpoint.classes == ("cat", "dog")
    assert pixel_file.load(checkpoint) is not None

    values = read_table(run.recipe_file)
    del values["data"]["classes"]  # as version 0.2 wrote it, which knew the first subfolder alone
    run.recipe_file.write_text(tomli_w.dumps(values))
    assert run.recipe().data.classes is ClassesName.FIRST_FOLDER


def test_a_network_reads_as_many_tokens_as_the_captions_have(
    trained: Callable[[Path], tuple[RunFolder, str]], tmp_path: Path
) -> None:
    folder = write(tmp_path / "things", [str(number) for number in range(6)])
    for number in range(6):
        words = " ".join(f"word{number}x{index}" for index in range(30))
        (folder / f"{number}.txt").write_text(f"{words}\nshort {number}")
    run, why = trained(folder)
    network = run.recipe().network
    assert network.conditioning is Conditioning.TEXT and 30 <= network.text_tokens <= 128
    assert "they are truncated" in why if network.text_tokens == 128 else "they are truncated" not in why
    words_known = read_checkpoint(run.latest_checkpoint).json("captions")["words"]
    assert "short" in words_known and "word3x7" in words_known


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["only"], "no captions or classes"),
        ([f"{number:02}/a" for number in range(12)], "12 subfolders are not used as classes"),
    ],
    ids=["one image", "classes of one image"],
)
def test_tiny_folders_train_and_say_the_truth(
    trained: Callable[[Path], tuple[RunFolder, str]], tmp_path: Path, names: list[str], said: str
) -> None:
    run, why = trained(write(tmp_path / "few", names))
    assert said in why and run.recipe().network.conditioning is Conditioning.NONE
