"""Export a U-Net that was trained here: as a DDPM pipeline of diffusers if it is unconditional, else as its network.

The network was trained on a rectified flow, x_t = (1 - t) x_0 + t eps. A DDPM pipeline passes
x_k = sqrt(a_k) x_0 + sqrt(1 - a_k) eps at timestep k (Ho et al. 2020, arXiv 2006.11239, eq. 4). The two differ only by a
factor where t / (1 - t) = sqrt(1 - a_k) / sqrt(a_k), and `networks.unet` divides by that factor itself. So only the
time has to be translated: a table of the time embedding for every k, which `UNet2DModel` calls "learned". The result is
exact. `UNet2DConditionModel` has no such table; its timestep is 1000 t, which the folder's README says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffstudio.atomic import atomic_folder
from diffstudio.diffusion.objectives.parameterisation import Prediction
from diffstudio.diffusion.schedule import BetaCurve, VariancePreserving
from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.checkpoint import TRAIN_OR_DOWNLOAD, Checkpoint
from diffstudio.models.components.components import empty_module, incomplete
from diffstudio.models.files.formats import INDEX
from diffstudio.models.fitted_steps.distilled import ESTIMATES_NO_MEAN, distilled
from diffstudio.models.recommended import min_timestep_of
from diffstudio.models.state_dicts.to_original import State
from diffstudio.models.tools.convert import PrecisionCaster, check_precision
from diffstudio.models.tools.spec import Precision, ToolProgress, ToolResult
from diffstudio.models.tools.weights_writer import check_target, open_checkpoint, size_of, write_tensors
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.unet import TIMESTEPS, UNetConfig

STEPS = 1000
WEIGHTS, TEXT_WEIGHTS = "diffusion_pytorch_model.safetensors", "tokens.safetensors"
_PREDICTIONS = {Prediction.X0: "sample", Prediction.EPS: "epsilon"}
# First and last beta. DDPM's; an eps network is not evaluated above `diffusion.denoiser.LARGEST_SIGMA`, and the schedule of
# Stable Diffusion ends before it.
_SCHEDULES = {"sample": (BetaCurve.LINEAR, 1e-4, 0.02), "epsilon": (BetaCurve.SCALED_LINEAR, 0.00085, 0.012)}
_TABLE = "time_proj.weight"  # of UNet2DModel: kept in float32, because angles need the precision
_CONFIGURATION_BYTES = 1 << 20
_OF_IMAGES = (1, 3)  # channels that diffusers' pipeline can show


def export_unet(checkpoint: Checkpoint, target: Path, precision: Precision = Precision.KEEP) -> ToolProgress:
    """A folder at `target`: `unet/` and `scheduler/`, and for captions the tokenizer and the embeddings of its tokens.

    CheckpointUnknown for a prediction that DDPM schedulers do not support, and for a model distilled to few steps.
    CheckpointDamaged.
    """
    check_precision(checkpoint, precision)
    config, prediction = _config(checkpoint), _prediction(checkpoint)
    described = _described(config, checkpoint)
    caster = PrecisionCaster()
    with open_checkpoint(checkpoint) as weights:
        unet, text = _named(weights.tensors, config)
        if config.conditioning is not Conditioning.TEXT:
            unet[_TABLE] = time_table(config.block_out_channels[0], prediction)
        _check_whole(checkpoint, unet, described)
        table = {name: tensor for name, tensor in unet.items() if name == _TABLE}
        stored = {f"unet/{WEIGHTS}": caster.cast(unet, precision) | table}
        if text:
            stored[TEXT_WEIGHTS] = caster.cast(text, precision)
        whole = sum(map(size_of, stored.values()))
        check_target(target, whole + _CONFIGURATION_BYTES)
        with atomic_folder(target) as folder:
            _write_configs(checkpoint, config, described, prediction, folder)
            done = 0
            for name, state in stored.items():
                with (folder / name).open("xb") as file:
                    for fraction in write_tensors(file, name, state, {"format": "pt"}):
                        yield (done + fraction * size_of(state)) / whole
                done += size_of(state)
    yield ToolResult(target, whole, (_what(config), *_left_out(checkpoint), *caster.notes(precision)))


def time_table(width: int, prediction: str) -> Tensor:
    """The network's time embedding [STEPS,width] at the timesteps 0 to STEPS - 1."""
    from diffusers.models.embeddings import get_timestep_embedding

    times = (TIMESTEPS * flow_times(prediction)).float()
    embedded: Tensor = get_timestep_embedding(times, width, flip_sin_to_cos=True, downscale_freq_shift=0)
    return embedded


def flow_times(prediction: str) -> Tensor:
    """The times [STEPS] of the rectified flow with the sigma / alpha of the timesteps 0 to STEPS - 1, float64."""
    curve, first, last = _SCHEDULES[prediction]
    schedule = VariancePreserving(curve, STEPS, first, last)
    k = torch.arange(1, STEPS + 1, dtype=torch.float64)
    alpha, sigma = schedule.alpha(k), schedule.sigma(k)
    return sigma / (alpha + sigma)


def _config(checkpoint: Checkpoint) -> UNetConfig:
    try:
        values = dict(checkpoint.json("network"))
        return UNetConfig.from_json({key: value for key, value in values.items() if key not in ("kind", "version")})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointDamaged(
            f"The header of {checkpoint.name} has no valid network", str(error)[:200], TRAIN_OR_DOWNLOAD
        ) from error


def _prediction(checkpoint: Checkpoint) -> str:
    """What the network predicts, as the `prediction_type` of diffusers' schedulers."""
    known = checkpoint.parameterisation.prediction
    what = f"No diffusers scheduler supports {checkpoint.name}"
    if known not in _PREDICTIONS:
        names = " or ".join(map(str, _PREDICTIONS))
        raise CheckpointUnknown(
            what, f"it predicts {known} of a rectified flow", f"Train it with objective.prediction {names}"
        )
    if (found := distilled(checkpoint)) is not None:
        raise CheckpointUnknown(
            what, ESTIMATES_NO_MEAN, f"Export the checkpoint that it was distilled from, {found.teacher}"
        )
    return _PREDICTIONS[known]


def _described(config: UNetConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    """The `config.json` of diffusers' network."""
    import diffusers

    of_text = config.conditioning is Conditioning.TEXT
    values = config.arguments() | {"class_embed_type": None}
    if checkpoint.width != checkpoint.height:
        values["sample_size"] = (checkpoint.height, checkpoint.width)
    if config.conditioning is Conditioning.CLASS:
        values["num_class_embeds"] = config.num_classes + 1
    if not of_text:
        values |= {"time_embedding_type": "learned", "num_train_timesteps": STEPS}
    name = "UNet2DConditionModel" if of_text else "UNet2DModel"
    return {"_class_name": name, "_diffusers_version": diffusers.__version__} | values


def _named(tensors: State, config: UNetConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of diffusers' network, by its names, and those of the captions' tokens.

    Augmentation labels are left out: they add nothing for images that are not augmented.
    """
    unet = {name.removeprefix("unet."): tensor for name, tensor in tensors.items() if name.startswith("unet.")}
    text: dict[str, Tensor] = {}
    for name in ("token_embed.weight", "token_pos_embed"):
        if f"cond_embed.{name}" in tensors:
            text[name] = tensors[f"cond_embed.{name}"]
    if config.conditioning is Conditioning.CLASS and "cond_embed.class_embed.weight" in tensors:
        unet["class_embedding.weight"] = tensors["cond_embed.class_embed.weight"]
    return unet, text


def _check_whole(checkpoint: Checkpoint, state: Mapping[str, Tensor], described: Mapping[str, Any]) -> None:
    import diffusers

    kind = diffusers.UNet2DConditionModel if "cross_attention_dim" in described else diffusers.UNet2DModel
    expected = {name: value.shape for name, value in empty_module(kind, described).state_dict().items()}
    if wrong := sorted(
        name
        for name in expected.keys() | state.keys()
        if name not in state or name not in expected or state[name].shape != expected[name]
    ):
        raise CheckpointDamaged(
            incomplete("unet", checkpoint.name), f"{wrong[0]} does not fit its header", TRAIN_OR_DOWNLOAD
        )


def _write_configs(
    checkpoint: Checkpoint, config: UNetConfig, described: Mapping[str, Any], prediction: str, folder: Path
) -> None:
    version, (curve, first, last) = described["_diffusers_version"], _SCHEDULES[prediction]
    scheduler = {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": version,
        "num_train_timesteps": STEPS,
        "beta_schedule": curve.value,
        "beta_start": first,
        "beta_end": last,
        "prediction_type": prediction,
        "clip_sample": False,
        "timestep_spacing": "trailing",  # begins with the noisiest timestep, whatever the number of steps
    }
    _write_json(folder / "unet" / "config.json", described)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    if _is_pipeline(config):
        index = {"_class_name": "DDPMPipeline", "_diffusers_version": version}
        parts = {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}
        _write_json(folder / INDEX, index | parts)
    if config.conditioning is Conditioning.TEXT:
        tokenizer = checkpoint.metadata.get("diffstudio.tokenizer", "{}")
        (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (folder / "README.md").write_text(_readme(checkpoint, config), encoding="utf-8")


def _is_pipeline(config: UNetConfig) -> bool:
    return config.conditioning is Conditioning.NONE and config.in_channels in _OF_IMAGES


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _what(config: UNetConfig) -> str:
    if _is_pipeline(config):
        return "It opens with DDPMPipeline and DDIMPipeline."
    kind = "UNet2DConditionModel" if config.conditioning is Conditioning.TEXT else "UNet2DModel"
    return f"Its network opens with {kind}; README.md has the loop that samples with it."


def _left_out(checkpoint: Checkpoint) -> Iterator[str]:
    if min_timestep := min_timestep_of(checkpoint):
        yield (
            f"Its minimum timestep, t = {min_timestep:g}, is left out: diffusers calls the network at every timestep, so "
            "images have more noise than here."
        )


_PIPELINE = """\
from diffusers import DDIMPipeline, DDPMPipeline
image = DDIMPipeline.from_pretrained(folder)(num_inference_steps=50).images[0]
"""
_LOOP = """\
import torch
from diffusers import {kind}, DDIMScheduler
unet = {kind}.from_pretrained(folder, subfolder="unet")
scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
{condition}
x = torch.randn(1, {channels}, {height}, {width})
scheduler.set_timesteps(50)
with torch.no_grad():
    for k in scheduler.timesteps:
        x = scheduler.step({call}, k, x).prev_sample
"""
_OF_CLASS = """\
labels = torch.tensor([0])  # the index of a class; {none} is no class, for classifier-free guidance"""
_OF_TEXT = """\
from safetensors.torch import load_file
from tokenizers import Tokenizer
tokens = load_file(f"{{folder}}/tokens.safetensors")
ids = Tokenizer.from_file(f"{{folder}}/tokenizer.json").encode("a caption").ids[:{length}]
ids = torch.tensor([ids + [0] * ({length} - len(ids))])  # all 0 is no caption, for classifier-free guidance
text = tokens["token_embed.weight"].float()[ids] + tokens["token_pos_embed"].float()
def time(k):  # the network was trained on a rectified flow: 1000 times its noise level
    alpha, sigma = scheduler.alphas_cumprod[k] ** 0.5, (1 - scheduler.alphas_cumprod[k]) ** 0.5
    return 1000 * sigma / (alpha + sigma)"""


def _readme(checkpoint: Checkpoint, config: UNetConfig) -> str:
    """How to sample with it in diffusers."""
    about = [f"# {checkpoint.title}", "Trained with diffstudio. `folder` is this folder."]
    if config.conditioning is Conditioning.CLASS:
        about.append("Classes: " + ", ".join(f"{index} {name}" for index, name in enumerate(checkpoint.classes)))
    if _is_pipeline(config):
        code = _PIPELINE
    else:
        calls = {
            Conditioning.NONE: ("UNet2DModel", "", "unet(x, k).sample"),
            Conditioning.CLASS: ("UNet2DModel", _OF_CLASS.format(none=config.num_classes), "unet(x, k, labels).sample"),
            Conditioning.TEXT: (
                "UNet2DConditionModel",
                _OF_TEXT.format(length=config.text_tokens),
                "unet(x, time(k), text).sample",
            ),
        }
        kind, condition, call = calls[config.conditioning]
        size = {"height": checkpoint.height, "width": checkpoint.width}
        code = _LOOP.format(kind=kind, condition=condition, call=call, channels=config.in_channels, **size)
    return "\n\n".join([*about, f"```python\n{code}```"]) + "\n"
