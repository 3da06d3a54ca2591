"""A U-Net that was trained here, wherever a checkpoint can be used: generating, measuring, restoring, explaining."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio import cli
from diffstudio.errors import BadRequest, RunProblem
from diffstudio.models import loading
from diffstudio.models.families import pixel_file
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory.estimate import estimate
from diffstudio.models.tools.convert import convert
from diffstudio.models.tools.merge import merge
from diffstudio.models.tools.spec import Precision, ToolResult
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.networks.unet import PixelUNet
from diffstudio.training.network_sizes.recipe_size import size_problem
from diffstudio.training.objectives.diffusion import build_network
from diffstudio.training.preparation.starting_point import starting_point
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.network_recipe import NetworkName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_choice import choose_recipe
from diffstudio.training.recipe_from_checkpoint import started_from
from diffstudio.training.trainer import Trainer
from diffstudio.ui.generate.labels import summary_of
from diffstudio.ui.generate.sections.size import limits_of
from diffstudio.ui.models.model_info import type_text
from tests.models.sampled import sample
from tests.models.tiny import write_tiny_checkpoint, write_tiny_unet
from tests.studio.evaluations.small_models import UNET, write_checkpoint, write_images
from tests.training.conftest import write_pictures


@pytest.fixture
def model(tmp_path: Path) -> PixelModel:
    model = loading.load(read_checkpoint(write_tiny_unet(tmp_path / "tiny.safetensors")), torch.device("cpu"))
    assert isinstance(model, PixelModel) and isinstance(model.network, PixelUNet)
    return model


def made(model: PixelModel, **changes: object) -> torch.Tensor:
    *_, last = sample(model, **{"prompts": ["red apple"], "seeds": [0], "steps": 3} | changes)
    return last.x


def generated(*arguments: str) -> np.ndarray:
    assert cli.main(["generate", *arguments, "--steps", "3"]) == 0
    return np.asarray(Image.open(arguments[arguments.index("--out") + 1]).convert("RGB")).astype(int)


def test_prompt_guidance_negative_prompt_and_batch_count(model: PixelModel) -> None:
    image = made(model)
    assert torch.equal(image, made(model)) and not torch.equal(image, made(model, seeds=[1]))
    assert not torch.equal(image, made(model, prompts=["rocket"]))
    assert not torch.equal(image, made(model, guidance=1.0))
    negative = model.encode_prompt("red apple", "purple heart")
    assert not torch.equal(image, made(model, conditioning=negative))
    assert torch.equal(made(model, guidance=0.0), made(model, prompts=["rocket"], guidance=0.0))
    batch = made(model, prompts=["red apple"] * 2, seeds=[1, 0])
    torch.testing.assert_close(batch[1:], image, rtol=0, atol=1e-4)


def test_images_on_the_command_line_from_an_image_and_in_a_mask(tmp_path: Path) -> None:
    path = str(write_tiny_unet(tmp_path / "tiny.safetensors"))
    Image.new("RGB", (16, 16), (200, 40, 90)).save(tmp_path / "given.png")
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (0, 0, 8, 16))
    mask.save(tmp_path / "mask.png")
    common = ["red apple", "--checkpoint", path, "--out"]
    given = ["--init", str(tmp_path / "given.png")]
    text = generated(*common, str(tmp_path / "a.png"))
    weak = generated(*common, str(tmp_path / "b.png"), *given, "--strength", "0.5")
    inpainted = generated(*common, str(tmp_path / "c.png"), *given, "--mask", str(tmp_path / "mask.png"))
    assert text.shape == (16, 16, 3) and np.abs(weak - text).max() > 2
    assert np.abs(inpainted[:, 12:] - (200, 40, 90)).max() <= 2 < np.abs(inpainted[:, :7] - (200, 40, 90)).max()
    wide = generated(*common, str(tmp_path / "d.png"), "--width", "24", "--height", "16")
    assert wide.shape == (16, 24, 3)


def test_what_the_lab_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_checkpoint(tmp_path / "own.safetensors", recipe=UNET))
    folder = str(write_images(tmp_path / "squares", 8, seed=0))
    common = ["--device", "cpu", "--json"]

    def result(*arguments: str) -> dict:  # type: ignore[type-arg]
        capsys.readouterr()
        assert cli.main([*arguments, *common]) == 0
        values: dict = json.loads(capsys.readouterr().out)  # type: ignore[type-arg]
        return values

    bits = result("likelihood", path, folder, "--count", "2", "--probes", "1", "--levels", "2")["parts"][0]["images"][0]
    assert all(np.isfinite(value) for value in bits["bits"].values()) and len(bits["bits"]) == 2
    assert "middle" in str(result("features", path, folder, "--levels", "0.1"))
    restored = result("restore", path, f"{folder}/red", "--steps", "2", "--out", str(tmp_path / "restored"))
    assert restored["task"] == "denoise"
    capsys.readouterr()
    assert cli.main(["attention", path, "red", "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
    assert "it generates from the name of a class" in capsys.readouterr().err


def test_attention_maps_of_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_unet(tmp_path / "tiny.safetensors")
    arguments = ["attention", str(path), "red apple", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["maps"] == "weights" and [word["text"] for word in values["words"]] == ["red", "apple"]
    assert cli.main([*arguments, "--maps", "outputs"]) == 2
    assert "There are no maps of outputs" in capsys.readouterr().err


def test_a_run_starts_from_a_unet_with_its_sizes_and_other_channels(tmp_path: Path) -> None:
    path = write_tiny_unet(tmp_path / "tiny.safetensors", Conditioning.NONE)
    recipe = started_from(
        Recipe.from_json({"data": {"size": 16, "channels": 1}, "network": {"conditioning": "none"}}), str(path)
    )
    network = recipe.network
    assert (network.kind, network.channels, network.layers, network.attention) == (NetworkName.UNET, (8, 16), 1, 8)
    assert recipe.optimiser.name is OptimiserName.ADAMW
    trainer = Trainer(
        Recipe.from_json(recipe.to_json() | {"run": {"dtype": "float32"}}),
        classes=0,
        vocabulary=0,
        device=torch.device("cpu"),
    )
    assert starting_point(str(path)).load_into(trainer, None, ()) == ""
    known = starting_point(str(path)).loaded.network
    grey, t = torch.randn(2, 1, 16, 16), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        expected = known(grey.expand(-1, 3, -1, -1), t, Condition()).mean(dim=1, keepdim=True)
        torch.testing.assert_close(trainer.network.eval()(grey, t, Condition()), expected, rtol=1e-4, atol=1e-5)


def test_a_transformer_is_not_continued_as_a_unet(tmp_path: Path) -> None:
    """A recipe of a U-Net that starts from a transformer trains a transformer."""
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    unet = Recipe.from_json({"data": {"size": 16}, "network": {"kind": "unet"}, "optimiser": {"name": "adamw"}})
    recipe = started_from(unet, str(path))
    assert recipe.network.kind is NetworkName.TRANSFORMER and recipe.network.patch == 8


def test_the_recipe_is_chosen_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pictures(tmp_path / "pictures")
    assert cli.main(["train", str(folder), "--recipe", "unet", "--dry-run"]) == 0
    assert "Recipe: U-Net" in capsys.readouterr().out
    from diffstudio.training.data.inspect_folder import finish_inspection

    recipe = choose_recipe("unet", finish_inspection(folder, lambda _: None)).recipe
    assert recipe.network.kind is NetworkName.UNET and recipe.network.conditioning is Conditioning.TEXT


def test_a_unet_with_an_upper_level_is_refused() -> None:
    values = {"network": {"kind": "unet"}, "optimiser": {"name": "adam"}, "upper": {"factor": 2}}
    with pytest.raises(RunProblem, match="a U-Net has no upper level"):
        Recipe.from_json(values)
    recipe = Recipe.from_json(values | {"upper": {}})
    recipe = replace(recipe, upper=replace(recipe.upper, factor=2))  # as when a run starts from a U-Net
    assert size_problem(recipe).startswith("A U-Net has no upper level")
    from_unet = replace(recipe, run=replace(recipe.run, start_from="unet.safetensors"))
    assert size_problem(from_unet).startswith("The run starts from a U-Net, which has no upper level")
    with pytest.raises(ValueError, match="no upper level can be built"):
        build_network(recipe, 0, 0)


def test_two_levels_do_not_start_from_a_unet(tmp_path: Path) -> None:
    path = write_tiny_unet(tmp_path / "tiny.safetensors", Conditioning.NONE)
    recipe = Recipe.from_json({"upper": {"factor": 2}})
    with pytest.raises(RunProblem, match="its network is a U-Net, and the recipe has an upper level") as raised:
        started_from(recipe, str(path))
    assert raised.value.remedy == "Start from a transformer or `none`, or choose a size in one level (upper.factor = 0)"
    assert (
        started_from(replace(recipe, upper=replace(recipe.upper, factor=0)), str(path)).network.kind is NetworkName.UNET
    )


def test_every_room_calls_it_a_unet(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_tiny_unet(tmp_path / "tiny.safetensors"))
    assert type_text(checkpoint) == "pixel U-Net" and summary_of(checkpoint).startswith("pixel U-Net · ")
    assert limits_of(checkpoint).step == 2
    other = read_checkpoint(write_tiny_checkpoint(tmp_path / "other.safetensors"))
    assert type_text(other) == "pixel transformer"
    assert estimate(checkpoint, 64, 64).sampling == 64 * 64 * 2 * 4 * (8 * 8 + (16 * 8) // 4)
    damaged = replace(checkpoint, metadata={**checkpoint.metadata, "diffstudio.network": "[]"})
    assert estimate(damaged, 64, 64).sampling == estimate(other, 64, 64).sampling


def test_the_weight_tools_know_it(tmp_path: Path) -> None:
    one, other = (read_checkpoint(write_tiny_unet(tmp_path / f"{seed}.safetensors", seed=seed)) for seed in (0, 1))
    *_, merged = merge([one, other], tmp_path / "merged.safetensors")
    assert isinstance(merged, ToolResult) and read_checkpoint(merged.path).is_unet
    networks = [pixel_file.load(each).network.state_dict() for each in (one, other, merged.path)]
    for name, mean in networks[2].items():
        torch.testing.assert_close(mean, (networks[0][name] + networks[1][name]) / 2)
    *_, half = convert(one, tmp_path / "half.safetensors", Precision.FP16)
    assert isinstance(half, ToolResult) and read_checkpoint(half.path).dtype == "F16"
    assert pixel_file.load(half.path).network.config == pixel_file.load(one).network.config
    transformer = read_checkpoint(write_tiny_checkpoint(tmp_path / "transformer.safetensors"))
    with pytest.raises(BadRequest, match="they have different networks"):
        list(merge([one, transformer], tmp_path / "both.safetensors"))
