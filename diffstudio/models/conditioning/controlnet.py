"""ControlNet: conditions a U-Net on an image of edges, depth or the like (Zhang et al. 2023, arXiv 2302.05543).

For Stable Diffusion 1, 2 and XL, whose U-Nets add a ControlNet's residuals at each level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown, Interrupted
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.image_inputs import ControlNetInput
from diffstudio.models.files.header import Headers
from diffstudio.models.files.weights_reader import load_weights

ControlNetResiduals = Callable[[Tensor, Tensor, Tensor, Any], dict[str, Any]]
_EMBEDDING = "controlnet_cond_embedding"
_TASKS, _HEADS = "task_embedding", 8  # of a union ControlNet: the tensor with a row for each type; attention heads
DIFFERENCE = "difference"  # the empty tensor that marks a ControlNet stored as its difference from a U-Net


def controlnet_residuals(
    controls: Sequence[ControlNetInput], times: Tensor | None, dtype: torch.dtype
) -> ControlNetResiduals | None:
    """A function that computes the U-Net's residual arguments; None without ControlNets.

    It takes x_t [B,C,h,w], t [B], text states [B,L,D] and other conditions. `times` [steps+1] are the sampling times in
    the network's own convention, like t; each ControlNet is active in its own part of them.
    """
    if not controls:
        return None
    calls = [(group, _span(group[0], times)) for group in _grouped_by_call(controls)]

    def residuals(x_t: Tensor, t: Tensor, text_states: Tensor, conditions: Any) -> dict[str, Any]:
        down: list[Tensor] = []
        mid: Tensor | None = None
        for group, (first, last) in calls:
            if not last <= float(t[0]) <= first:
                continue
            here, middle = group[0].network(
                x_t.to(dtype),
                t,
                encoder_hidden_states=text_states,
                added_cond_kwargs=conditions,
                return_dict=False,
                **_control_arguments(group, x_t, dtype),
            )
            down = [one + other for one, other in zip(down, here, strict=True)] if down else list(here)
            mid = middle if mid is None else mid + middle
        return {} if mid is None else {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}

    return residuals


def _grouped_by_call(controls: Sequence[ControlNetInput]) -> list[list[ControlNetInput]]:
    """The control images of each network call.

    As in diffusers' StableDiffusionXLControlNetUnionPipeline, the images of one union ControlNet go into one call, which
    fuses them, where they act in the same part of the steps. Those of another part, and those of other ControlNets,
    are separate calls, whose residuals are added, as diffusers' MultiControlNetUnionModel does. An image of scale 0
    has no part in a union: diffusers would fuse an empty one.
    """
    calls: dict[object, list[ControlNetInput]] = {}
    for index, control in enumerate(controls):
        if control.control_type is None:
            calls[index] = [control]
        elif control.scale != 0:
            calls.setdefault((control.network, control.begins, control.ends), []).append(control)
    return list(calls.values())


def _control_arguments(group: Sequence[ControlNetInput], x_t: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    """The arguments of a ControlNet's call that depend on its control images; x_t is [B,C,h,w]."""
    images = [control.image.to(x_t.device, dtype).expand(len(x_t), -1, -1, -1) for control in group]
    types = [control.control_type for control in group if control.control_type is not None]
    if not types:
        return {"controlnet_cond": images[0], "conditioning_scale": group[0].scale}
    config: Any = group[0].network.config
    given = torch.zeros(len(x_t), config.num_control_type, device=x_t.device, dtype=dtype)
    given[:, types] = 1
    return {
        "controlnet_cond": images,
        "conditioning_scale": [float(control.scale) for control in group],
        "control_type": given,
        "control_type_idx": types,
    }


def _span(control: ControlNetInput, times: Tensor | None) -> tuple[float, float]:
    """The first (largest) and the last (smallest) of `times` at which it is active.

    As in diffusers, a step counts when it starts and ends within the requested part of the steps.
    """
    if times is None or (control.begins <= 0 and control.ends >= 1):
        return float("inf"), -float("inf")
    steps = len(times) - 1
    inside = [
        index for index in range(steps) if index / steps >= control.begins and (index + 1) / steps <= control.ends
    ]
    if not inside:
        return -float("inf"), float("inf")
    half = 1e-6 * max(1.0, float(times[0]))  # tolerance for rounding
    return float(times[inside[0]]) + half, float(times[inside[-1]]) - half


class ControlNets:
    """The ControlNets that are loaded for a model, by file. Not thread-safe."""

    def __init__(self) -> None:
        self._loaded: dict[Path, tuple[float, nn.Module]] = {}

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """The loaded networks, like `DiffusionPipeline.components`."""
        return {str(path): network for path, (_, network) in self._loaded.items()}

    def get(self, checkpoint: Checkpoint) -> nn.Module | None:
        """The loaded network of this file; None if it is not loaded or the file has changed."""
        modified, network = self._loaded.get(checkpoint.path, (0.0, None))
        return network if modified == checkpoint.modified else None

    def put(self, checkpoint: Checkpoint, network: nn.Module) -> None:
        self._loaded[checkpoint.path] = (checkpoint.modified, network)

    def keep_only(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Unload all others."""
        paths = {checkpoint.path for checkpoint in checkpoints}
        self._loaded = {path: one for path, one in self._loaded.items() if path in paths}


def load_controlnet(
    checkpoint: Checkpoint,
    network: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
    weights: Mapping[str, Tensor] | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Load diffusers' ControlNetModel, or ControlNetUnionModel, for the U-Net `network`.

    `weights` are its tensors if they have been read already. CheckpointDamaged when tensors are missing;
    CheckpointUnknown when it is for another kind of network; Interrupted soon after `cancelled()` becomes true.
    """
    from diffusers import ControlNetModel, ControlNetUnionModel

    state = dict(_read(checkpoint) if weights is None else weights)
    is_difference = state.pop(DIFFERENCE, None) is not None
    state = _diffusers_names(state, network, checkpoint.name)
    if is_difference:
        state = _with_base(state, network, checkpoint.name)
    embedding = [
        state[key].shape[0]
        for key in sorted((key for key in state if key.startswith(_EMBEDDING) and key.endswith("weight")), key=_order)
    ]
    if not embedding or "conv_in.weight" not in state:
        raise _unsupported(checkpoint.name)
    kind = ControlNetUnionModel if _TASKS in state else ControlNetModel
    config = {
        **_shared_config(network, kind),
        "in_channels": state["conv_in.weight"].shape[1],
        "conditioning_channels": state[f"{_EMBEDDING}.conv_in.weight"].shape[1],
        "conditioning_embedding_out_channels": _levels(embedding),
    }
    if kind is ControlNetUnionModel:
        config |= _union_config(state, config, checkpoint.name)
    with torch.device("meta"):
        control: Any = kind(**config)
    _check_shapes(state, control, checkpoint.name)
    here: dict[str, Tensor] = {}
    for number, (name, tensor) in enumerate(state.items(), 1):  # lazily read from the disk
        if cancelled():
            raise Interrupted("Stopped while loading a ControlNet")
        here[name] = tensor.to(device, dtype, copy=True)
        on_progress(number / len(state))
    control.load_state_dict(here, assign=True)
    loaded: nn.Module = control.eval().requires_grad_(False)
    return loaded


def _with_base(state: Mapping[str, Tensor], network: nn.Module, name: str) -> dict[str, Tensor]:
    """The weights of a ControlNet that was stored as its difference from the U-Net, to which that is added.

    As AUTOMATIC1111's ControlNet extension reads such files, where the U-Net is the checkpoint that is used.
    CheckpointUnknown where the U-Net's weights are packed or have other shapes.
    """
    base = network.state_dict()
    for key in state.keys() & base.keys():
        if base[key].shape != state[key].shape or not base[key].is_floating_point() or base[key].is_meta:
            raise CheckpointUnknown(
                f"{name} cannot be added to this checkpoint",
                "it holds differences from weights in fp16, bf16 or fp32 of the same shape",
                "Choose such a checkpoint, or a ControlNet with complete weights",
            )
    return {
        key: value + base[key].to(value.device, value.dtype) if key in base else value for key, value in state.items()
    }


def _shared_config(network: nn.Module, kind: Callable[..., object]) -> dict[str, Any]:
    """The settings that a ControlNet of that class shares with its U-Net."""
    import inspect

    config: Any = network.config
    return {name: config[name] for name in inspect.signature(kind).parameters if name in config}


def _union_config(state: Mapping[str, Tensor], config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings of a union ControlNet that a U-Net does not have. CheckpointUnknown where its tensors are of no use.

    The number of attention heads cannot be seen in a file; all that are published have the default.
    """
    tasks, added = state[_TASKS], state.get("control_add_embedding.linear_1.weight")
    if tasks.ndim != 2 or not len(tasks) or tasks.shape[1] != len(state["conv_in.weight"]) or tasks.shape[1] % _HEADS:
        raise _unsupported(name, f"its {_TASKS} has the shape {tuple(tasks.shape)}")
    layers = {key.split(".")[1] for key in state if key.startswith("transformer_layes.")}
    width = added.shape[1] // len(tasks) if added is not None and added.ndim == 2 else len(tasks)
    return {
        "num_control_type": len(tasks),
        "num_trans_channel": tasks.shape[1],
        "num_proj_channel": tasks.shape[1],
        "num_trans_head": _HEADS,
        "num_trans_layer": max(1, len(layers)),
        "addition_time_embed_dim": config.get("addition_time_embed_dim") or width,
    }


def _levels(channels: list[int]) -> tuple[int, ...]:
    """The levels' widths, from the output channels of conv_in, two convolutions per level but the last, and conv_out."""
    return (channels[0], *channels[2:-1:2])


def _order(key: str) -> tuple[int, int]:
    """Sort key: conv_in, blocks.0 …, conv_out."""
    if ".blocks." in key:
        return 1, int(key.split(".")[2])
    return (0, 0) if ".conv_in." in key else (2, 0)


def _check_shapes(state: Mapping[str, Tensor], control: nn.Module, name: str) -> None:
    expected = {key: tuple(value.shape) for key, value in control.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if expected.keys() == found.keys() and expected == found:
        return
    missing = sorted(expected.keys() - found.keys())
    if missing and len(missing) < len(expected) // 4 and not found.keys() - expected.keys():
        raise CheckpointDamaged(f"{name} is incomplete or damaged", f"{missing[0]} is missing", "Download it again")
    raise CheckpointUnknown(
        f"{name} is for another kind of checkpoint",
        "its layers do not match the chosen one's",
        "Choose a checkpoint of the family it was trained for",
    )


def _unsupported(name: str, why: str = "") -> CheckpointUnknown:
    return CheckpointUnknown(f"{name} is not a supported ControlNet", why, "Choose another file")


def _diffusers_names(state: dict[str, Tensor], network: nn.Module, name: str) -> dict[str, Tensor]:
    if any("lllite" in key or key == "lora_controlnet" for key in state):
        raise CheckpointUnknown(
            f"{name} is a ControlNet-LLLite or control-LoRA, which is not supported", remedy="Choose a full ControlNet"
        )
    if not any(key.removeprefix("control_model.").startswith("zero_convs.") for key in state):
        return state
    if any(key.removeprefix("control_model.") == _TASKS for key in state):
        raise _unsupported(name, "it is a union ControlNet whose tensors are not named as in diffusers")
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    try:
        config = _shared_config(network, ControlNetModel)
        converted: dict[str, Tensor] = convert_controlnet_checkpoint(state, config=config)
    except (KeyError, TypeError, IndexError) as error:
        raise _unsupported(name, str(error)[:200]) from error
    return {key: value for key, value in converted.items() if value is not None}


def _read(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a file or of a diffusers folder. CheckpointDamaged, CheckpointDangerous."""
    path, headers = checkpoint.path, Headers(checkpoint.headers)
    if not path.is_dir():
        return load_weights(path, headers.of(path))
    files = [
        *sorted(path.glob("diffusion_pytorch_model*.safetensors"), key=lambda file: len(file.name)),
        *sorted(path.glob("diffusion_pytorch_model*.bin"), key=lambda file: len(file.name)),
    ]
    return load_weights(files[0], headers.of(files[0])) if files else {}
