"""Unconditional pipelines of diffusers: opened from their folder they draw diffusers' own pictures for the same seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from torch import Tensor

from diffstudio import cli, paths
from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointProblem, CheckpointUnknown
from diffstudio.models import loading
from diffstudio.models.families.ddpm import DDPMModel
from diffstudio.models.library.folder_records import read_folder
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import recommended_values
from diffstudio.models.tools.export import export
from diffstudio.models.tools.spec import Precision, ToolResult
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.curves.models import model_noise
from diffstudio.studio.evaluations.restore.request import RestoreRequest, RestoreTask
from diffstudio.studio.evaluations.restore.restore import restore
from diffstudio.studio.library.weight_requests import fusable, is_exportable, mergeable
from diffstudio.studio.prompts.prompt_notes import PROMPT_NOT_USED
from tests.models.families.pipelines.test_diffusers_pipeline import difference
from tests.models.sampled import sample
from tests.models.tiny import write_tiny_unet

CPU, SIDE, STEPS = torch.device("cpu"), 8, 10
SEEDS = [5, 6]
UNPROMPTED = {"sampler": "ddim", "spacing": "trailing", "steps": STEPS}


def small_ddpm(
    folder: Path, *, scheduler: Any = DDPMScheduler, unet: dict[str, Any] | None = None, **config: Any
) -> Path:
    """A folder as diffusers saves it, of a network whose estimates are well beyond [-1,1]."""
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "sample_size": SIDE,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    }
    network = UNet2DModel(**values | (unet or {}))
    with torch.no_grad():
        network.conv_out.weight.mul_(3)
    pipeline = DDPMPipeline if scheduler is DDPMScheduler else DDIMPipeline
    pipeline(network, scheduler(**{"timestep_spacing": "trailing"} | config)).save_pretrained(folder)
    return folder


def load(folder: Path) -> DDPMModel:
    model = loading.load(read_folder(folder), CPU, torch.float32)
    assert isinstance(model, DDPMModel)
    return model


def theirs(kind: Any, folder: Path, steps: int = STEPS, **options: Any) -> Tensor:
    """The images [B,3,H,W] in [-1,1] of diffusers' own pipeline, one generator for each seed."""
    pipeline = kind.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    images = pipeline(len(SEEDS), generators, num_inference_steps=steps, output_type="np", **options).images
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


def ours(model: DDPMModel, **options: Any) -> Tensor:
    *_, last = sample(model, seeds=SEEDS, **UNPROMPTED | options)
    return model.decode(last.x).clamp(-1, 1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_ddim_and_ddpm_draw_diffusers_own_pictures(tmp_path: Path, prediction: str, betas: str) -> None:
    folder = small_ddpm(tmp_path / "small", prediction_type=prediction, beta_schedule=betas)
    model = load(folder)
    expected = theirs(DDIMPipeline, folder)
    assert expected.std() > 0.1
    assert difference(ours(model), expected) < 1e-4
    assert difference(ours(model, sampler="ddpm"), theirs(DDPMPipeline, folder)) < 1e-4
    assert difference(ours(model, sampler="euler"), theirs(DDIMPipeline, folder, use_clipped_model_output=True)) < 1e-4


@pytest.mark.parametrize(
    "clipping",
    [
        {"clip_sample": False},
        {"clip_sample_range": 0.5},
        {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5},
    ],
)
def test_estimates_are_clipped_as_the_scheduler_says(tmp_path: Path, clipping: dict[str, Any]) -> None:
    folder = small_ddpm(tmp_path / "small", **clipping)
    model = load(folder)
    assert difference(ours(model), theirs(DDIMPipeline, folder)) < 1e-4
    assert difference(ours(model, sampler="ddpm"), theirs(DDPMPipeline, folder)) < 1e-4
    assert difference(ours(model), theirs(DDIMPipeline, small_ddpm(tmp_path / "other"))) > 1e-3


def test_spacing_offset_and_the_parts_of_a_configuration_that_are_left_out(tmp_path: Path) -> None:
    folder = small_ddpm(tmp_path / "small", scheduler=DDIMScheduler, timestep_spacing="leading", steps_offset=1)
    config = folder / "scheduler" / "scheduler_config.json"
    left = {key: value for key, value in json.loads(config.read_text()).items() if not key.startswith(("beta", "clip"))}
    config.write_text(json.dumps(left))
    assert difference(ours(load(folder), spacing="leading"), theirs(DDIMPipeline, folder)) < 1e-4
    noise = model_noise(read_folder(folder))  # what the Lab draws
    assert (noise.schedule.log_snr(torch.tensor(1000.0).numpy()) < -10) and noise.prediction == "eps" and not noise.note


def test_predicted_variances_are_left_out(tmp_path: Path) -> None:
    folder = small_ddpm(tmp_path / "small", unet={"out_channels": 6}, variance_type="learned_range")
    model = load(folder)
    x = torch.randn(2, 3, SIDE, SIDE)
    unet: Any = model.network
    with torch.no_grad():
        expected = unet(x, 499).sample[:, :3]
    t = torch.full((2,), 500.0, dtype=torch.float64)
    alpha, sigma = model.schedule.alpha(t[:1]).float(), model.schedule.sigma(t[:1]).float()
    estimate = model.denoiser(model.encode_prompt(""), 1.0)(x, t)
    torch.testing.assert_close(estimate, (x - sigma * expected) / alpha)


def test_a_record_of_it_has_a_size_and_takes_no_prompt(tmp_path: Path) -> None:
    folder = small_ddpm(tmp_path / "small", unet={"sample_size": (8, 16), "in_channels": 1, "out_channels": 1})
    checkpoint = read_folder(folder)
    assert checkpoint.can_generate and checkpoint.conditioning is Conditioning.NONE
    assert (checkpoint.family, checkpoint.prediction, checkpoint.width, checkpoint.height) == ("ddpm", "eps", 16, 8)
    assert checkpoint.family_title == "unconditional U-Net of diffusers (DDPM)"
    assert recommended_values(checkpoint) == {"sampler": "ddim", "spacing": "trailing", "steps": 50, "guidance": 1.0}
    assert (
        not is_exportable(checkpoint)
        and not mergeable(checkpoint, [checkpoint])
        and not fusable(checkpoint, [checkpoint])
    )
    model = load(folder)
    assert model.output.channels == 1 and model.default_size == (16, 8) and model.multiple == 2
    assert [block.name for block in model.blocks] == ["down 0", "down 1", "middle", "up 0", "up 1"]
    picture = torch.rand(1, 3, 8, 16) * 2 - 1
    assert model.encode_image(picture).shape == (1, 1, 8, 16) == model.latents_to_rgb(picture[:, :1])[:, :1].shape
    assert ours(model, width=20, height=10).shape == (2, 3, 10, 20)
    for size in ((9, 8), (8, 34), (0, 8)):
        with pytest.raises(BadRequest, match="Try 16 × 8"):
            model.check_size(*size)


def test_the_middle_may_be_left_out(tmp_path: Path) -> None:
    model = load(small_ddpm(tmp_path / "small", unet={"mid_block_type": None}))
    assert [block.name for block in model.blocks] == ["down 0", "down 1", "up 0", "up 1"]


def test_on_the_command_line_it_generates_and_says_that_the_prompt_is_not_used(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_ddpm(paths.checkpoints() / "faces")
    out = tmp_path / "out.png"
    asked = ["generate", "cat", "--checkpoint", "faces", "--steps", "2", "--seed", "5", "--out", str(out)]
    assert cli.main(asked) == 0
    assert PROMPT_NOT_USED in "".join(capsys.readouterr())
    expected = (theirs(DDIMPipeline, folder, steps=2)[:1] + 1) * 127.5
    found = torch.frombuffer(bytearray(Image.open(out).convert("RGB").tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3)
    assert (found.permute(2, 0, 1) - expected[0]).abs().max() < 1


def test_it_restores_images(tmp_path: Path) -> None:
    small_ddpm(tmp_path / "models" / "faces")
    picture = tmp_path / "noisy.png"
    Image.new("RGB", (SIDE, SIDE), (90, 120, 150)).save(picture)
    request = RestoreRequest(
        task=RestoreTask.DENOISE, checkpoint="faces", images=picture, out=tmp_path / "out", noise=10.0, steps=2
    )
    result = restore(request, Library([tmp_path / "models"]))
    with Image.open(tmp_path / "out" / result.images[0].restored) as image:
        assert image.size == (SIDE, SIDE)


def test_our_own_unet_comes_back_from_its_export(tmp_path: Path) -> None:
    """Its time embedding is a table, which has whole timesteps only."""
    path = write_tiny_unet(tmp_path / "own.safetensors", Conditioning.NONE)
    *_, result = export(read_checkpoint(path), tmp_path / "own")
    assert isinstance(result, ToolResult)
    model = load(result.path)
    assert difference(ours(model), theirs(DDIMPipeline, result.path)) < 1e-4
    assert bool(ours(model, sampler="dpmpp_2m", spacing="karras").isfinite().all())
    *_, smaller = export(read_folder(result.path), tmp_path / "smaller", Precision.FP16)
    assert isinstance(smaller, ToolResult) and difference(ours(load(smaller.path)), ours(model)) < 0.05


# ---- damaged and foreign folders -------------------------------------------------------------------------------------


def change(file: Path, **values: Any) -> None:
    kept = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in kept.items() if value != "absent"}))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"_class_name": "DiTTransformer2DModel"}, "Such a pipeline needs a UNet2DModel, but its network is DiTTransf"),
        (
            {"_class_name": "absent"},
            "Such a pipeline needs a UNet2DModel, but the configuration of its U-Net is missing",
        ),
        ({"num_class_embeds": 10}, "Its U-Net is class-conditional"),
        ({"class_embed_type": "identity"}, "Its U-Net is class-conditional"),
        ({"in_channels": 4.5}, "A U-Net with 4.5 input and 3 output channels cannot generate images"),
        ({"in_channels": 2}, "A U-Net with 2 input and 3 output channels cannot generate images"),
        ({"sample_size": None}, "The size of its images is unknown: sample_size is None"),
        ({"sample_size": [8, True, 3]}, "The size of its images is unknown"),
        ({"sample_size": 10**9}, "The size of its images is unknown"),
    ],
)
def test_a_network_of_another_kind_is_named(tmp_path: Path, values: dict[str, Any], why: str) -> None:
    folder = small_ddpm(tmp_path / "small")
    change(folder / "unet" / "config.json", **values)
    checkpoint = read_folder(folder)
    assert not checkpoint.can_generate and why in checkpoint.reason
    with pytest.raises(CheckpointUnknown, match="small is not of a supported type"):
        loading.load(checkpoint, CPU)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"prediction_type": "flow"}, "its prediction_type is 'flow'"),
        ({"beta_schedule": "laplace"}, "its beta_schedule is 'laplace'"),
        ({"beta_end": "much"}, "could not convert"),
        ({"trained_betas": [0.1, 0.2]}, "it has custom betas"),
        ({"_class_name": "EDMEulerScheduler"}, "its scheduler is EDMEulerScheduler"),
        ({"clip_sample_range": -1}, "its clip_sample_range is -1"),
        ({"clip_sample_range": "wide"}, "its clip_sample_range is wide"),
        ({"thresholding": True, "sample_max_value": 0.5}, "its thresholding has the ratio 0.995 and the maximum 0.5"),
        ({"thresholding": True, "dynamic_thresholding_ratio": True}, "its dynamic_thresholding_ratio is True"),
    ],
)
def test_a_scheduler_of_another_kind_is_named(tmp_path: Path, values: dict[str, Any], why: str) -> None:
    folder = small_ddpm(tmp_path / "small")
    change(folder / "scheduler" / "scheduler_config.json", **values)
    with pytest.raises(
        CheckpointUnknown, match="small was trained on a noise schedule that is not supported"
    ) as raised:
        load(folder)
    assert why in str(raised.value.why)


def test_damage_is_said(tmp_path: Path) -> None:
    def refused(change_it: Any) -> CheckpointProblem:
        folder = small_ddpm(tmp_path / f"case{len(list(tmp_path.iterdir()))}")
        change_it(folder)
        with pytest.raises(CheckpointProblem) as raised:
            load(folder)
        return raised.value

    weights = Path("unet") / "diffusion_pytorch_model.safetensors"
    assert isinstance(refused(lambda folder: (folder / weights).write_bytes(b"\0" * 64)), CheckpointDamaged)
    assert isinstance(refused(lambda folder: (folder / weights).unlink()), CheckpointDamaged)
    assert isinstance(
        refused(lambda folder: change(folder / "unet" / "config.json", block_out_channels=[8, 24])), CheckpointDamaged
    )
    assert "cannot be read" in str(refused(lambda folder: (folder / "unet" / "config.json").write_text("{")))
    assert "scheduler" in str(refused(lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink()))
    many = refused(lambda folder: change(folder / "unet" / "config.json", down_block_types=["os.system", "Evil"]))
    assert isinstance(many, CheckpointDamaged)


def test_a_table_of_too_few_timesteps_is_damage(tmp_path: Path) -> None:
    folder = small_ddpm(
        tmp_path / "small", unet={"time_embedding_type": "learned", "num_train_timesteps": 100}, num_train_timesteps=100
    )
    assert load(folder).schedule.steps == 100
    change(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=200)
    with pytest.raises(
        CheckpointDamaged, match="its scheduler has 200 timesteps, and its U-Net has embeddings for 100"
    ):
        load(folder)
