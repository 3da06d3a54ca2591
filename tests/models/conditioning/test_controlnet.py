"""ControlNets steer as they do in diffusers' own pipelines, whatever their tensors are called; what is none is refused."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from torch import Tensor

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.conditioning.controlnet import controlnet_residuals, load_controlnet
from diffstudio.models.conditioning.image_inputs import ControlNetInput
from diffstudio.models.families.stable_diffusion import StableDiffusion
from diffstudio.models.memory.offload import place_controlnet
from diffstudio.models.model import OffloadLevel
from tests.models import small
from tests.models.families.beside import (
    CPU,
    NEGATIVE,
    PROMPTS,
    ROUNDING,
    checkpoint,
    difference,
    generators,
    load,
    ours,
    start,
    their_scheduler,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",  # diffusers, with NumPy 2
    "ignore:`Transformer2DModelOutput` is deprecated:FutureWarning",
)
PICTURE = torch.rand(1, 3, small.SIDE, small.SIDE, generator=torch.Generator().manual_seed(3))
OTHER_PICTURE = torch.rand(1, 3, small.SIDE, small.SIDE, generator=torch.Generator().manual_seed(4))


def lively(network: Any, seed: int = 9) -> ControlNetModel:
    """A ControlNet for that network, whose last convolutions are not zero as at the start of training."""
    torch.manual_seed(seed)
    control = ControlNetModel.from_unet(network, conditioning_embedding_out_channels=(8, 16, 24, 32)).eval()
    with torch.no_grad():
        for part in (
            control.controlnet_down_blocks,
            control.controlnet_mid_block,
            control.controlnet_cond_embedding.conv_out,
        ):
            for parameter in part.parameters():
                parameter.normal_(std=0.05)
    return control


def lively_union(network: Any, control_types: int = 6, seed: int = 9) -> ControlNetUnionModel:
    """A union ControlNet for that network, likewise, with the eight attention heads of the published ones."""
    torch.manual_seed(seed)
    shared = inspect.signature(ControlNetUnionModel.__init__).parameters.keys() & network.config.keys()
    width = network.config.block_out_channels[0]
    control = ControlNetUnionModel(
        **{name: network.config[name] for name in shared},
        conditioning_embedding_out_channels=(8, 16, 24, 32),
        num_control_type=control_types,
        num_trans_channel=width,
        num_proj_channel=width,
    ).eval()
    with torch.no_grad():
        for part in (
            control.controlnet_down_blocks,
            control.controlnet_mid_block,
            control.controlnet_cond_embedding.conv_out,
            control.spatial_ch_projs,
        ):
            for parameter in part.parameters():
                parameter.normal_(std=0.05)
    return control


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, StableDiffusion, ControlNetModel]]:
    made = {}
    for family, build in (("sd1", small.small_sd1), ("sdxl", small.small_sdxl)):
        folder = tmp_path_factory.mktemp(family)
        pipeline = build(folder)
        made[family] = pipeline, load(folder, family), lively(pipeline.unet)
    return made


def hint(model: StableDiffusion, control: ControlNetModel, **options: Any) -> ControlNetInput:
    own = load_controlnet(checkpoint(Path("control"), "sd1"), model.network, CPU, torch.float32, control.state_dict())
    return ControlNetInput(own, PICTURE, **options)


KINDS = {"sd1": diffusers.StableDiffusionControlNetPipeline, "sdxl": diffusers.StableDiffusionXLControlNetPipeline}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize(("scale", "begins", "ends"), [(1.0, 0.0, 1.0), (0.6, 0.2, 0.8)])
def test_as_in_diffusers(pipelines: Any, family: str, scale: float, begins: float, ends: float) -> None:
    pipeline, model, control = pipelines[family]
    scheduler = their_scheduler("euler", "trailing")
    parts = pipeline.components | {"controlnet": control, "scheduler": scheduler}
    if family == "sdxl":
        parts |= {"add_watermarker": False}
    steered = KINDS[family](**parts)
    steered.set_progress_bar_config(disable=True)
    times = model.times(5, "trailing", 1.0, small.SIDE, small.SIDE)
    expected = steered(
        PROMPTS,
        image=PICTURE,
        num_inference_steps=5,
        output_type="latent",
        negative_prompt=[NEGATIVE] * 2,
        guidance_scale=4.0,
        controlnet_conditioning_scale=scale,
        control_guidance_start=begins,
        control_guidance_end=ends,
        generator=generators(),
        latents=start(model, scheduler, "euler", 5, times),
    ).images
    settings: dict[str, Any] = {"sampler": "euler", "spacing": "trailing", "guidance": 4.0}
    made = ours(model, controls=[hint(model, control, scale=scale, begins=begins, ends=ends)], **settings)
    assert difference(made, expected) < ROUNDING
    assert difference(made, ours(model, **settings)) > 100 * ROUNDING


def test_several_add_up_and_none_is_none(pipelines: Any) -> None:
    _, model, control = pipelines["sd1"]
    one = hint(model, control)
    half = replace(one, scale=0.5)
    settings: dict[str, Any] = {"sampler": "euler", "guidance": 3.0, "steps": 3}
    assert (
        difference(ours(model, controls=[half, half], **settings), ours(model, controls=[one], **settings)) < ROUNDING
    )
    assert torch.equal(ours(model, controls=[replace(one, begins=0.9, ends=0.95)], **settings), ours(model, **settings))


def original_names(control: ControlNetModel) -> dict[str, Tensor]:
    """The same tensors as ControlNet's own code calls them."""
    return {f"control_model.{_original_name(name)}": value for name, value in control.state_dict().items()}


def _original_name(name: str) -> str:
    resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    if found := re.match(r"time_embedding\.linear_(\d)\.(\w+)", name):
        return f"time_embed.{2 * int(found[1]) - 2}.{found[2]}"
    if found := re.match(r"conv_in\.(\w+)", name):
        return f"input_blocks.0.0.{found[1]}"
    if found := re.match(r"controlnet_down_blocks\.(\d+)\.(\w+)", name):
        return f"zero_convs.{found[1]}.0.{found[2]}"
    if found := re.match(r"controlnet_mid_block\.(\w+)", name):
        return f"middle_block_out.0.{found[1]}"
    if found := re.match(r"controlnet_cond_embedding\.(conv_in|blocks\.(\d+)|conv_out)\.(\w+)", name):
        index = 0 if found[1] == "conv_in" else 14 if found[1] == "conv_out" else 2 * int(found[2]) + 2
        return f"input_hint_block.{index}.{found[3]}"
    if found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(\w+)", name):
        return f"input_blocks.{3 * int(found[1]) + 3}.0.op.{found[2]}"
    if found := re.match(r"(?:down_blocks\.(\d)|mid_block)\.(resnets|attentions)\.(\d)\.(.*)", name):
        level, kind, index, rest = found.groups()
        first = rest.split(".")[0]
        rest = rest.replace(first, resnet[first], 1) if kind == "resnets" else rest
        if level is None:
            return f"middle_block.{2 * int(index) if kind == 'resnets' else 1}.{rest}"
        return f"input_blocks.{3 * int(level) + 1 + int(index)}.{0 if kind == 'resnets' else 1}.{rest}"
    raise AssertionError(name)


def test_original_names(pipelines: Any) -> None:
    _, model, control = pipelines["sd1"]
    own = load_controlnet(
        checkpoint(Path("original"), "sd1"), model.network, CPU, torch.float32, original_names(control)
    )
    expected = control.state_dict()
    assert own.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in own.state_dict().items())


def test_a_difference_is_added_to_the_weights_of_the_checkpoint(pipelines: Any) -> None:
    """As AUTOMATIC1111's extension does for files with a `difference` tensor: of all tensors that the U-Net has too."""
    _, model, control = pipelines["sd1"]
    base, whole = model.network.state_dict(), control.state_dict()
    shared = [name for name in whole if name in base]
    assert len(shared) > 100 and "controlnet_mid_block.weight" not in shared
    apart = lively(model.network)
    apart.load_state_dict({name: value - base[name] if name in base else value for name, value in whole.items()})
    path = checkpoint(Path("difference"), "sd1")
    state = original_names(apart) | {"difference": torch.zeros(0)}
    own = load_controlnet(path, model.network, CPU, torch.float32, state).state_dict()
    assert all(torch.allclose(own[name], value, atol=1e-5) for name, value in whole.items())
    assert "difference" in state  # the caller's tensors are left alone
    wide = state | {"control_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3)}
    with pytest.raises(CheckpointUnknown, match="cannot be added to this checkpoint"):
        load_controlnet(path, model.network, CPU, torch.float32, wide)


def test_a_file_and_a_folder(pipelines: Any, tmp_path: Path) -> None:
    _, model, control = pipelines["sd1"]
    control.save_pretrained(tmp_path / "folder")
    for path in (tmp_path / "folder", tmp_path / "folder" / "diffusion_pytorch_model.safetensors"):
        own = load_controlnet(checkpoint(path, "sd1"), model.network, CPU, torch.float32)
        expected = control.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in own.state_dict().items())
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointDamaged, match="is not a weights file: it is a text that begins “hello”"):
        load_controlnet(checkpoint(tmp_path / "text.safetensors", "sd1"), model.network, CPU, torch.float32)


def test_what_does_not_fit_is_said(pipelines: Any) -> None:
    _, sd1, control = pipelines["sd1"]
    _, sdxl, _ = pipelines["sdxl"]
    with pytest.raises(CheckpointUnknown, match="is for another kind"):
        load_controlnet(checkpoint(Path("other"), "sd1"), sdxl.network, CPU, torch.float32, control.state_dict())
    short = control.state_dict()
    del short["mid_block.resnets.0.conv1.weight"]
    with pytest.raises(CheckpointDamaged, match="incomplete or damaged"):
        load_controlnet(checkpoint(Path("short"), "sd1"), sd1.network, CPU, torch.float32, short)
    for weights in ({"lllite_unet.weight": torch.zeros(1)}, {"x": torch.zeros(1)}, {}):
        with pytest.raises(CheckpointUnknown):
            load_controlnet(checkpoint(Path("odd"), "sd1"), sd1.network, CPU, torch.float32, weights)


# ---- union ControlNets -----------------------------------------------------------------------------------------------

OPENPOSE, DEPTH, LINES, REPAINT = 0, 1, 3, 7  # the rows of task_embedding, by the model card


@pytest.fixture(scope="module")
def unions(pipelines: Any) -> dict[int, tuple[ControlNetUnionModel, Any]]:
    """By number of control types: diffusers' model, and ours loaded from its tensors."""
    pipeline, model, _ = pipelines["sdxl"]
    made = {}
    for count in (6, 8):
        union = lively_union(pipeline.unet, count)
        state = union.state_dict()
        made[count] = union, load_controlnet(checkpoint(Path("u"), "sdxl"), model.network, CPU, torch.float32, state)
    return made


def of_the_union_pipeline(pipeline: Any, model: StableDiffusion, union: Any, **options: Any) -> Tensor:
    scheduler = their_scheduler("euler", "trailing")
    parts = pipeline.components | {"controlnet": union, "scheduler": scheduler, "add_watermarker": False}
    steered = diffusers.StableDiffusionXLControlNetUnionPipeline(**parts)
    steered.set_progress_bar_config(disable=True)
    times = model.times(5, "trailing", 1.0, small.SIDE, small.SIDE)
    latents: Tensor = steered(
        PROMPTS,
        num_inference_steps=5,
        output_type="latent",
        negative_prompt=[NEGATIVE] * 2,
        generator=generators(),
        latents=start(model, scheduler, "euler", 5, times),
        **options,
    ).images
    return latents


@pytest.mark.parametrize(
    ("count", "control_type", "scale", "begins", "ends", "guidance"),
    [(6, OPENPOSE, 1.0, 0.0, 1.0, 4.0), (6, LINES, 0.6, 0.2, 0.8, 4.0), (8, REPAINT, 0.8, 0.0, 0.6, 1.0)],
)
def test_a_union_is_as_in_diffusers(
    pipelines: Any,
    unions: Any,
    count: int,
    control_type: int,
    scale: float,
    begins: float,
    ends: float,
    guidance: float,
) -> None:
    """With classifier-free guidance and without, for the whole of the steps and for a part."""
    pipeline, model, _ = pipelines["sdxl"]
    union, own = unions[count]
    expected = of_the_union_pipeline(
        pipeline,
        model,
        union,
        control_image=[PICTURE],
        control_mode=[control_type],
        controlnet_conditioning_scale=scale,
        control_guidance_start=begins,
        control_guidance_end=ends,
        guidance_scale=guidance,
    )
    settings: dict[str, Any] = {"sampler": "euler", "spacing": "trailing", "guidance": guidance}
    one = ControlNetInput(own, PICTURE, scale, begins, ends, control_type)
    made = ours(model, controls=[one], **settings)
    assert difference(made, expected) < ROUNDING
    assert difference(made, ours(model, controls=[replace(one, control_type=DEPTH)], **settings)) > 100 * ROUNDING


def test_several_images_of_one_union_are_fused_as_in_diffusers(pipelines: Any, unions: Any) -> None:
    pipeline, model, _ = pipelines["sdxl"]
    union, own = unions[8]
    expected = of_the_union_pipeline(
        pipeline,
        model,
        union,
        control_image=[PICTURE, OTHER_PICTURE],
        control_mode=[DEPTH, LINES],
        controlnet_conditioning_scale=[0.7, 0.9],
        guidance_scale=4.0,
    )
    settings: dict[str, Any] = {"sampler": "euler", "spacing": "trailing", "guidance": 4.0}
    pair = [
        ControlNetInput(own, PICTURE, 0.7, control_type=DEPTH),
        ControlNetInput(own, OTHER_PICTURE, 0.9, control_type=LINES),
    ]
    assert difference(ours(model, controls=pair, **settings), expected) < ROUNDING


def test_images_of_one_union_in_other_steps_are_added_as_in_diffusers(pipelines: Any, unions: Any) -> None:
    """Diffusers' pipeline takes the same ControlNet twice for that."""
    pipeline, model, _ = pipelines["sdxl"]
    union, own = unions[6]
    expected = of_the_union_pipeline(
        pipeline,
        model,
        [union, union],
        control_image=[PICTURE, OTHER_PICTURE],
        control_mode=[DEPTH, LINES],
        controlnet_conditioning_scale=[0.7, 0.9],
        control_guidance_start=[0.0, 0.2],
        control_guidance_end=[0.8, 1.0],
        guidance_scale=4.0,
    )
    settings: dict[str, Any] = {"sampler": "euler", "spacing": "trailing", "guidance": 4.0}
    pair = [
        ControlNetInput(own, PICTURE, 0.7, 0.0, 0.8, DEPTH),
        ControlNetInput(own, OTHER_PICTURE, 0.9, 0.2, 1.0, LINES),
    ]
    assert difference(ours(model, controls=pair, **settings), expected) < ROUNDING


def test_which_images_share_a_call(unions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one union in the same steps, whatever lies between them; an image of scale 0 is in none."""
    calls: list[tuple[Any, list[int], list[float], list[float]]] = []
    for _, own in unions.values():

        def forward(*args: Any, of: Any = own, **given: Any) -> Any:
            types = given["control_type"][0].nonzero().flatten().tolist()
            calls.append((of, given["control_type_idx"], given["conditioning_scale"], types))
            return [torch.zeros(1)], torch.zeros(1)

        monkeypatch.setattr(own, "forward", forward)
    first, second = unions[6][1], unions[8][1]
    controls = [
        ControlNetInput(first, PICTURE, 0.5, control_type=LINES),
        ControlNetInput(second, PICTURE, 0.6, control_type=REPAINT),
        ControlNetInput(first, PICTURE, 0.7, control_type=OPENPOSE),
        ControlNetInput(first, PICTURE, 0.8, ends=0.5, control_type=LINES),
        ControlNetInput(first, PICTURE, 0.0, control_type=DEPTH),
    ]
    residuals = controlnet_residuals(controls, None, torch.float32)
    assert residuals is not None
    x_t, t = torch.zeros(2, 4, 8, 8), torch.tensor([500.0, 500.0])
    assert residuals(x_t, t, torch.zeros(2, 77, 72), None)
    assert calls == [
        (first, [LINES, OPENPOSE], [0.5, 0.7], [OPENPOSE, LINES]),
        (second, [REPAINT], [0.6], [REPAINT]),
        (first, [LINES], [0.8], [LINES]),
    ]
    nothing = controlnet_residuals(controls[-1:], None, torch.float32)
    assert nothing is not None and nothing(x_t, t, torch.zeros(2, 77, 72), None) == {}


def test_a_union_runs_layer_by_layer(pipelines: Any) -> None:
    """PyTorch's MultiheadAttention reads the weights of its output layer without calling it."""
    pipeline, model, _ = pipelines["sdxl"]
    state = lively_union(pipeline.unet).state_dict()
    own = load_controlnet(checkpoint(Path("u"), "sdxl"), model.network, CPU, torch.float32, state)
    settings: dict[str, Any] = {"sampler": "euler", "guidance": 4.0, "steps": 2}
    controls = [ControlNetInput(own, PICTURE, control_type=LINES)]
    before = ours(model, controls=controls, **settings)
    place_controlnet(own, OffloadLevel.LAYERS, CPU)
    assert {parameter.device.type for parameter in own.parameters()} == {"meta"}
    assert torch.equal(ours(model, controls=controls, **settings), before)


def test_a_union_that_does_not_fit_is_said(pipelines: Any) -> None:
    pipeline, sdxl, _ = pipelines["sdxl"]
    _, sd1, _ = pipelines["sd1"]
    state = lively_union(pipeline.unet).state_dict()
    path = checkpoint(Path("union"), "sdxl")
    with pytest.raises(CheckpointUnknown, match="is for another kind"):
        load_controlnet(path, sd1.network, CPU, torch.float32, state)
    for missing in ("control_add_embedding.linear_1.weight", "transformer_layes.0.attn.in_proj_weight"):
        short = {name: value for name, value in state.items() if name != missing}
        with pytest.raises(CheckpointDamaged, match=f"{missing} is missing"):
            load_controlnet(path, sdxl.network, CPU, torch.float32, short)
    for shape in ((6,), (0, 32), (6, 30), (6, 64)):
        with pytest.raises(CheckpointUnknown, match="task_embedding has the shape"):
            load_controlnet(path, sdxl.network, CPU, torch.float32, state | {"task_embedding": torch.zeros(shape)})
    other = {"control_model.zero_convs.0.0.weight": torch.zeros(1), "control_model.task_embedding": torch.zeros(6, 32)}
    with pytest.raises(CheckpointUnknown, match="not named as in diffusers"):
        load_controlnet(path, sdxl.network, CPU, torch.float32, other)
    with pytest.raises(CheckpointUnknown, match="LLLite or control-LoRA"):
        load_controlnet(path, sdxl.network, CPU, torch.float32, state | {"lora_controlnet": torch.zeros(0)})
