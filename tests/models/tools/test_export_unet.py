"""A U-Net that was trained here, exported: diffusers' pipelines and networks give what ours give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, UNet2DConditionModel, UNet2DModel
from torch import Tensor

from diffstudio import cli
from diffstudio.diffusion.objectives.parameterisation import Parameterisation, Prediction
from diffstudio.diffusion.samplers import SAMPLERS
from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models import loading
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.fitted_steps.distilled import KEY
from diffstudio.models.fitted_steps.stored import rewrite_metadata
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.tools.export import export, exportable
from diffstudio.models.tools.export_unet import flow_times
from diffstudio.models.tools.spec import Precision, ToolResult
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition
from diffstudio.networks.unet import input_scale
from diffstudio.studio.library.weight_requests import is_exportable
from tests.models.tiny import CLASSES, write_tiny_checkpoint, write_tiny_unet

STEPS = 10
EPS = Parameterisation(Prediction.EPS)


def exported(path: Path, precision: Precision = Precision.KEEP) -> tuple[PixelModel, Path, ToolResult]:
    """Our model of a checkpoint, the folder that it was exported to, and what the export says."""
    checkpoint = read_checkpoint(path)
    assert exportable(checkpoint) and is_exportable(checkpoint)
    *fractions, result = export(checkpoint, path.with_suffix(""), precision)
    assert isinstance(result, ToolResult) and fractions == sorted(fractions)
    model = loading.load(checkpoint, torch.device("cpu"))
    assert isinstance(model, PixelModel)
    return model, result.path, result


def drawn(model: PixelModel, prompt: str, noise: Tensor, timesteps: Tensor, prediction: str) -> Tensor:
    """Our DDIM at the times of DDPM's timesteps, from the same noise."""
    times = torch.cat((flow_times(prediction)[timesteps], torch.zeros(1, dtype=torch.float64)))
    start = noise / input_scale(times[:1]).float()
    denoiser = model.denoiser(model.encode_prompt(prompt), 1.0)
    *_, last = SAMPLERS["ddim"](denoiser, start, times, torch.zeros_like)
    return last.x


@pytest.mark.parametrize(("parameterisation", "prediction"), [(Parameterisation(), "sample"), (EPS, "epsilon")])
def test_an_unconditional_one_draws_the_same_picture_as_a_pipeline(
    parameterisation: Parameterisation, prediction: str, tmp_path: Path
) -> None:
    path = write_tiny_unet(tmp_path / "own.safetensors", Conditioning.NONE, parameterisation=parameterisation)
    model, folder, result = exported(path)
    assert result.notes == ("It opens with DDPMPipeline and DDIMPipeline.",)
    pipeline = DDIMPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.scheduler.config.prediction_type == prediction
    theirs = pipeline(
        generator=torch.Generator().manual_seed(3), num_inference_steps=STEPS, eta=0.0, output_type="np"
    ).images
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    ours = drawn(model, "", noise, pipeline.scheduler.timesteps, prediction)
    assert pipeline.scheduler.timesteps[0] == 999 and ours.std() > 0.05
    torch.testing.assert_close(
        torch.from_numpy(theirs).permute(0, 3, 1, 2), (ours / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-4
    )
    of_ddpm = DDPMPipeline.from_pretrained(folder, local_files_only=True)
    of_ddpm.set_progress_bar_config(disable=True)
    assert of_ddpm(num_inference_steps=2, batch_size=2).images[1].size == (16, 16)


def test_the_schedule_of_the_folder_is_the_one_that_the_times_are_for(tmp_path: Path) -> None:
    for prediction, parameterisation in (("sample", Parameterisation()), ("epsilon", EPS)):
        path = write_tiny_unet(
            tmp_path / f"{prediction}.safetensors", Conditioning.NONE, parameterisation=parameterisation
        )
        scheduler = DDIMScheduler.from_pretrained(exported(path)[1], subfolder="scheduler")
        signal = scheduler.alphas_cumprod.double()
        noise_to_signal = ((1 - signal) / signal).sqrt()
        times = flow_times(prediction)
        torch.testing.assert_close(times / (1 - times), noise_to_signal, rtol=1e-4, atol=0)
        assert noise_to_signal[-1] < {"sample": 160, "epsilon": 20}[prediction]


def test_one_of_classes_gives_the_same_output(tmp_path: Path) -> None:
    model, folder, _ = exported(write_tiny_unet(tmp_path / "own.safetensors", Conditioning.CLASS))
    unet = UNet2DModel.from_pretrained(folder, subfolder="unet", local_files_only=True)
    x, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, len(CLASSES), 1])
    for k in (0, 400, 999):
        t = flow_times("sample")[k].float().expand(4)
        condition = Condition(class_labels=labels)
        with torch.no_grad():
            ours = model.network(x / input_scale(t)[:, None, None, None], t, condition)
            theirs = unet(x, torch.tensor(k), labels).sample
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    assert not (folder / "model_index.json").exists()


def test_one_of_captions_gives_the_same_output(tmp_path: Path) -> None:
    model, folder, result = exported(write_tiny_unet(tmp_path / "own.safetensors"))
    assert "UNet2DConditionModel" in result.notes[0]
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", local_files_only=True)
    condition = model.encode_prompt(["red apple", ""]).positive.first
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.9])
    tokens = safetensors.torch.load_file(folder / "tokens.safetensors")
    text = tokens["token_embed.weight"][condition.token_ids] + tokens["token_pos_embed"]
    with torch.no_grad():
        ours = model.network(x / input_scale(t)[:, None, None, None], t, condition)
        theirs = unet(x, 1000 * t, text).sample
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("conditioning", list(Conditioning))
def test_what_the_readme_says_draws_the_same_picture(conditioning: Conditioning, tmp_path: Path) -> None:
    path = write_tiny_unet(tmp_path / "own.safetensors", conditioning, channels=2 if conditioning == "none" else 3)
    model, folder, _ = exported(path)
    prompt = {Conditioning.NONE: "", Conditioning.CLASS: CLASSES[0], Conditioning.TEXT: "red apple"}[conditioning]
    code = re.search(r"```python\n(.*)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    script = code[1].replace("a caption", prompt).replace("set_timesteps(50)", f"set_timesteps({STEPS})")
    values = {"folder": str(folder)}
    exec(script.replace("x = torch.randn", "torch.manual_seed(3)\nx = torch.randn"), values)
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(STEPS)
    torch.manual_seed(3)
    noise = torch.randn(1, model.config.in_channels, 16, 16)
    ours = drawn(model, prompt, noise, scheduler.timesteps, "sample")
    torch.testing.assert_close(values["x"], ours, rtol=0, atol=1e-4)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert ("0 apple, 1 rocket, 2 heart" in readme) == (conditioning is Conditioning.CLASS)


def test_half_precision_keeps_the_table_of_times(tmp_path: Path) -> None:
    path = write_tiny_unet(tmp_path / "own.safetensors", Conditioning.NONE, channels=1, shape=(24, 16))
    _, folder, _ = exported(path, Precision.FP16)
    tensors = safetensors.torch.load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert tensors.pop("time_proj.weight").dtype is torch.float32
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    pipeline = DDPMPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(num_inference_steps=1).images[0].size == (24, 16)


def test_what_a_ddpm_scheduler_does_not_know_is_refused(tmp_path: Path) -> None:
    velocity = Parameterisation(Prediction.VELOCITY)
    path = write_tiny_unet(tmp_path / "own.safetensors", Conditioning.NONE, parameterisation=velocity)
    with pytest.raises(CheckpointUnknown, match="predicts velocity.*Train it with objective.prediction x0 or eps"):
        list(export(read_checkpoint(path), tmp_path / "x"))
    path = write_tiny_unet(tmp_path / "few.safetensors", Conditioning.NONE)
    tensors, metadata = safetensors.torch.load_file(path), dict(read_checkpoint(path).metadata)
    metadata[KEY] = json.dumps({"teacher": "mine", "sha256": "", "guidance": 1.0})
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(CheckpointUnknown, match="distilled to few steps.*distilled from, mine"):
        list(export(read_checkpoint(path), tmp_path / "x"))
    transformer = read_checkpoint(write_tiny_checkpoint(tmp_path / "other.safetensors"))
    assert not exportable(transformer) and not is_exportable(transformer)
    with pytest.raises(CheckpointUnknown, match="only U-Nets have one"):
        list(export(transformer, tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = write_tiny_unet(tmp_path / "own.safetensors", Conditioning.CLASS)
    tensors, metadata = safetensors.torch.load_file(path), dict(read_checkpoint(path).metadata)
    for name in ("cond_embed.class_embed.weight", "unet.conv_in.weight"):
        safetensors.torch.save_file({key: value for key, value in tensors.items() if key != name}, path, metadata)
        with pytest.raises(CheckpointDamaged, match="does not fit its header"):
            list(export(read_checkpoint(path), tmp_path / "x"))
    network = json.loads(metadata["diffstudio.network"])
    safetensors.torch.save_file(
        tensors, path, metadata | {"diffstudio.network": json.dumps(network | {"block_out_channels": "wide"})}
    )
    with pytest.raises(CheckpointDamaged, match="has no valid network"):
        list(export(read_checkpoint(path), tmp_path / "x"))


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_unet(tmp_path / "own.safetensors", Conditioning.NONE)
    assert cli.main(["models", "export", str(path), "--out", str(tmp_path / "folder")]) == 0
    assert "DDPMPipeline" in "".join(capsys.readouterr())
    assert json.loads((tmp_path / "folder" / "model_index.json").read_text())["_class_name"] == "DDPMPipeline"


def test_a_minimum_timestep_that_is_left_out_is_named(tmp_path: Path) -> None:
    path = write_tiny_unet(tmp_path / "own.safetensors", Conditioning.NONE, parameterisation=EPS)
    assert "minimum timestep" not in " ".join(exported(path)[2].notes)
    again = path.rename(tmp_path / "again.safetensors")
    rewrite_metadata(again, {"diffstudio.sampling": json.dumps({"min_timestep": 0.2})}, "no space")
    assert "Its minimum timestep, t = 0.2, is left out" in " ".join(exported(again)[2].notes)
