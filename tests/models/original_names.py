"""Convert tensor names of diffusers to those of the original code of FLUX.1, Stable Diffusion 3, Z-Image and Qwen-Image."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]


def _fused(state: State, pieces: Mapping[str, tuple[str, ...]]) -> State:
    """`pieces`: a fused layer's name, with `\\1` for the block, and the layers that are below one another in it."""
    found: State = {}
    for theirs, ours in pieces.items():
        first = re.compile(ours[0].replace(".", r"\.").replace(r"\1", r"(\d+|\w+\.\d+)") + r"\.(weight|bias)")
        for name in [name for name in state if first.fullmatch(name)]:
            match = first.fullmatch(name)
            assert match is not None
            parts = [state.pop(f"{layer.replace(chr(92) + '1', match[1])}.{match[2]}") for layer in ours]
            found[f"{theirs.replace(chr(92) + '1', match[1])}.{match[2]}"] = torch.cat(parts)
    return found


def _renamed(state: State, table: tuple[tuple[str, str], ...]) -> State:
    found: State = {}
    for name, value in state.items():
        for pattern, theirs in table:
            if re.match(pattern, name):
                found[re.sub(pattern, theirs, name)] = value
                break
        else:
            raise AssertionError(name)
    return found


def _swapped(value: Tensor) -> Tensor:
    return torch.cat(value.chunk(2)[::-1])


def flux(state: Mapping[str, Tensor]) -> State:
    left = dict(state)
    d, s = r"transformer_blocks.\1.attn.", r"single_transformer_blocks.\1."
    found = _fused(
        left,
        {
            r"single_blocks.\1.linear1": (s + "attn.to_q", s + "attn.to_k", s + "attn.to_v", s + "proj_mlp"),
            r"double_blocks.\1.img_attn.qkv": (d + "to_q", d + "to_k", d + "to_v"),
            r"double_blocks.\1.txt_attn.qkv": (d + "add_q_proj", d + "add_k_proj", d + "add_v_proj"),
        },
    )
    for name in ("norm_out.linear.weight", "norm_out.linear.bias"):
        left[name] = _swapped(left[name])
    block = r"^transformer_blocks\.(\d+)\."
    single = r"^single_transformer_blocks\.(\d+)\."
    return found | _renamed(
        left,
        (
            (block + r"norm1\.linear", r"double_blocks.\1.img_mod.lin"),
            (block + r"norm1_context\.linear", r"double_blocks.\1.txt_mod.lin"),
            (block + r"attn\.to_out\.0", r"double_blocks.\1.img_attn.proj"),
            (block + r"attn\.to_add_out", r"double_blocks.\1.txt_attn.proj"),
            (block + r"attn\.norm_q\.weight", r"double_blocks.\1.img_attn.norm.query_norm.scale"),
            (block + r"attn\.norm_k\.weight", r"double_blocks.\1.img_attn.norm.key_norm.scale"),
            (block + r"attn\.norm_added_q\.weight", r"double_blocks.\1.txt_attn.norm.query_norm.scale"),
            (block + r"attn\.norm_added_k\.weight", r"double_blocks.\1.txt_attn.norm.key_norm.scale"),
            (block + r"ff\.net\.0\.proj", r"double_blocks.\1.img_mlp.0"),
            (block + r"ff\.net\.2", r"double_blocks.\1.img_mlp.2"),
            (block + r"ff_context\.net\.0\.proj", r"double_blocks.\1.txt_mlp.0"),
            (block + r"ff_context\.net\.2", r"double_blocks.\1.txt_mlp.2"),
            (single + r"norm\.linear", r"single_blocks.\1.modulation.lin"),
            (single + r"proj_out", r"single_blocks.\1.linear2"),
            (single + r"attn\.norm_q\.weight", r"single_blocks.\1.norm.query_norm.scale"),
            (single + r"attn\.norm_k\.weight", r"single_blocks.\1.norm.key_norm.scale"),
            *(
                (rf"^time_text_embed\.{ours}\.linear_{number}", f"{theirs}.{side}_layer")
                for ours, theirs in (
                    ("timestep_embedder", "time_in"),
                    ("text_embedder", "vector_in"),
                    ("guidance_embedder", "guidance_in"),
                )
                for number, side in ((1, "in"), (2, "out"))
            ),
            (r"^context_embedder", "txt_in"),
            (r"^x_embedder", "img_in"),
            (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
            (r"^proj_out", "final_layer.linear"),
        ),
    )


def sd3(state: Mapping[str, Tensor]) -> State:
    left = dict(state)
    block = r"transformer_blocks.\1."
    found = _fused(
        left,
        {
            r"joint_blocks.\1.x_block.attn.qkv": tuple(f"{block}attn.to_{one}" for one in "qkv"),
            r"joint_blocks.\1.x_block.attn2.qkv": tuple(f"{block}attn2.to_{one}" for one in "qkv"),
            r"joint_blocks.\1.context_block.attn.qkv": tuple(f"{block}attn.add_{one}_proj" for one in "qkv"),
        },
    )
    last = max(int(name.split(".")[1]) for name in left if name.startswith("transformer_blocks."))
    for name in list(left):
        if name.startswith(("norm_out.linear", f"transformer_blocks.{last}.norm1_context.linear")):
            left[name] = _swapped(left[name])
    at = r"^transformer_blocks\.(\d+)\."
    return found | _renamed(
        left,
        (
            (at + r"norm1\.linear", r"joint_blocks.\1.x_block.adaLN_modulation.1"),
            (at + r"norm1_context\.linear", r"joint_blocks.\1.context_block.adaLN_modulation.1"),
            (at + r"(attn2?)\.to_out\.0", r"joint_blocks.\1.x_block.\2.proj"),
            (at + r"attn\.to_add_out", r"joint_blocks.\1.context_block.attn.proj"),
            (at + r"(attn2?)\.norm_([qk])\.", r"joint_blocks.\1.x_block.\2.ln_\3."),
            (at + r"attn\.norm_added_([qk])\.", r"joint_blocks.\1.context_block.attn.ln_\2."),
            (at + r"ff\.net\.0\.proj", r"joint_blocks.\1.x_block.mlp.fc1"),
            (at + r"ff\.net\.2", r"joint_blocks.\1.x_block.mlp.fc2"),
            (at + r"ff_context\.net\.0\.proj", r"joint_blocks.\1.context_block.mlp.fc1"),
            (at + r"ff_context\.net\.2", r"joint_blocks.\1.context_block.mlp.fc2"),
            (r"^pos_embed\.pos_embed", "pos_embed"),
            (r"^pos_embed\.proj", "x_embedder.proj"),
            (r"^time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
            (r"^time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
            (r"^time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
            (r"^time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
            (r"^context_embedder", "context_embedder"),
            (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
            (r"^proj_out", "final_layer.linear"),
        ),
    )


def z_image(state: Mapping[str, Tensor]) -> State:
    left = dict(state)
    found = _fused(left, {r"\1.attention.qkv": tuple(rf"\1.attention.to_{one}" for one in "qkv")})
    found |= {
        name.replace("all_final_layer.2-1.", "final_layer.")
        .replace("all_x_embedder.2-1.", "x_embedder.")
        .replace(".attention.to_out.0.", ".attention.out.")
        .replace(".norm_q.", ".q_norm.")
        .replace(".norm_k.", ".k_norm."): value
        for name, value in left.items()
    }
    return found | {"norm_final.weight": torch.ones(3)}  # which the published file has and nobody uses


def qwen_image(state: Mapping[str, Tensor]) -> State:
    """The original names are those of diffusers."""
    return dict(state)


_RESIDUAL = (
    ("norm1", "residual.0"),
    ("conv1", "residual.2"),
    ("norm2", "residual.3"),
    ("conv2", "residual.6"),
    ("conv_shortcut", "shortcut"),
)


def wan_vae(state: Mapping[str, Tensor]) -> State:
    """Of Wan's autoencoder, which Qwen-Image shares: layers counted through, three blocks and what enlarges on each
    level.
    """

    def named(name: str) -> str:
        name = re.sub(r"(encoder|decoder)\.mid_block\.attentions\.0", r"\1.middle.1", name)
        name = re.sub(
            r"(encoder|decoder)\.mid_block\.resnets\.([01])",
            lambda found: f"{found[1]}.middle.{2 * int(found[2])}",
            name,
        )
        name = re.sub(
            r"decoder\.up_blocks\.(\d)\.resnets\.(\d)",
            lambda found: f"decoder.upsamples.{4 * int(found[1]) + int(found[2])}",
            name,
        )
        name = re.sub(
            r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda found: f"decoder.upsamples.{4 * int(found[1]) + 3}", name
        )
        name = name.replace("encoder.down_blocks.", "encoder.downsamples.")
        for ours, theirs in _RESIDUAL:
            name = re.sub(rf"\.{ours}\.(\w+)$", rf".{theirs}.\1", name)
        name = re.sub(r"^(encoder|decoder)\.conv_in", r"\1.conv1", name)
        name = re.sub(r"^(encoder|decoder)\.norm_out", r"\1.head.0", name)
        name = re.sub(r"^(encoder|decoder)\.conv_out", r"\1.head.2", name)
        return re.sub(r"^quant_conv", "conv1", re.sub(r"^post_quant_conv", "conv2", name))

    return {named(name): value for name, value in state.items()}
