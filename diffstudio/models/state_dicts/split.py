"""The tensors of one file by part and in diffusers' names, and back in those of Stable Diffusion's makers. No weight is read here.

The way there is diffusers' own (`naming`), the way back `original_names`; each leads back from the other to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffstudio.models.components.components import Components
from diffstudio.models.state_dicts.to_diffusers import Rows, recipe
from diffstudio.models.state_dicts.to_original import PARTS, clip_names, original_names

State = Mapping[str, Tensor]

NETWORKS = ("unet", "transformer")
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
COMPONENTS = (*NETWORKS, "vae", *ENCODERS)
_MAKERS = {
    "transformer": ("model.diffusion_model.", "diffusion_model."),
    "vae": ("first_stage_model.",),
    "text_encoder": ("text_encoders.clip_l.transformer.",),
    "text_encoder_2": ("text_encoders.clip_g.transformer.",),
    "text_encoder_3": ("text_encoders.t5xxl.transformer.",),
}
_NOT_WEIGHTS = ("position_ids", "logit_scale", "attn_mask", "scaled_fp8", ".scale_input", ".input_scale")
_SCALES = (".scale_weight", ".weight_scale")  # beside fp8 weights: what they are to be multiplied by
_CONVOLVED = re.compile(r"attentions\.\d+\.(?:to_q|to_k|to_v|to_out\.0)\.weight$")  # in the makers' autoencoders


def by_component(tensors: State, family: str, parts: Components) -> dict[str, dict[str, Tensor]]:
    """What a file holds of each component, in diffusers' names; `parts` knows the components' configurations.

    What belongs to none (averaged copies, a trainer's leftovers) is left out.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for part in COMPONENTS:
        prefix = _prefix(part, family, tensors)
        if prefix is not None:
            own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            config = parts.config(part)
            named = _in_diffusers_names(part, unscaled(own), config)
            if config.get("architectures") == ["CLIPTextModel"]:  # which has none; Stable Diffusion 2's files hold one
                named.pop("text_projection.weight", None)
            found[part] = (
                clip_names(named)
                if any(name.endswith("embeddings.token_embedding.weight") for name in named)
                else named
            )
    return found


def in_makers_names(family: str, parts: Mapping[str, State]) -> dict[str, Tensor]:
    """One file's tensors. KeyError for a family whose makers' names are not known here."""
    return original_names(family, parts)


def has_makers_names(family: str) -> bool:
    return family in PARTS


def in_one_file(parts: Mapping[str, State]) -> dict[str, Tensor]:
    """One file's tensors in diffusers' names: each component's below its own."""
    return {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


def unscaled(tensors: State) -> dict[str, Tensor]:
    """Without what is no weight, and eighths multiplied by the scales that lie beside them."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith((*_NOT_WEIGHTS, *_SCALES))}
    for name, scale in tensors.items():
        weight = next((f"{name.removesuffix(suffix)}.weight" for suffix in _SCALES if name.endswith(suffix)), "")
        if weight in kept:
            sides = (1,) * (kept[weight].ndim - 1)
            kept[weight] = kept[weight].float() * scale.float().reshape(-1, *sides)
    return kept


def _prefix(part: str, family: str, tensors: State) -> str | None:
    """How a component's tensors begin; empty for a network that stands alone; None where there are none."""
    makers = (
        (PARTS[family][part][0],) if part in PARTS.get(family, {}) else () if family in PARTS else _MAKERS.get(part, ())
    )
    for prefix in (*makers, f"{part}."):
        if any(name.startswith(prefix) for name in tensors):
            return prefix
    alone = {
        "unet": ("input_blocks.0.0.weight", "conv_in.weight"),
        "transformer": ("img_in.weight", "x_embedder.weight", "x_embedder.proj.weight", "pos_embed.proj.weight"),
    }
    return "" if any(name in tensors for name in alone.get(part, ())) else None


def _in_diffusers_names(part: str, own: State, config: Mapping[str, Any]) -> dict[str, Tensor]:
    rows = recipe(part, {name: tuple(tensor.shape) for name, tensor in own.items()}, config)
    return {
        name: _shaped(part, name, _joined([_cut(own[run.name], run) for run in runs])) for name, runs in rows.items()
    }


def _cut(tensor: Tensor, run: Rows) -> Tensor:
    if tensor.ndim == 0 or (run.start, run.stop) == (0, tensor.shape[0]):
        return tensor.T if run.name == "text_projection" else tensor  # OpenCLIP multiplies from the other side
    return tensor[run.start : run.stop]


def _joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _shaped(part: str, name: str, tensor: Tensor) -> Tensor:
    """Attention by convolutions of one pixel is attention by matrices."""
    return tensor[:, :, 0, 0] if part == "vae" and tensor.ndim == 4 and _CONVOLVED.search(name) else tensor
