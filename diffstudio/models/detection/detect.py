"""Detect what a weights file is from its tensors' names and shapes and its metadata. No weights, no torch.

Every family has a tensor whose name and shape no other has; they come from the original code and from diffusers'
configurations. What shapes cannot tell (whether Stable Diffusion 2 predicts eps or v) comes from the metadata; a guess
is called one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from diffstudio.models.detection.detect_adapters import detect_adapter
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.types import (
    FAMILY_BY_CONTEXT_WIDTH,
    Detection,
    Layout,
    Role,
    Shapes,
    TensorNames,
    family_from_text,
)
from diffstudio.models.state_dicts.prefixes import (
    LONE_CLIP_PREFIXES,
    LONE_VAE_PREFIXES,
    NETWORK_PREFIXES,
    ORIGINAL_NETWORK,
    TEXT_ENCODER_ROOTS,
    VAE_PREFIXES,
)


def detect(shapes: Shapes, metadata: Mapping[str, str]) -> Detection:
    """What a file with these tensors is; family `unknown` and role UNKNOWN if nothing matches."""
    names = TensorNames(shapes)
    for recognise in (_controlnet, detect_adapter, _checkpoint, _embedding, _text_encoder, _vae, _upscaler, _others):
        if (found := recognise(names, metadata)) is not None:
            return found
    return Detection(reason="None of its tensor names is known.")


# ---- networks and checkpoints ---------------------------------------------------------------------------------------


def _checkpoint(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    """A network, alone or with text encoders or a VAE."""
    for prefix in NETWORK_PREFIXES:
        at = names.below(prefix)
        for recognise in _NETWORKS:
            if (found := recognise(at)) is not None:
                found = _predicting(found, names, metadata)
                return _with_surroundings(found, names, prefix)
    return None


def _with_surroundings(found: Detection, names: TensorNames, prefix: str) -> Detection:
    encoders = any(name.startswith(TEXT_ENCODER_ROOTS) for name in names.shapes)
    vae = any(name.startswith(VAE_PREFIXES) for name in names.shapes)
    if encoders and vae:
        contents = "with text encoders and VAE in the file"
    elif encoders or vae:
        contents = f"with {'text encoders' if encoders else 'a VAE'}, but no {'VAE' if encoders else 'text encoders'} in the file"
    else:
        contents = "the file holds the network alone"
    role = Role.CHECKPOINT if encoders or vae else Role.NETWORK
    layout = found.layout if prefix != ORIGINAL_NETWORK else Layout.ORIGINAL
    return replace(found, role=role, layout=layout, reason=f"{found.reason.rstrip('.')}; {contents}.")


def _unet_original(at: TensorNames) -> Detection | None:
    first = at.shape("input_blocks.0.0.weight")
    context = at.shape("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight") or at.shape(
        "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    )
    deep = at.has("input_blocks.7.1.transformer_blocks.9.attn2.to_k.weight")
    return _unet(first, context, at.shape("label_emb.0.0.weight"), deep, Layout.ORIGINAL)


def _unet_diffusers(at: TensorNames) -> Detection | None:
    first = at.shape("conv_in.weight")
    context = at.shape("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight") or at.shape(
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    )
    deep = at.has("down_blocks.2.attentions.0.transformer_blocks.9.attn2.to_k.weight")
    return _unet(first, context, at.shape("add_embedding.linear_1.weight"), deep, Layout.DIFFUSERS)


_EXTRA_INPUTS = {
    5: "a depth map",
    7: "a low-resolution image",
    8: "an image to edit",
}  # by the number of input channels


def _unet(
    first: tuple[int, ...], context: tuple[int, ...], micro: tuple[int, ...], deep: bool, layout: Layout
) -> Detection | None:
    """By three shapes: `first` [width,channels,3,3], `context` [width,context width], `micro`
    [width,micro-conditioning].
    """
    if len(first) < 2 or len(context) != 2:
        return None
    channels, context_width = first[1], context[1]
    family = FAMILY_BY_CONTEXT_WIDTH.get(context_width, "unknown")
    why = f"A U-Net with cross-attention width {context_width:,}"
    if family == "unknown":
        return Detection(Role.UNKNOWN, reason=f"{why}, which no supported model has", layout=layout)
    found = Detection(Role.NETWORK, family, "eps", layout=layout, inpainting=channels == 9)
    if family == "sdxl" and not deep:
        return replace(
            found, family="unknown", reason=f"{why}, like Stable Diffusion XL, but smaller (SSD-1B, Vega or Kolors)"
        )
    if family == "sd2" and micro:
        return replace(found, family="unknown", reason=f"{why} and image conditioning (Stable unCLIP)")
    if channels not in (4, 9):
        extra = _EXTRA_INPUTS.get(channels, f"{channels} channels")
        return replace(
            found, family="unknown", reason=f"{why}, like {FAMILIES[family].title}, with {extra} as extra input"
        )
    inpainting = ", for inpainting: with a mask and the masked image as input" if found.inpainting else ""
    return replace(found, reason=f"{why}, like {FAMILIES[family].title}{inpainting}")


def _sd3(at: TensorNames) -> Detection | None:
    original = at.has("joint_blocks.0.context_block.attn.qkv.weight")
    patches = at.shape("x_embedder.proj.weight" if original else "pos_embed.proj.weight")
    if len(patches) < 2 or not (original or at.has("transformer_blocks.0.attn.add_q_proj.weight")):
        return None
    block = "joint_blocks.0.x_block." if original else "transformer_blocks.0."
    normed = at.has(block + ("attn.ln_q.weight" if original else "attn.norm_q.weight"))
    edition = "3.5 large" if patches[0] == 2432 else "3.5 medium" if normed else "3 medium"
    return Detection(
        Role.NETWORK,
        "sd3",
        "flow",
        layout=Layout.ORIGINAL if original else Layout.DIFFUSERS,
        edition=edition,
        reason=f"Joint blocks (MMDiT) of width {patches[0]:,}, like Stable Diffusion {edition}",
    )


def _flux(at: TensorNames) -> Detection | None:
    original = at.has("double_blocks.0.img_attn.qkv.weight") and at.has("vector_in.in_layer.weight")
    patches = at.shape("img_in.weight" if original else "x_embedder.weight")
    if len(patches) != 2 or not (
        original
        or at.has("single_transformer_blocks.0.proj_mlp.weight")
        and at.has("time_text_embed.text_embedder.linear_1.weight")
    ):
        return None
    guided = at.has("guidance_in.in_layer.weight" if original else "time_text_embed.guidance_embedder.linear_1.weight")
    found = Detection(
        Role.NETWORK,
        "flux",
        "flow",
        layout=Layout.ORIGINAL if original else Layout.DIFFUSERS,
        edition="dev" if guided else "schnell",
    )
    if patches[1] != 64:
        tool = {
            384: "Fill, with a mask and the masked image as input",
            128: "Canny or Depth, with a control image as input",
        }
        return replace(
            found,
            family="unknown",
            edition="",
            inpainting=patches[1] == 384,
            reason=f"FLUX.1 {tool.get(patches[1], f'with {patches[1]} input channels')}",
        )
    return replace(
        found,
        reason=f"FLUX.1's double and single blocks {'with' if guided else 'without'} guidance embedding, like {found.edition}",
    )


def _z_image(at: TensorNames) -> Detection | None:
    diffusers = at.has("all_x_embedder.2-1.weight")
    text = at.shape("cap_embedder.1.weight")
    if (
        len(text) != 2
        or not at.has("layers.0.adaLN_modulation.0.weight")
        or not (diffusers or at.has("x_embedder.weight"))
    ):
        return None
    return Detection(
        Role.NETWORK,
        "z_image",
        "flow",
        layout=Layout.DIFFUSERS if diffusers else Layout.ORIGINAL,
        reason=f"Single-stream layers of width {text[0]:,} and text features of width {text[1]:,}, like Z-Image",
    )


def _lumina(at: TensorNames) -> Detection | None:
    """Lumina 2: Z-Image's names with another modulation."""
    if not at.has("cap_embedder.0.weight") or not at.has("layers.0.attention.qkv.weight"):
        return None
    return Detection(Role.NETWORK, reason="The layers of Lumina 2, which is not supported")


def _qwen_image(at: TensorNames) -> Detection | None:
    if not at.has("transformer_blocks.0.img_mod.1.weight") or not at.has("txt_norm.weight"):
        return None
    if at.shape("img_in.weight")[1:] not in ((64,), ()):
        return Detection(Role.NETWORK, reason="Qwen-Image's blocks with extra input channels, which is not supported")
    return Detection(
        Role.NETWORK,
        "qwen_image",
        "flow",
        layout=Layout.DIFFUSERS,
        reason="Blocks with separate image and text modulation, like Qwen-Image",
    )


_NETWORKS: tuple[Callable[[TensorNames], Detection | None], ...] = (
    _unet_original,
    _unet_diffusers,
    _sd3,
    _flux,
    _z_image,
    _lumina,
    _qwen_image,
)


def _predicting(found: Detection, names: TensorNames, metadata: Mapping[str, str]) -> Detection:
    """With the prediction type, if the file's tensors or metadata name it."""
    if found.prediction != "eps":
        return found
    if names.has("edm_mean") or names.has("edm_vpred.sigma_max"):
        return replace(
            found,
            family="unknown",
            prediction="",
            reason=f"{found.reason}, trained with EDM preconditioning, which is not supported",
        )
    if names.has("v_pred"):
        return replace(found, prediction="v", reason=f"{found.reason}; its v_pred tensor marks v-prediction")
    declared = metadata.get("modelspec.prediction_type", "").lower()
    if declared in ("v", "v_prediction", "v-prediction"):
        return replace(found, prediction="v", reason=f"{found.reason}; its metadata says v-prediction")
    if declared in ("epsilon", "eps"):
        return replace(found, reason=f"{found.reason}; its metadata says eps-prediction")
    if found.family == "sd2" and not found.inpainting:
        architecture = metadata.get("modelspec.architecture", "").lower()
        if "v2-512" in architecture or "768-v" in architecture:
            prediction = "v" if "768-v" in architecture else "eps"
            return replace(
                found, prediction=prediction, reason=f"{found.reason}; its metadata calls it {architecture[:60]}"
            )
        return replace(found, prediction="")  # records.py looks next to the file and into its weights
    return found


# ---- other models ----------------------------------------------------------------------------------------------------

_T2I_ADAPTER = ("body.0.block1.weight", "adapter.body.0.block1.weight", "adapter.body.0.resnets.0.block1.weight")


def _controlnet(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    if names.has("lora_controlnet"):
        return Detection(Role.CONTROLNET, reason="A Control-LoRA: a ControlNet stored as a LoRA.")
    if any(map(names.has, _T2I_ADAPTER)):
        return Detection(Role.UNKNOWN, reason="A T2I-Adapter, which is not supported.")
    if names.has("control_model.input_blocks.0.0.weight") and names.has(f"{ORIGINAL_NETWORK}input_blocks.0.0.weight"):
        return Detection(
            Role.CONTROLNET,
            layout=Layout.ORIGINAL,
            reason="A ControlNet and a complete checkpoint in one file.",
            family=_context_family(names.below("control_model."), "input_blocks.{}.1"),
        )
    for prefix in ("control_model.", ""):
        at = names.below(prefix)
        if at.has("input_hint_block.0.weight"):
            return _as_controlnet(_context_family(at, "input_blocks.{}.1"), Layout.ORIGINAL, "input_hint_block")
    at = names.below("")
    if at.has("controlnet_cond_embedding.conv_in.weight"):
        return _as_controlnet(
            _context_family(at, "down_blocks.{}.attentions.0"), Layout.DIFFUSERS, "controlnet_cond_embedding"
        )
    if at.has("controlnet_blocks.0.weight") and (
        at.has("controlnet_x_embedder.weight") or at.has("pos_embed_input.proj.weight")
    ):
        return _as_controlnet(
            "flux" if at.has("controlnet_x_embedder.weight") else "sd3", Layout.DIFFUSERS, "controlnet_blocks"
        )
    return None


def _as_controlnet(family: str, layout: Layout, mark: str) -> Detection:
    whose = FAMILIES[family].title if family in FAMILIES else "an unknown model"
    return Detection(Role.CONTROLNET, family, layout=layout, reason=f"It has {mark}: a ControlNet for {whose}.")


def _context_family(at: TensorNames, block: str) -> str:
    for index in (0, 1, 4):
        context = at.shape(f"{block.format(index)}.transformer_blocks.0.attn2.to_k.weight")
        if len(context) == 2:
            return FAMILY_BY_CONTEXT_WIDTH.get(context[1], "unknown")
    return (
        "sdxl" if at.has("add_embedding.linear_1.weight") or at.has("label_emb.0.0.weight") else "unknown"
    )  # reduced ones


_FAMILY_BY_TOKEN_WIDTH = {768: "sd1", 1024: "sd2", 1280: "sdxl", 4096: "sd3"}


def _embedding(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    """A textual inversion: at most three tensors, each a few vectors as wide as a text encoder's token embeddings."""
    shapes = names.shapes
    if not 0 < len(shapes) <= 3 or not all(
        len(shape) in (1, 2) and shape[-1] in _FAMILY_BY_TOKEN_WIDTH and (len(shape) == 1 or shape[0] <= 512)
        for shape in shapes.values()
    ):
        return None
    family = (
        "sdxl"
        if {"clip_l", "clip_g"} <= set(shapes)
        else _FAMILY_BY_TOKEN_WIDTH[max(shape[-1] for shape in shapes.values())]
    )
    if {"clip_l", "clip_g", "t5xxl"} <= set(shapes):
        family = "sd3"
    vectors = max(shape[0] if len(shape) == 2 else 1 for shape in shapes.values())
    whose = f"of the token width of {FAMILIES[family].title}: a textual inversion"
    return Detection(
        Role.EMBEDDING, family, layout=Layout.ORIGINAL, reason=f"{vectors} vector{'s' if vectors > 1 else ''} {whose}."
    )


def _vae(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for prefix in LONE_VAE_PREFIXES:
        at = names.below(prefix)
        if at.has("decoder.conv1.weight") and at.has("decoder.middle.0.residual.0.gamma"):
            return Detection(Role.VAE, "qwen_image", layout=Layout.ORIGINAL, reason="The VAE of Qwen-Image and Wan.")
        inner = at.shape("decoder.conv_in.weight")
        if len(inner) == 5:
            return Detection(
                Role.VAE,
                "qwen_image" if inner[1] == 16 else "unknown",
                layout=Layout.DIFFUSERS,
                reason="The VAE of Qwen-Image and Wan." if inner[1] == 16 else "A video VAE.",
            )
        if len(inner) < 2 or not (
            at.has("decoder.mid.block_1.conv1.weight") or at.has("decoder.mid_block.resnets.0.conv1.weight")
        ):
            continue
        layout = Layout.ORIGINAL if at.has("decoder.mid.block_1.conv1.weight") else Layout.DIFFUSERS
        if inner[1] == 4:
            family, whose = family_from_text(metadata.get("modelspec.architecture", "")), "Stable Diffusion 1, 2 and XL"
        elif inner[1] == 16:
            family, whose = "unknown", "FLUX.1, Z-Image and Stable Diffusion 3"
        else:
            family, whose = "unknown", "no supported model"
        return Detection(
            Role.VAE,
            family,
            layout=layout,
            edition=f"{inner[1]} channels",
            reason=f"A VAE with {inner[1]} latent channels, like that of {whose}.",
        )
    if names.has("decoder.layers.0.weight") and names.has("encoder.layers.0.weight"):
        return Detection(Role.VAE, layout=Layout.DIFFUSERS, reason="A tiny autoencoder (TAESD), for previews.")
    return None


def _text_encoder(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for prefix in LONE_CLIP_PREFIXES:
        tokens = names.shape(f"{prefix}embeddings.token_embedding.weight")
        if len(tokens) == 2 and names.has(f"{prefix}encoder.layers.0.self_attn.q_proj.weight"):
            which = {768: "CLIP L", 1024: "OpenCLIP H", 1280: "OpenCLIP G"}.get(tokens[1], "A CLIP")
            return _as_encoder(f"{which}, width {tokens[1]:,}", {1024: "sd2"}.get(tokens[1], "unknown"))
    tokens = (
        names.shape("shared.weight") or names.shape("encoder.embed_tokens.weight") or names.shape("token_embd.weight")
    )
    if len(tokens) == 2 and (
        names.has("encoder.block.0.layer.0.SelfAttention.q.weight") or names.has("enc.blk.0.attn_q.weight")
    ):
        kind = "UMT5" if tokens[0] > 200_000 else "T5"
        return _as_encoder(f"{kind}, width {tokens[1]:,}")
    tokens = names.shape("model.embed_tokens.weight") or names.shape("model.language_model.embed_tokens.weight")
    if len(tokens) == 2:
        known = {3584: ("Qwen2.5-VL 7B", "qwen_image"), 2560: ("Qwen3 4B", "z_image")}
        which, family = known.get(tokens[1], ("A language model", "unknown"))
        return _as_encoder(f"{which}, width {tokens[1]:,}", family)
    if names.has("transformer.resblocks.0.attn.in_proj_weight"):
        return _as_encoder("A CLIP in OpenCLIP's naming")
    return None


def _as_encoder(what: str, family: str = "unknown") -> Detection:
    return Detection(Role.TEXT_ENCODER, family, layout=Layout.DIFFUSERS, reason=f"{what}: a text encoder.")


_UPSCALERS = tuple(
    (re.compile(pattern, re.M), title)
    for pattern, title in (
        (
            r"(?:^|\.)(?:model\.1\.sub\.0|RRDB_trunk\.0|body\.0|rb\.0)\.(?:RDB1|rdb1)\.conv1\.(?:0\.)?weight$",
            "an ESRGAN",
        ),
        (r"(?:^|\.)layers\.0\.residual_group\.(?:blocks|overlap_attn)\.", "a SwinIR or HAT"),
        (r"(?:^|\.)layers\.0\.blocks\.0\.attn\.attns\.0\.", "a DAT"),
        (r"(?:^|\.)block_1\.c1_r\.", "a SPAN"),
        (r"(?:^|\.)residual_layer\.0\.residual_layer\.0\.", "an OmniSR"),
    )
)


def _upscaler(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for pattern, title in _UPSCALERS:
        if pattern.search(names.joined):
            return Detection(Role.UPSCALER, layout=Layout.ORIGINAL, reason=f"The blocks of {title}: an upscaler.")
    first, slope = names.shape("body.0.weight"), names.shape("body.1.weight")
    if len(first) == 4 and first[1] == 3 and slope == (first[0],):
        return Detection(
            Role.UPSCALER,
            layout=Layout.ORIGINAL,
            reason="Plain convolutions with PReLU, like Real-ESRGAN's compact networks: an upscaler.",
        )
    return None


# ---- models that are recognised, but not supported
# ----------------------------------------------------------------------

_UNSUPPORTED = tuple(
    (re.compile(pattern, re.M), title)
    for pattern, title in (
        (r"distilled_guidance_layer\.", "Chroma"),
        (r"double_stream_modulation_img\.|single_stream_modulation\.", "FLUX.2"),
        (r"txt_in\.individual_token_refiner\.", "HunyuanVideo"),
        (r"(?:^|\.)head\.modulation$|condition_embedder\.time_proj", "Wan"),
        (r"(?:^|\.)(?:patchify_proj|adaln_single\.linear)\.", "PixArt, Sana or LTX-Video"),
        (r"double_layers\.0\.attn\.w1q", "AuraFlow"),
        (r"clip_txt_mapper\.|channelwise\.0\.weight", "Stable Cascade"),
        (r"double_stream_blocks\.0\.", "HiDream"),
        (r"blocks\.0\.attn\.qkv_x\.weight", "Mochi"),
        (r"net\.pos_embedder|net\.extra_pos_embedder", "Cosmos"),
        (r"motion_modules\.", "an AnimateDiff motion module"),
        (r"(?:^|\.)(?:ip_adapter|image_proj)\.", "an IP-Adapter"),
        (r"(?:^|\.)vision_model\.", "a CLIP image encoder"),
    )
)


def _others(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for pattern, title in _UNSUPPORTED:
        if pattern.search(names.joined):
            return Detection(reason=f"Named like {title}, which is not supported.")
    declared = metadata.get("modelspec.architecture", "")
    return (
        Detection(reason=f"Its metadata calls it {declared[:60]}, but its tensor names do not match.")
        if declared
        else None
    )
