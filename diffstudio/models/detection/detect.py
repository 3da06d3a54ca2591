"""Detect what a weights file is from its tensors' names and shapes and its metadata. No weights, no torch.

Networks are detected in `detect_networks`, LoRAs and other adapters in `detect_adapters`; here are ControlNets,
embeddings, VAEs, text encoders, upscalers and what is not supported. What shapes cannot tell (whether Stable Diffusion
2 predicts eps or v) comes from the metadata; a guess is called one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from diffstudio.models.detection.architecture_names import family_from_text
from diffstudio.models.detection.detect_adapters import detect_adapter
from diffstudio.models.detection.detect_networks import detect_checkpoint
from diffstudio.models.detection.families_table import CONTROLNET_FAMILIES, FAMILIES
from diffstudio.models.detection.quantization import detect_quantized
from diffstudio.models.detection.types import (
    FAMILY_BY_CONTEXT_WIDTH,
    NOT_SUPPORTED,
    Detection,
    Layout,
    Role,
    Shapes,
    TensorNames,
)
from diffstudio.models.state_dicts.prefixes import LONE_CLIP_PREFIXES, LONE_VAE_PREFIXES, ORIGINAL_NETWORK
from diffstudio.plurals import count_of


def detect(shapes: Shapes, metadata: Mapping[str, str]) -> Detection:
    """What a file with these tensors is; family `unknown` and role UNKNOWN if nothing matches."""
    names = TensorNames(shapes)
    for recognise in (
        detect_quantized,
        _controlnet,
        detect_adapter,
        detect_checkpoint,
        _embedding,
        _text_encoder,
        _vae,
        _upscaler,
        _others,
    ):
        if (found := recognise(names, metadata)) is not None:
            return found
    return Detection(reason="None of its tensor names is known.")


_T2I_ADAPTER = ("body.0.block1.weight", "adapter.body.0.block1.weight", "adapter.body.0.resnets.0.block1.weight")


def _controlnet(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    if names.has("lora_controlnet"):
        return Detection(
            Role.CONTROLNET,
            reason="A Control-LoRA: a ControlNet stored as a LoRA, which is not supported.",
            supported=False,
        )
    if any(map(names.has, _T2I_ADAPTER)):
        return Detection(Role.UNKNOWN, reason="A T2I-Adapter, which is not supported.")
    if names.has("control_model.input_blocks.0.0.weight") and names.has(f"{ORIGINAL_NETWORK}input_blocks.0.0.weight"):
        family = _context_family(names.below("control_model."), "input_blocks.{}.1")
        return Detection(
            Role.CONTROLNET,
            family,
            layout=Layout.ORIGINAL,
            reason="A ControlNet and a complete checkpoint in one file.",
            supported=family in CONTROLNET_FAMILIES,
        )
    for prefix in ("control_model.", ""):
        at = names.below(prefix)
        if at.has("input_hint_block.0.weight"):
            if at.has("task_embedding"):
                return Detection(reason="A union ControlNet whose tensors are not named as in diffusers.")
            found = _as_controlnet(_context_family(at, "input_blocks.{}.1"), Layout.ORIGINAL, "input_hint_block")
            if not names.has("difference"):
                return found
            why = "It is stored as its difference from a U-Net, which the checkpoint's is added to."
            return replace(found, edition="difference", reason=f"{found.reason} {why}")
    at = names.below("")
    if at.has("controlnet_cond_embedding.conv_in.weight"):
        family = _context_family(at, "down_blocks.{}.attentions.0")
        if at.has("task_embedding"):
            return _union_controlnet(at, family)
        return _as_controlnet(family, Layout.DIFFUSERS, "controlnet_cond_embedding")
    if at.has("controlnet_blocks.0.weight") and (
        at.has("controlnet_x_embedder.weight") or at.has("pos_embed_input.proj.weight")
    ):
        return _as_controlnet(
            "flux" if at.has("controlnet_x_embedder.weight") else "sd3", Layout.DIFFUSERS, "controlnet_blocks"
        )
    return None


def _as_controlnet(family: str, layout: Layout, mark: str) -> Detection:
    supported = family in CONTROLNET_FAMILIES
    reason = f"It has {mark}: a ControlNet for {_whose(family)}{'' if supported else NOT_SUPPORTED}."
    return Detection(Role.CONTROLNET, family, layout=layout, reason=reason, supported=supported)


def _whose(family: str) -> str:
    return FAMILIES[family].title if family in FAMILIES else "an unknown model"


_PROMAX = 8  # types of control image; without ProMax they are 6


def _union_controlnet(at: TensorNames, family: str) -> Detection:
    """A ControlNet for several types of control image: xinsir's union, or its ProMax edition. One row for each type."""
    count = (at.shape("task_embedding") or (0,))[0]
    kind = "union ControlNet (ProMax)" if count == _PROMAX else "union ControlNet"
    reason = f"It has task_embedding: a {kind} for {_whose(family)}, with {count} types of control image."
    return Detection(
        Role.CONTROLNET,
        family,
        layout=Layout.DIFFUSERS,
        reason=reason,
        control_types=count,
        supported=family in CONTROLNET_FAMILIES,
    )


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


_QWEN_VAE = "The VAE of Qwen-Image and Wan."


def _vae(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for prefix in LONE_VAE_PREFIXES:
        at = names.below(prefix)
        if at.has("decoder.conv1.weight") and at.has("decoder.middle.0.residual.0.gamma"):
            return Detection(Role.VAE, "qwen_image", layout=Layout.ORIGINAL, reason=_QWEN_VAE)
        inner = at.shape("decoder.conv_in.weight")
        if len(inner) == 5:
            return Detection(
                Role.VAE,
                "qwen_image" if inner[1] == 16 else "unknown",
                layout=Layout.DIFFUSERS,
                reason=_QWEN_VAE if inner[1] == 16 else "A video VAE.",
                supported=inner[1] == 16,
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
            edition=count_of(inner[1], "channel"),
            reason=f"A VAE with {count_of(inner[1], 'latent channel')}, like that of {whose}.",
            supported=inner[1] in (4, 16),
        )
    return _tiny_vae(names)


# ---- tiny VAEs (TAESD), https://github.com/madebyollin/taesd -----------------------------------------------------------

# The prefixes of the numbered layers, of a decoder or encoder alone and of both in one file.
TINY_DECODER_PREFIXES = ("", "decoder.", "taesd_decoder.")
_TINY_ENCODER_PREFIXES = ("", "encoder.", "taesd_encoder.")
_TINY_WIDTH = 64


def tiny_vae_edition(channels: int) -> str:
    """The edition of a TAESD with a decoder for latents of so many channels."""
    return f"TAESD, {count_of(channels, 'channel')}"


def _tiny_vae(names: TensorNames) -> Detection | None:
    """AutoencoderTiny as diffusers saves it, or the decoder, the encoder or both as they were published."""
    first = names.shape("decoder.layers.0.weight")
    layout = Layout.DIFFUSERS if first else Layout.ORIGINAL
    for prefix in TINY_DECODER_PREFIXES if not first else ():
        at = names.below(prefix)
        if at.has("3.conv.0.weight") and at.shape("19.weight")[:2] == (3, _TINY_WIDTH):
            first = at.shape("1.weight")
    if len(first) == 4 and first[0] == _TINY_WIDTH:
        supported = first[1] in (4, 16)
        whose = "the model that its name says" if supported else "no supported model"
        return Detection(
            Role.VAE,
            layout=layout,
            edition=tiny_vae_edition(first[1]),
            reason=f"A tiny VAE (TAESD) with {first[1]} latent channels: it decodes the previews of {whose}.",
            supported=supported,
        )
    if any(
        names.below(prefix).has("1.conv.0.weight") and names.shape(f"{prefix}0.weight")[:2] == (_TINY_WIDTH, 3)
        for prefix in _TINY_ENCODER_PREFIXES
    ):
        return Detection(
            Role.VAE,
            edition="TAESD encoder",
            reason="The encoder of a tiny VAE (TAESD); previews need its decoder.",
            supported=False,
        )
    return None


def _text_encoder(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for prefix in LONE_CLIP_PREFIXES:
        tokens = names.shape(f"{prefix}embeddings.token_embedding.weight")
        if len(tokens) == 2 and names.has(f"{prefix}encoder.layers.0.self_attn.q_proj.weight"):
            which = {768: "CLIP L", 1024: "OpenCLIP H", 1280: "OpenCLIP G"}.get(tokens[1], "A CLIP")
            return _as_encoder(f"{which}, width {tokens[1]:,}", tokens, {1024: "sd2"}.get(tokens[1], "unknown"))
    tokens = (
        names.shape("shared.weight") or names.shape("encoder.embed_tokens.weight") or names.shape("token_embd.weight")
    )
    if len(tokens) == 2 and (
        names.has("encoder.block.0.layer.0.SelfAttention.q.weight") or names.has("enc.blk.0.attn_q.weight")
    ):
        kind = "UMT5" if tokens[0] > 200_000 else "T5"
        return _as_encoder(f"{kind}, width {tokens[1]:,}", tokens)
    tokens = names.shape("model.embed_tokens.weight") or names.shape("model.language_model.embed_tokens.weight")
    if len(tokens) == 2:
        known = {3584: ("Qwen2.5-VL 7B", "qwen_image"), 2560: ("Qwen3 4B", "z_image")}
        which, family = known.get(tokens[1], ("A language model", "unknown"))
        return _as_encoder(f"{which}, width {tokens[1]:,}", tokens, family)
    if names.has("transformer.resblocks.0.attn.in_proj_weight"):
        return _as_encoder("A CLIP in OpenCLIP's naming", names.shape("token_embedding.weight"))
    return None


_SUPPORTED_TOKENS = (  # the vocabulary and width of each text encoder that a supported family has
    (49_408, 768),
    (49_408, 1024),
    (49_408, 1280),
    (32_128, 4096),
    (152_064, 3584),
    (151_936, 2560),
)


def _as_encoder(what: str, tokens: tuple[int, ...], family: str = "unknown") -> Detection:
    """`tokens` is the shape of its token embeddings."""
    supported = tokens in _SUPPORTED_TOKENS
    reason = f"{what}: a text encoder{'' if supported else ' that no supported model has'}."
    return Detection(Role.TEXT_ENCODER, family, layout=Layout.DIFFUSERS, reason=reason, supported=supported)


_ESRGAN = re.compile(r"(?:^|\.)(?:model\.1\.sub\.0|RRDB_trunk\.0|body\.0)\.(?:RDB1|rdb1)\.conv1\.(?:0\.)?weight$", re.M)
_OTHER_UPSCALERS = tuple(
    (re.compile(pattern, re.M), title)
    for pattern, title in (
        (r"(?:^|\.)rb\.0\.(?:RDB1|rdb1)\.conv1\.", "an ESRGAN with other names"),
        (r"(?:^|\.)layers\.0\.residual_group\.(?:blocks|overlap_attn)\.", "a SwinIR or HAT"),
        (r"(?:^|\.)layers\.0\.blocks\.0\.attn\.attns\.0\.", "a DAT"),
        (r"(?:^|\.)block_1\.c1_r\.", "a SPAN"),
        (r"(?:^|\.)residual_layer\.0\.residual_layer\.0\.", "an OmniSR"),
        (r"(?:^|\.)feats\.\d+\.channel?_mixer\.", "a PLKSR"),  # whose first version has the typing error
        (r"(?:^|\.)unet1\.conv1\.conv\.0\.weight$", "a Real-CUGAN"),
        (r"(?:^|\.)m_down1\.0\.trans_block\.", "an SCUNet"),
    )
)


def _upscaler(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    if _ESRGAN.search(names.joined):
        return Detection(Role.UPSCALER, layout=Layout.ORIGINAL, reason="The blocks of an ESRGAN: an upscaler.")
    for pattern, title in _OTHER_UPSCALERS:
        if pattern.search(names.joined):
            reason = f"The blocks of {title}: an upscaler that needs the package spandrel."
            return Detection(Role.UPSCALER, layout=Layout.ORIGINAL, reason=reason, supported=False)
    first, slope = names.shape("body.0.weight"), names.shape("body.1.weight")
    if len(first) == 4 and first[1] == 3 and slope == (first[0],):
        return Detection(
            Role.UPSCALER,
            layout=Layout.ORIGINAL,
            reason="Plain convolutions with PReLU, like Real-ESRGAN's compact networks: an upscaler.",
        )
    return None


# ---- models that are recognised, but not supported -------------------------------------------------------------------

_UNSUPPORTED = tuple(
    (re.compile(pattern, re.M), title)
    for pattern, title in (
        (r"distilled_guidance_layer\.", "Chroma"),
        (r"double_stream_modulation_img\.|single_stream_modulation\.", "FLUX.2"),
        (r"txt_in\.individual_token_refiner\.|context_embedder\.token_refiner\.", "HunyuanVideo"),
        (r"time_caption_embed\.", "Lumina 2"),
        (r"(?:^|\.)head\.modulation$|condition_embedder\.time_proj", "Wan"),
        (r"(?:^|\.)(?:patchify_proj|adaln_single\.linear|caption_projection\.linear_1)\.", "PixArt, Sana or LTX-Video"),
        (r"double_layers\.0\.attn\.w1q|joint_transformer_blocks\.0\.", "AuraFlow"),
        (r"clip_txt_mapper\.|channelwise\.0\.weight", "Stable Cascade"),
        (r"double_stream_blocks\.0\.", "HiDream"),
        (r"blocks\.0\.attn\.qkv_x\.weight", "Mochi"),
        (r"net\.pos_embedder|net\.extra_pos_embedder", "Cosmos"),
        (r"motion_modules\.", "an AnimateDiff motion module"),
        (r"(?:^|\.)(?:ip_adapter|image_proj)\.", "an IP-Adapter"),
        (r"(?:^|\.)vision_model\.", "a CLIP image encoder"),
        (r"^(?:module\.)?layer1\.0\.conv1\.weight$", "ResNet, which classifies images"),
        (
            r"^(?:module\.)?_blocks\.0\._depthwise_conv\.|^features\.\d\.0\.block\.",
            "EfficientNet, which classifies images",
        ),
        (r"^features\.0\.weight$(?s:.*)^classifier\.\d\.weight$", "VGG or AlexNet, which classify images"),
        (r"^blocks\.0\.attn\.qkv\.weight$(?s:.*)^head\.weight$", "a vision transformer, which classifies images"),
        (r"^lin0\.model\.1\.weight$", "LPIPS, a measure of perceptual distance"),
        (r"^image_encoder\.(?:blocks|trunk)\.", "Segment Anything"),
        (r"^pretrained\.(?:model|cls_token|blocks|act_postprocess1)\b", "a depth estimator"),
        (r"^(?:model\.)?model\.\d+\.cv1\.conv\.weight$", "YOLO, which detects objects"),
        (r"^(?:bert\.)?(?:embeddings\.word_embeddings|encoder\.layer\.0\.attention\.self)\.", "BERT"),
        (r"^(?:model\.)?encoder\.conv1\.weight$(?s:.*)decoder\.token_embedding\.weight$", "Whisper"),
        (r"^decoder\.\d+\.conv\.0\.weight$", "a tiny VAE for videos (TAEHV)"),
        (r"(?:^|\.)stylegan_decoder\.|(?:^|\.)fuse_convs_dict\.", "GFPGAN or CodeFormer, which restore faces"),
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
