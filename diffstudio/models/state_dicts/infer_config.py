"""Infer the settings in which checkpoints of one family differ from the shapes of a component's tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def infer_config(component: str, family: str, shapes: Shapes, default: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that override `default`, the family's configuration; none for components that never differ.

    `shapes` has diffusers' keys.
    """
    if component == "transformer" and family in _TRANSFORMERS:
        return _TRANSFORMERS[family](shapes)
    if component == "unet":
        return _unet(shapes, family, default)
    if component == "vae":
        return _without_none(block_out_channels=_widths(shapes, "encoder.down_blocks.{}.resnets.0.conv2.weight"))
    if component.startswith("text_encoder"):
        return _clip({name.removeprefix("text_model."): shape for name, shape in shapes.items()}, default)
    return {}


def _unet(shapes: Shapes, family: str, default: Mapping[str, Any]) -> dict[str, Any]:
    """Also of narrower U-Nets. Stable Diffusion 1 always has 8 heads; since 2 every head is 64 wide."""
    widths = _widths(shapes, "down_blocks.{}.resnets.0.conv2.weight")
    is_resized = family != "sd1" and widths is not None and widths != tuple(default["block_out_channels"])
    context_shape = next(
        (shape for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight") and len(shape) == 2), ()
    )
    return _without_none(
        in_channels=_dimension(shapes, "conv_in.weight", 1),
        block_out_channels=widths,
        cross_attention_dim=context_shape[1] if context_shape else None,
        attention_head_dim=tuple(max(1, width // 64) for width in widths or ()) if is_resized else None,
        projection_class_embeddings_input_dim=_dimension(shapes, "add_embedding.linear_1.weight", 1),
        time_cond_proj_dim=_dimension(shapes, "time_embedding.cond_proj.weight", 1),
    )


def _clip(shapes: Shapes, default: Mapping[str, Any]) -> dict[str, Any]:
    """CLIP text encoders, with 64-wide heads.

    Long-prompt encoders have more positions; layers beyond the default are not read.
    """
    width, layers = _dimension(shapes, "embeddings.token_embedding.weight", 1), _count(shapes, r"encoder\.layers")
    if width is None or layers is None:
        return {}
    heads = {} if width == default["hidden_size"] or width % 64 else {"num_attention_heads": width // 64}
    return heads | _without_none(
        max_position_embeddings=_dimension(shapes, "embeddings.position_embedding.weight", 0),
        hidden_size=width,
        vocab_size=_dimension(shapes, "embeddings.token_embedding.weight", 0),
        num_hidden_layers=min(layers, default["num_hidden_layers"]),
        intermediate_size=_dimension(shapes, "encoder.layers.0.mlp.fc1.weight", 0),
        projection_dim=_dimension(shapes, "text_projection.weight", 0),
    )


def _widths(shapes: Shapes, name: str) -> tuple[int, ...] | None:
    """The first dimension of each level's tensor; `name` is a format string for the level."""
    widths: list[int] = []
    while shape := shapes.get(name.format(len(widths)), ()):
        widths.append(shape[0])
    return tuple(widths) or None


def _flux(shapes: Shapes) -> dict[str, Any]:
    head, width = (
        _dimension(shapes, "transformer_blocks.0.attn.norm_q.weight", 0),
        _dimension(shapes, "x_embedder.weight", 0),
    )
    return _without_none(
        num_layers=_count(shapes, "transformer_blocks"),
        num_single_layers=_count(shapes, "single_transformer_blocks"),
        guidance_embeds="time_text_embed.guidance_embedder.linear_1.weight" in shapes,
        in_channels=_dimension(shapes, "x_embedder.weight", 1),
        joint_attention_dim=_dimension(shapes, "context_embedder.weight", 1),
        attention_head_dim=head,
        pooled_projection_dim=_dimension(shapes, "time_text_embed.text_embedder.linear_1.weight", 1),
        num_attention_heads=width // head if width and head else None,
        out_channels=_dimension(shapes, "proj_out.weight", 0),
    )


def _sd3(shapes: Shapes) -> dict[str, Any]:
    """3.5 normalises queries and keys; 3.5 medium has dual attention in its first blocks."""
    width, head = (
        _dimension(shapes, "pos_embed.proj.weight", 0),
        _dimension(shapes, "transformer_blocks.0.attn.norm_q.weight", 0),
    )
    table = shapes.get("pos_embed.pos_embed", ())
    dual = sorted(
        {
            int(found[1])
            for name in shapes
            if (found := re.match(r"transformer_blocks\.(\d+)\.attn2\.to_q\.weight", name))
        }
    )
    return _without_none(
        num_layers=_count(shapes, "transformer_blocks"),
        caption_projection_dim=_dimension(shapes, "context_embedder.weight", 0),
        joint_attention_dim=_dimension(shapes, "context_embedder.weight", 1),
        in_channels=_dimension(shapes, "pos_embed.proj.weight", 1),
        pooled_projection_dim=_dimension(shapes, "time_text_embed.text_embedder.linear_1.weight", 1),
        pos_embed_max_size=isqrt(table[1]) if len(table) == 3 else None,
        qk_norm="rms_norm" if head else None,
        dual_attention_layers=tuple(dual) or None,
        attention_head_dim=head,
        num_attention_heads=width // (head or 64) if width and (head or width % 64 == 0) else None,
    )


def _z_image(shapes: Shapes) -> dict[str, Any]:
    head, width = (
        _dimension(shapes, "layers.0.attention.norm_q.weight", 0),
        _dimension(shapes, "layers.0.attention.to_q.weight", 1),
    )
    keys = _dimension(shapes, "layers.0.attention.to_k.weight", 0)
    return _without_none(
        n_layers=_count(shapes, "layers"),
        n_refiner_layers=_count(shapes, "noise_refiner"),
        dim=width,
        cap_feat_dim=_dimension(shapes, "cap_embedder.1.weight", 1),
        n_heads=width // head if width and head else None,
        n_kv_heads=keys // head if keys and head else None,
    )


def _qwen_image(shapes: Shapes) -> dict[str, Any]:
    """Qwen-Image-Edit is marked by one more tensor, which ComfyUI reads too."""
    head, width = (
        _dimension(shapes, "transformer_blocks.0.attn.norm_q.weight", 0),
        _dimension(shapes, "img_in.weight", 0),
    )
    return _without_none(
        num_layers=_count(shapes, "transformer_blocks"),
        in_channels=_dimension(shapes, "img_in.weight", 1),
        attention_head_dim=head,
        joint_attention_dim=_dimension(shapes, "txt_in.weight", 1),
        num_attention_heads=width // head if width and head else None,
        zero_cond_t=True if "__index_timestep_zero__" in shapes else None,
        use_additional_t_cond=True if "time_text_embed.addition_t_embedding.weight" in shapes else None,
    )


_TRANSFORMERS: Mapping[str, Callable[[Shapes], dict[str, Any]]] = {
    "flux": _flux,
    "sd3": _sd3,
    "z_image": _z_image,
    "qwen_image": _qwen_image,
}


def _without_none(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _dimension(shapes: Shapes, name: str, side: int) -> int | None:
    shape = shapes.get(name, ())
    return shape[side] if len(shape) > side else None


def _count(shapes: Shapes, blocks: str) -> int | None:
    """The number of blocks: one more than the largest index in keys of that name."""
    numbers = [int(found[1]) for name in shapes if (found := re.match(rf"{blocks}\.(\d+)\.", name))]
    return max(numbers) + 1 if numbers else None
