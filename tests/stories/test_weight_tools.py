"""Converting, merging, fusing, pruning and exporting: what comes out is what the arithmetic says, and loads elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import safetensors.torch
import torch
from torch import Tensor

from diffstudio.diffusion.objectives.parameterisation import Parameterisation, Prediction
from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointMissing, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.components.open_components import open_components
from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.families import pixel_file as networks
from diffstudio.models.families import stable_diffusion
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tools.convert import convert
from diffstudio.models.tools.export import export
from diffstudio.models.tools.fuse_lora import fuse_lora
from diffstudio.models.tools.merge import merge
from diffstudio.models.tools.prune import ema_copies, prunable_bytes, prune
from diffstudio.models.tools.spec import Method, Precision, ToolResult
from tests.models import adapter_files
from tests.models.families.beside import CPU, ROUNDING, difference, ours, start, their_scheduler, theirs
from tests.models.small_files import made, record, small_world
from tests.models.tiny import write_tiny_checkpoint

DATA = Path(__file__).parents[1] / "data"
World = Callable[[str], Path]
__all__ = ["small_world"]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2
FAMILIES = ("sd1", "sd2", "sdxl", "sdxl_refiner")


def load(path: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(path)


def single(world: World, family: str, target: Path) -> Path:
    """The small folder of a family as one file, in the original naming."""
    return made(convert(record(world(family), family), target)).path


def changed(source: Path, target: Path, seed: int) -> Path:
    """The same checkpoint with other numbers."""
    noise = torch.Generator().manual_seed(seed)
    tensors = {
        name: value + 0.1 * torch.randn(value.shape, generator=noise) if value.is_floating_point() else value
        for name, value in load(source).items()
    }
    safetensors.torch.save_file(tensors, target)
    return target


# ---- converting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_to_file_and_back_is_the_same_to_the_bit(small_world: World, tmp_path: Path, family: str) -> None:
    folder = small_world(family)
    one = single(small_world, family, tmp_path / "one.safetensors")
    back = made(export(record(one, family), tmp_path / "back")).path
    index = json.loads((back / "model_index.json").read_text())
    theirs = json.loads((folder / "model_index.json").read_text())
    assert {key: value for key, value in index.items() if key not in ("scheduler", "_diffusers_version")} == {
        key: value for key, value in theirs.items() if key not in ("scheduler", "_diffusers_version")
    }
    pipeline: Any = getattr(diffusers, index["_class_name"])
    found, expected = pipeline.from_pretrained(back), pipeline.from_pretrained(folder)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(expected, part, None) is None:
            continue
        state, wanted = (getattr(one, part).state_dict() for one in (found, expected))
        assert state.keys() == wanted.keys() and all(
            torch.equal(value, wanted[name]) for name, value in state.items()
        ), part
    assert found.scheduler.config.prediction_type == ("v_prediction" if family == "sd2" else "epsilon")
    again = single(lambda _: back, family, tmp_path / "again.safetensors")
    first, second = load(one), load(again)
    assert first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("precision", "dtype", "most"),
    [
        (Precision.FP16, torch.float16, 1e-3),
        (Precision.BF16, torch.bfloat16, 8e-3),
        (Precision.FP8, torch.float8_e4m3fn, 0.08),
    ],
)
def test_other_precisions(
    small_world: World, tmp_path: Path, precision: Precision, dtype: torch.dtype, most: float
) -> None:
    one = single(small_world, "sd1", tmp_path / "one.safetensors")
    short = load(made(convert(record(one, "sd1"), tmp_path / "short.safetensors", precision)).path)
    exact = load(one)
    name = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    assert (
        short.keys() == exact.keys()
        and short[name].dtype is dtype
        and difference(short[name].float(), exact[name]) < most
    )
    if precision is Precision.FP8:  # what is not a matrix of the network or its encoder keeps 16 bits
        for wide in (
            "first_stage_model.decoder.conv_in.weight",
            "model.diffusion_model.out.0.weight",
            "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        ):
            assert short[wide].dtype is torch.float16
    assert (tmp_path / "short.safetensors").stat().st_size < one.stat().st_size * (
        0.51 if precision is not Precision.FP8 else 0.5
    )
    model = stable_diffusion.load(
        record(tmp_path / "short.safetensors", "sd1"),
        open_components(record(tmp_path / "short.safetensors", "sd1")),
        CPU,
        torch.float32,
    )
    assert ours(model, steps=2, sampler="euler").isfinite().all()


def test_what_is_too_large_becomes_the_largest_and_is_said(tmp_path: Path) -> None:
    tensors = {"a": torch.tensor([1e6, 1.0, -1e6]), "mask": torch.tensor([-torch.inf, 0.0]), "ids": torch.arange(3)}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")
    result = made(convert(record(tmp_path / "a.safetensors", "sd1"), tmp_path / "b.safetensors", Precision.FP16))
    found = load(result.path)
    assert found["a"].tolist() == [65504, 1, -65504] and found["mask"].tolist() == [-torch.inf, 0]
    assert torch.equal(found["ids"], tensors["ids"])
    assert result.notes == ("2 values exceeded the range of fp16 and were clamped, most of them in a.",)


def test_scaled_eighths_are_multiplied_out(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    tensors = {
        "x.weight": (weight / 0.01).to(torch.float8_e4m3fn),
        "x.scale_weight": torch.tensor(0.01),
        "scaled_fp8": torch.zeros(2),
    }
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")
    checkpoint = replace(record(tmp_path / "a.safetensors", "flux"), dtype="F8_E4M3")
    found = load(made(convert(checkpoint, tmp_path / "b.safetensors", Precision.FP32)).path)
    assert list(found) == ["x.weight"] and difference(found["x.weight"], weight) < 0.05


def test_a_pickle_becomes_a_safetensors_file(tmp_path: Path) -> None:
    tensors = {"conv.weight": torch.randn(3, 3), "half": torch.randn(5).half()}
    torch.save({"state_dict": tensors, "optimizer_states": [{"x": 1}]}, tmp_path / "old.ckpt")
    found = load(made(convert(record(tmp_path / "old.ckpt", "sd1"), tmp_path / "new.safetensors")).path)
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], value) for name, value in tensors.items())


def test_one_trained_here_stays_one(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    result = made(convert(read_checkpoint(source), tmp_path / "half.safetensors", Precision.FP16))
    before, after = networks.load(source), networks.load(result.path)
    assert (
        read_checkpoint(result.path).metadata == read_checkpoint(source).metadata
        and read_checkpoint(result.path).dtype == "F16"
    )
    for (name, one), other in zip(
        before.network.state_dict().items(), after.network.state_dict().values(), strict=True
    ):
        assert difference(other, one) < 1e-3, name


def test_what_cannot_be_converted_says_why(small_world: World, tmp_path: Path) -> None:
    tiny = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    for target, precision, why in (
        ("x.safetensors", Precision.KEEP, "is a safetensors file in fp32 already"),
        ("x.safetensors", Precision.FP8, "fp8"),
        ("x.ckpt", Precision.FP16, "Name it x.safetensors"),
    ):
        with pytest.raises(BadRequest, match=why):
            list(convert(tiny, tmp_path / target, precision))
    with pytest.raises(CheckpointUnknown, match="FLUX.1 is not supported for this conversion"):
        list(convert(record(small_world("sd1"), "flux"), tmp_path / "x.safetensors"))
    assert not list(tmp_path.glob("x*"))


# ---- merging ---------------------------------------------------------------------------------------------------------


def test_a_weighted_sum(small_world: World, tmp_path: Path) -> None:
    a = single(small_world, "sd1", tmp_path / "a.safetensors")
    b = changed(a, tmp_path / "b.safetensors", 1)
    result = made(merge([record(a, "sd1"), record(b, "sd1")], tmp_path / "m.safetensors", 0.25))
    first, second, found = load(a), load(b), load(result.path)
    assert found.keys() == first.keys() and not result.notes
    for name, value in found.items():
        assert torch.equal(value, torch.lerp(first[name], second[name], 0.25)), name
    for share, same in ((0.0, first), (1.0, second)):
        ends = load(made(merge([record(a, "sd1"), record(b, "sd1")], tmp_path / f"{share}.safetensors", share)).path)
        assert all(torch.equal(ends[name], value) for name, value in same.items())
    metadata = read_checkpoint(result.path).metadata
    recipe = json.loads(metadata["diffstudio.merge"])
    assert (recipe["method"], recipe["share"]) == ("weighted sum", 0.25)
    assert [(one["as"], one["name"], one["sha256"]) for one in recipe["inputs"]] == [
        ("a", "a", sha256_of(a)),
        ("b", "b", sha256_of(b)),
    ]
    assert metadata["modelspec.merged_from"] == "a, b" and metadata["modelspec.title"] == "m"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1"


def test_adding_a_difference(small_world: World, tmp_path: Path) -> None:
    a = single(small_world, "sd1", tmp_path / "a.safetensors")
    b, c = changed(a, tmp_path / "b.safetensors", 1), changed(a, tmp_path / "c.safetensors", 2)
    inputs = [record(path, "sd1") for path in (a, b, c)]
    found = load(made(merge(inputs, tmp_path / "m.safetensors", 0.7, Method.ADD_DIFFERENCE)).path)
    first, second, third = load(a), load(b), load(c)
    assert all(torch.equal(value, first[name] + 0.7 * (second[name] - third[name])) for name, value in found.items())
    with pytest.raises(BadRequest, match="add difference takes 3"):
        list(merge(inputs[:2], tmp_path / "n.safetensors", 1.0, Method.ADD_DIFFERENCE))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_whatever_they_are_named_and_stored_in(small_world: World, tmp_path: Path, family: str) -> None:
    folder = small_world(family)
    a = single(small_world, family, tmp_path / "a.safetensors")
    half = made(convert(record(a, family), tmp_path / "half.safetensors", Precision.FP16)).path
    exact = load(a)
    from diffstudio.models.state_dicts.split import join_components, split_components

    diffusers_named = join_components(split_components(exact, family, open_components(record(a, family)).config))
    safetensors.torch.save_file(
        {name: value.contiguous() for name, value in diffusers_named.items()}, tmp_path / "d.safetensors"
    )
    d = record(tmp_path / "d.safetensors", family, layout=Layout.DIFFUSERS)
    short, whole = record(half, family), record(folder, family)
    for inputs in ([short, whole], [short, d], [whole, short]):
        result = made(merge(inputs, tmp_path / f"{inputs[0].name}-{inputs[1].name}.safetensors", 0.5))
        found = load(result.path)
        assert found.keys() == exact.keys()
        for name, value in found.items():
            expected = (exact[name].half().float() + exact[name]) / 2
            assert torch.equal(value, expected.to(value.dtype)), name
            assert value.dtype is (torch.float16 if inputs[0].dtype == "F16" else torch.float32)
    found = load(made(merge([d, record(half, family)], tmp_path / "named.safetensors", 0.5)).path)
    assert found.keys() == diffusers_named.keys()


def test_a_part_that_one_lacks_is_the_others(small_world: World, tmp_path: Path) -> None:
    a = single(small_world, "sd1", tmp_path / "a.safetensors")
    b = changed(a, tmp_path / "all.safetensors", 1)
    network = {name: value for name, value in load(b).items() if name.startswith("model.diffusion_model.")}
    safetensors.torch.save_file(network, tmp_path / "b.safetensors")
    inputs = [record(a, "sd1"), record(tmp_path / "b.safetensors", "sd1", role=Role.NETWORK)]
    result = made(merge(inputs, tmp_path / "m.safetensors", 1.0))
    assert result.notes == ("A text encoder is that of a: b has none.", "The VAE is that of a: b has none.")
    found, first = load(result.path), load(a)
    assert all(torch.equal(value, network.get(name, first[name])) for name, value in found.items())


def test_one_that_paints_keeps_what_the_others_lack(tmp_path: Path) -> None:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    generator = torch.Generator().manual_seed(0)
    tensors = [{name: torch.randn(8, channels, 3, 3, generator=generator)} for channels in (9, 4, 4)]
    for letter, held in zip("abc", tensors, strict=True):
        safetensors.torch.save_file(held, tmp_path / f"{letter}.safetensors")
    inputs = [record(tmp_path / f"{letter}.safetensors", "sd1", inpainting=letter == "a") for letter in "abc"]
    found = load(made(merge(inputs, tmp_path / "m.safetensors", 1.0, Method.ADD_DIFFERENCE)).path)[name]
    a, b, c = (held[name] for held in tensors)
    assert torch.equal(found[:, 4:], a[:, 4:]) and torch.equal(found[:, :4], a[:, :4] + (b - c))


def test_what_does_not_go_together_names_the_tensor(small_world: World, tmp_path: Path) -> None:
    a = single(small_world, "sd1", tmp_path / "a.safetensors")
    tensors, odd = load(a), "model.diffusion_model.out.2.weight"
    one = record(a, "sd1")
    new = "model.diffusion_model.new"
    for name, held, why in (
        ("lacks", {key: value for key, value in tensors.items() if key != odd}, f"only a has {odd}"),
        ("more", tensors | {new: torch.ones(1)}, f"only more has {new}"),
        ("wide", tensors | {odd: torch.ones(4, 7, 3, 3)}, f"{odd} is 4 × 32 × 3 × 3 in one and 4 × 7 × 3"),
    ):
        safetensors.torch.save_file(held, tmp_path / f"{name}.safetensors")
        with pytest.raises(BadRequest, match=why):
            list(merge([one, record(tmp_path / f"{name}.safetensors", "sd1")], tmp_path / "m.safetensors"))
    for other, why in (
        (replace(one, family="sdxl"), "they are of different families: Stable Diffusion 1 and Stable Diffusion XL"),
        (replace(one, prediction="v"), "one predicts eps, the other v"),
    ):
        with pytest.raises(BadRequest, match=why):
            list(merge([one, other], tmp_path / "m.safetensors"))
    with pytest.raises(CheckpointUnknown, match="cannot be merged"):
        list(merge([one, replace(one, role=Role.LORA)], tmp_path / "m.safetensors"))
    for share in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(BadRequest, match="between 0 and 1"):
            list(merge([one, one], tmp_path / "m.safetensors", share))
    with pytest.raises(BadRequest, match="between -1,000 and 1,000"):
        list(merge([one, one], tmp_path / "m.safetensors", float("nan"), beyond=True))
    assert not list(tmp_path.glob("m.*"))
    assert made(merge([one, one], tmp_path / "m.safetensors", 1.5, beyond=True)).path.is_file()


def test_checkpoints_trained_here(tmp_path: Path) -> None:
    a, b = (write_tiny_checkpoint(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (0, 1))
    result = made(
        merge([read_checkpoint(a), read_checkpoint(b)], tmp_path / "both.safetensors", 0.5, precision=Precision.FP16)
    )
    found, first, second = (networks.load(path) for path in (result.path, a, b))
    assert found.tokenizer is not None and first.tokenizer is not None
    assert found.tokenizer.to_json() == first.tokenizer.to_json() and found.schedule == first.schedule
    one, other = first.network.state_dict(), second.network.state_dict()
    for name, value in found.network.state_dict().items():
        expected = torch.lerp(one[name], other[name], 0.5)
        assert torch.equal(value, expected.half().float()), name
    checkpoint = read_checkpoint(result.path)
    assert checkpoint.family == "pixel" and checkpoint.title == "both" and checkpoint.json("run") == {}
    assert [one["name"] for one in checkpoint.json("merge")["inputs"]] == ["0", "1"]
    assert "recipe" in checkpoint.json("merge")["inputs"][0]
    other = write_tiny_checkpoint(tmp_path / "wide.safetensors", width=32)
    with pytest.raises(BadRequest, match="they have different networks"):
        list(merge([read_checkpoint(a), read_checkpoint(other)], tmp_path / "x.safetensors"))
    words = replace(read_checkpoint(b), metadata=dict(read_checkpoint(b).metadata) | {"diffstudio.tokenizer": "{}"})
    with pytest.raises(BadRequest, match="they have different tokenizers"):
        list(merge([read_checkpoint(a), words], tmp_path / "x.safetensors"))
    metadata = dict(read_checkpoint(b).metadata) | {"diffstudio.tuned": '{"from": "a"}'}
    with pytest.raises(BadRequest, match="they have not been distilled in the same way"):
        list(merge([read_checkpoint(a), replace(read_checkpoint(b), metadata=metadata)], tmp_path / "x.safetensors"))
    eps = networks.load(b)
    networks.save(b, eps.network, title="b", tokenizer=eps.tokenizer, parameterisation=Parameterisation(Prediction.EPS))
    with pytest.raises(BadRequest, match="they have different predictions"):
        list(merge([read_checkpoint(a), read_checkpoint(b)], tmp_path / "x.safetensors"))
    both = read_checkpoint(made(merge([read_checkpoint(b)] * 2, tmp_path / "eps.safetensors", 0.5)).path)
    assert both.prediction == "eps" and both.json("format") == 3 and checkpoint.json("format") == 2


def test_a_checkpoint_of_version_0_1_merges_with_a_current_one(tmp_path: Path) -> None:
    """Their state-dict keys differ: the merged file has the current ones, and says so by its format."""
    old = DATA / "v0_1_keys" / "text.safetensors"
    loaded, current = networks.load(old), tmp_path / "current.safetensors"
    networks.save(current, loaded.network, title="current", tokenizer=loaded.tokenizer, classes=loaded.classes)
    for inputs in ([old, current], [current, old]):
        result = made(
            merge([read_checkpoint(path) for path in inputs], tmp_path / f"{inputs[0].stem}-first.safetensors", 0.5)
        )
        assert read_checkpoint(result.path).json("format") == 2
        assert set(safetensors.torch.load_file(result.path)) == set(loaded.network.state_dict())
        for name, value in networks.load(result.path).network.state_dict().items():
            torch.testing.assert_close(value, loaded.network.state_dict()[name], rtol=1e-6, atol=0)


def test_given_up_a_merge_leaves_nothing(small_world: World, tmp_path: Path) -> None:
    a = record(single(small_world, "sd1", tmp_path / "a.safetensors"), "sd1")
    before = sorted(os.listdir(tmp_path))
    making = merge([a, a], tmp_path / "m.safetensors", 0.5)
    while next(making) != pytest.approx(0.5, abs=0.2):
        pass
    assert list(tmp_path.glob(".diffstudio-*.part"))
    making.close()
    assert sorted(os.listdir(tmp_path)) == before


# ---- fusing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["original", "folder"])
def test_a_lora_written_in_is_the_lora_attached(small_world: World, tmp_path: Path, stored: str) -> None:
    folder = small_world("sd1")
    one = record(single(small_world, "sd1", tmp_path / "one.safetensors"), "sd1")
    model = stable_diffusion.load(one, open_components(one), CPU, torch.float32)
    path = adapter_files.write(
        tmp_path / "ink.safetensors",
        adapter_files.kohya("lora_unet", adapter_files.layers(model.network, "to_q", "to_out.0", "conv1"))
        | adapter_files.kohya("lora_te", adapter_files.layers(model.text_encoders["text_encoder"], "q_proj", "fc1")),
    )
    lora = replace(record(path, "sd1"), role=Role.LORA)
    source = one if stored == "original" else record(folder, "sd1")
    with pytest.raises(BadRequest, match=r"The weight of ink is 1e\+39: it must be between"):
        made(fuse_lora(source, [(lora, 1e39)], tmp_path / "baked.safetensors"))
    result = made(fuse_lora(source, [(lora, 0.7)], tmp_path / "baked.safetensors"))
    from diffstudio.models.adapters.adapters import AdapterUse

    plain = ours(model, steps=2, sampler="euler")
    model.adapters.use([AdapterUse(path, "ink", 0.7, 0.7)])
    attached = ours(model, steps=2, sampler="euler")
    baked = record(result.path, "sd1")
    found = ours(stable_diffusion.load(baked, open_components(baked), CPU, torch.float32), steps=2, sampler="euler")
    assert difference(found, attached) < 1e-5 < difference(plain, attached)
    recipe = json.loads(read_checkpoint(result.path).metadata["diffstudio.bake"])
    assert [(each["name"], each.get("factor")) for each in recipe["inputs"]] == [(source.name, None), ("ink", 0.7)]


def test_a_lora_that_does_nothing_is_not_fused(small_world: World, tmp_path: Path) -> None:
    one = record(single(small_world, "sd1", tmp_path / "one.safetensors"), "sd1")
    stranger = {
        "lora_unet_nowhere.lora_down.weight": torch.ones(2, 4),
        "lora_unet_nowhere.lora_up.weight": torch.ones(4, 2),
    }
    safetensors.torch.save_file(stranger, tmp_path / "stranger.safetensors")
    lora = record(tmp_path / "stranger.safetensors", "sd1", role=Role.LORA)
    with pytest.raises(BadRequest, match="stranger does not fit this checkpoint"):
        list(fuse_lora(one, [(lora, 1.0)], tmp_path / "x.safetensors"))
    for loras, why in (([], "No LoRA"), ([(lora, 0.0)], "has no effect"), ([(one, 1.0)], "is not a LoRA")):
        with pytest.raises(BadRequest, match=why):
            list(fuse_lora(one, loras, tmp_path / "x.safetensors"))
    assert not (tmp_path / "x.safetensors").exists()


# ---- pruning ---------------------------------------------------------------------------------------------------------


def trained(source: Path, target: Path) -> tuple[Path, dict[str, Tensor]]:
    """As the original trainer leaves a checkpoint: with EMA copies, the VAE's loss, and notes."""
    tensors = load(source)
    copies = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value + 1
        for name, value in tensors.items()
        if name.startswith("model.diffusion_model.")
    }
    more = {
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(7),
        "global_step": torch.tensor(5),
        "first_stage_model.loss.logvar": torch.zeros(()),
        "first_stage_model.loss.discriminator.main.0.weight": torch.randn(8, 3),
        "optimizer.state.0.exp_avg": torch.randn(10),
        "betas": torch.zeros(1000),
    }
    safetensors.torch.save_file(tensors | copies | more, target, {"modelspec.title": "kept"})
    return target, copies


def test_what_does_not_draw_is_left_out(small_world: World, tmp_path: Path) -> None:
    one = single(small_world, "sd1", tmp_path / "one.safetensors")
    path, copies = trained(one, tmp_path / "trained.safetensors")
    checkpoint = record(path, "sd1")
    sizes = prunable_bytes(checkpoint)
    assert set(sizes) == {
        "EMA copies of the weights",
        "the VAE's training losses",
        "the optimiser's state",
        "the trainer's state",
    }
    result = made(prune(checkpoint, tmp_path / "pruned.safetensors"))
    found = load(result.path)
    assert found.keys() == load(one).keys() | {"betas"} and all(
        torch.equal(found[name], value) for name, value in load(one).items()
    )
    assert result.notes[0].startswith("Left out: EMA copies of the weights (9.8 MB); ") and "smaller" in result.notes[0]
    assert checkpoint.size_bytes - result.size_bytes == pytest.approx(sum(sizes.values()), rel=0.1)
    assert read_checkpoint(result.path).metadata["modelspec.title"] == "kept"
    swapped = load(made(prune(checkpoint, tmp_path / "ema.safetensors", Precision.FP16, ema=True)).path)
    for name, value in swapped.items():
        copy = copies.get("model_ema." + name.removeprefix("model.").replace(".", ""))
        expected = copy if name.startswith("model.diffusion_model.") else found[name]
        assert expected is not None and torch.equal(value, expected.half()), name
    assert len(ema_copies(load(path))) == len(copies)


def test_pruning_to_a_higher_precision_says_that_the_file_is_larger(tmp_path: Path) -> None:
    half = {"decoder.conv_in.weight": torch.zeros(512, 4, 3, 3).half(), "loss.logvar": torch.zeros(1)}
    safetensors.torch.save_file(half, tmp_path / "vae.safetensors")
    vae = record(tmp_path / "vae.safetensors", "sd1", role=Role.VAE, layout=Layout.ORIGINAL)
    result = made(prune(vae, tmp_path / "pruned.safetensors", Precision.FP32))
    assert result.size_bytes > vae.size_bytes
    assert (
        result.notes[0]
        == f"Left out: the VAE's training losses (4 bytes). The file is {_difference(vae, result)} larger."
    )


@pytest.mark.parametrize(
    ("count", "said"), [(1, "Replaced 1 tensor by its EMA copy."), (2, "Replaced 2 tensors by their EMA copies.")]
)
def test_the_replaced_tensors_are_counted(tmp_path: Path, count: int, said: str) -> None:
    names = [f"model.diffusion_model.out.{number}.weight" for number in range(count)]
    copies = {"model_ema." + name.removeprefix("model.").replace(".", ""): torch.ones(64) for name in names}
    safetensors.torch.save_file({name: torch.zeros(64) for name in names} | copies, tmp_path / "one.safetensors")
    one = record(tmp_path / "one.safetensors", "sd1")
    assert made(prune(one, tmp_path / "pruned.safetensors", ema=True)).notes[0].startswith(said)


def _difference(checkpoint: Checkpoint, result: ToolResult) -> str:
    return f"{result.size_bytes - checkpoint.size_bytes:,} bytes"


def test_nothing_to_prune(small_world: World, tmp_path: Path) -> None:
    one = record(single(small_world, "sd1", tmp_path / "one.safetensors"), "sd1")
    assert prunable_bytes(one) == {} and prunable_bytes(record(small_world("sd1"), "sd1")) == {}
    with pytest.raises(BadRequest, match="is pruned already"):
        list(prune(one, tmp_path / "x.safetensors"))
    with pytest.raises(BadRequest, match="has no EMA weights"):
        list(prune(one, tmp_path / "x.safetensors", ema=True))
    with pytest.raises(CheckpointUnknown, match="not known which of its tensors"):
        list(prune(replace(one, role=Role.UNKNOWN), tmp_path / "x.safetensors"))
    with pytest.raises(CheckpointUnknown, match="it is a diffusers folder"):
        list(prune(record(small_world("sd1"), "sd1"), tmp_path / "x.safetensors"))


# ---- exporting -------------------------------------------------------------------------------------------------------


def test_a_merged_checkpoint_exported_gives_the_same_picture_in_diffusers(small_world: World, tmp_path: Path) -> None:
    """One file, in the original naming, merged here: diffusers' own pipeline draws from the folder what we draw from
    the file.
    """
    a = single(small_world, "sd1", tmp_path / "a.safetensors")
    b = changed(a, tmp_path / "b.safetensors", 3)
    merged = record(made(merge([record(a, "sd1"), record(b, "sd1")], tmp_path / "m.safetensors", 0.4)).path, "sd1")
    folder = made(export(merged, tmp_path / "exported")).path
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    model = stable_diffusion.load(merged, open_components(merged), CPU, torch.float32)
    beside = stable_diffusion.load(record(folder, "sd1"), FolderComponents(folder), CPU, torch.float32)
    assert torch.equal(ours(model, steps=3, sampler="euler"), ours(beside, steps=3, sampler="euler"))
    assert torch.equal(
        pipeline.encode_prompt("a red apple", "cpu", 1, False)[0],
        model.text_encoders["text_encoder"](
            pipeline.tokenizer(["a red apple"], padding="max_length", return_tensors="pt").input_ids
        )[0],
    )
    scheduler = pipeline.scheduler = their_scheduler("euler", "uniform")
    latents = start(model, scheduler, "euler", 5, model.times(5, "uniform", 1.0, 64, 64))
    assert (
        difference(
            ours(model, sampler="euler", spacing="uniform", guidance=4.0),
            theirs(pipeline, latents=latents, guidance_scale=4.0),
        )
        < ROUNDING
    )


def test_what_cannot_be_exported_says_why(small_world: World, tmp_path: Path) -> None:
    tiny = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    with pytest.raises(CheckpointUnknown, match=r"only U-Nets have one. Share its file instead: .*tiny.safetensors"):
        list(export(tiny, tmp_path / "x"))
    one = single(small_world, "sd1", tmp_path / "one.safetensors")
    with pytest.raises(CheckpointUnknown, match="not FLUX.1"):
        list(export(record(one, "flux"), tmp_path / "x"))
    tensors = load(one)
    del tensors["model.diffusion_model.out.2.weight"]
    safetensors.torch.save_file(tensors, tmp_path / "torn.safetensors")
    with pytest.raises(
        CheckpointDamaged, match=r"The unet of torn is incomplete or damaged: conv_out.weight is missing"
    ):
        list(export(record(tmp_path / "torn.safetensors", "sd1"), tmp_path / "x"))
    alone = {name: value for name, value in load(one).items() if name.startswith("model.")}
    safetensors.torch.save_file(alone, tmp_path / "alone.safetensors")
    with pytest.raises(CheckpointMissing):
        list(export(record(tmp_path / "alone.safetensors", "sd1", role=Role.NETWORK), tmp_path / "x"))
    with pytest.raises(BadRequest, match="already exists"):
        list(export(record(one, "sd1"), one))
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".diffstudio-*"))


def test_a_folder_of_pickles_becomes_one_of_safetensors(small_world: World, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_world("sd1"), tmp_path / "old"))
    for weights in folder.glob("*/*.safetensors"):
        torch.save(load(weights), weights.with_suffix(".bin"))
        weights.unlink()
    result = made(export(record(folder, "sd1"), tmp_path / "new"))
    for part in ("unet", "vae", "text_encoder"):
        (found,), (expected,) = (
            (result.path / part).glob("*.safetensors"),
            (small_world("sd1") / part).glob("*.safetensors"),
        )
        written, original = load(found), load(expected)
        assert written.keys() == original.keys()
        assert all(torch.equal(value, original[name]) for name, value in written.items())
    assert not list(result.path.rglob("*.bin"))
    one = made(convert(record(folder, "sd1"), tmp_path / "one.safetensors")).path
    assert load(one).keys() == load(single(small_world, "sd1", tmp_path / "theirs.safetensors")).keys()


def test_a_folder_in_another_precision(small_world: World, tmp_path: Path) -> None:
    folder = small_world("sdxl")
    result = made(export(record(folder, "sdxl"), tmp_path / "half", Precision.FP16))
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {str(path.relative_to(result.path)) for path in result.path.rglob("*") if path.is_file()} == files
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(result.path, dtype=torch.float16)
    expected = load(folder / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert torch.equal(pipeline.unet.conv_in.weight, expected.half())
