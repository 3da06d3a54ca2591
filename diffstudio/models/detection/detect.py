"""Detection: what a file of weights is, from the names and shapes of its tensors and its metadata alone. No weights, no torch.

Every family leaves marks that no other has: the name of one tensor, and what its sides are. They are facts about published
checkpoints, written down in their makers' code and in diffusers' configurations. What shapes cannot tell (whether a Stable
Diffusion 2 predicts eps or v) is taken from the metadata, and said to be a guess where it is one.
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
    """What a file with tensors of these names and shapes is. Family `unknown` and role UNKNOWN where nothing fits."""
    names = TensorNames(shapes)
    for look in (_controlnet, detect_adapter, _checkpoint, _embedding, _text_encoder, _vae, _upscaler, _others):
        if (found := look(names, metadata)) is not None:
            return found
    return Detection(reason="None of its tensors has a name that is known here.")


# ---- networks, and checkpoints around them ---------------------------------------------------------------------------


def _checkpoint(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    """A network: with what else there is in the file a checkpoint."""
    for prefix in NETWORK_PREFIXES:
        at = names.below(prefix)
        for recognise in _NETWORKS:
            if (found := recognise(at)) is not None:
                found = _predicting(found, names, metadata)
                return _around(found, names, prefix)
    return None


def _around(found: Detection, names: TensorNames, prefix: str) -> Detection:
    encoders = any(name.startswith(TEXT_ENCODER_ROOTS) for name in names.shapes)
    autoencoder = any(name.startswith(VAE_PREFIXES) for name in names.shapes)
    if encoders and autoencoder:
        beside = "text encoders and autoencoder are in the same file"
    elif encoders or autoencoder:
        beside = f"the file has {'text encoders' if encoders else 'an autoencoder'}, but no " + (
            "autoencoder" if encoders else "text encoders"
        )
    else:
        beside = "the file holds the network alone"
    role = Role.CHECKPOINT if encoders or autoencoder else Role.NETWORK
    layout = found.layout if prefix != ORIGINAL_NETWORK else Layout.ORIGINAL
    return replace(found, role=role, layout=layout, reason=f"{found.reason.rstrip('.')}; {beside}.")


def _unet_original(at: TensorNames) -> Detection | None:
    first = at.shape("input_blocks.0.0.weight")
    words = at.shape("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight") or at.shape(
        "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    )
    deep = at.has("input_blocks.7.1.transformer_blocks.9.attn2.to_k.weight")
    return _unet(first, words, at.shape("label_emb.0.0.weight"), deep, Layout.ORIGINAL)


def _unet_diffusers(at: TensorNames) -> Detection | None:
    first = at.shape("conv_in.weight")
    words = at.shape("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight") or at.shape(
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    )
    deep = at.has("down_blocks.2.attentions.0.transformer_blocks.9.attn2.to_k.weight")
    return _unet(first, words, at.shape("add_embedding.linear_1.weight"), deep, Layout.DIFFUSERS)


_CHANNELS = {5: "a depth map", 7: "the small picture it is to enlarge", 8: "a picture to change by instruction"}


def _unet(
    first: tuple[int, ...], words: tuple[int, ...], sizes: tuple[int, ...], deep: bool, layout: Layout
) -> Detection | None:
    """`first` [width,channels,3,3], `words` [width,context], `sizes` [width,micro-conditioning] are its telling tensors."""
    if len(first) < 2 or len(words) != 2:
        return None
    channels, context = first[1], words[1]
    family = FAMILY_BY_CONTEXT_WIDTH.get(context, "unknown")
    why = f"A U-Net that attends to words of {context:,} numbers"
    if family == "unknown":
        return Detection(Role.UNKNOWN, reason=f"{why}, as no known Stable Diffusion does", layout=layout)
    found = Detection(Role.NETWORK, family, "eps", layout=layout, inpainting=channels == 9)
    if family == "sdxl" and not deep:
        return replace(
            found, family="unknown", reason=f"{why}, as Stable Diffusion XL, but a smaller one (SSD-1B, Vega or Kolors)"
        )
    if family == "sd2" and sizes:
        return replace(found, family="unknown", reason=f"{why} and to a picture (Stable unCLIP)")
    if channels not in (4, 9):
        shown = _CHANNELS.get(channels, f"{channels} channels")
        return replace(found, family="unknown", reason=f"{why}, as {FAMILIES[family].title}, and is also shown {shown}")
    painted = " and is shown a mask and what is around it (9 channels)" if found.inpainting else ""
    return replace(found, reason=f"{why}, as {FAMILIES[family].title} does{painted}")


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
        reason=f"Blocks that pictures and words pass jointly, {patches[0]:,} wide, as Stable Diffusion {edition} has",
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
    told = at.has("guidance_in.in_layer.weight" if original else "time_text_embed.guidance_embedder.linear_1.weight")
    found = Detection(
        Role.NETWORK,
        "flux",
        "flow",
        layout=Layout.ORIGINAL if original else Layout.DIFFUSERS,
        edition="dev" if told else "schnell",
    )
    if patches[1] != 64:
        tool = {
            384: "Fill, which is shown a mask and what is around it",
            128: "Canny or Depth, which is shown a second picture",
        }
        return replace(
            found,
            family="unknown",
            edition="",
            inpainting=patches[1] == 384,
            reason=f"FLUX.1 {tool.get(patches[1], f'of {patches[1]} channels')}",
        )
    return replace(
        found,
        reason=f"Double and single blocks of FLUX.1, {'told' if told else 'not told'} the guidance, as "
        f"{found.edition} is",
    )


def _z_image(at: TensorNames) -> Detection | None:
    diffusers = at.has("all_x_embedder.2-1.weight")
    words = at.shape("cap_embedder.1.weight")
    if (
        len(words) != 2
        or not at.has("layers.0.adaLN_modulation.0.weight")
        or not (diffusers or at.has("x_embedder.weight"))
    ):
        return None
    return Detection(
        Role.NETWORK,
        "z_image",
        "flow",
        layout=Layout.DIFFUSERS if diffusers else Layout.ORIGINAL,
        reason=f"One stream of modulated layers, {words[0]:,} wide, and words of {words[1]:,} numbers, as Z-Image has",
    )


def _lumina(at: TensorNames) -> Detection | None:
    """Lumina 2 has Z-Image's names, but another modulation."""
    if not at.has("cap_embedder.0.weight") or not at.has("layers.0.attention.qkv.weight"):
        return None
    return Detection(Role.NETWORK, reason="The layers of Lumina 2, which is not supported")


def _qwen_image(at: TensorNames) -> Detection | None:
    if not at.has("transformer_blocks.0.img_mod.1.weight") or not at.has("txt_norm.weight"):
        return None
    if at.shape("img_in.weight")[1:] not in ((64,), ()):
        return Detection(
            Role.NETWORK, reason="Qwen-Image's blocks with more channels than a picture has, which is not supported"
        )
    return Detection(
        Role.NETWORK,
        "qwen_image",
        "flow",
        layout=Layout.DIFFUSERS,
        reason="Blocks with a modulation for the picture and one for the words, as Qwen-Image has",
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
    """With what its network says, where the file says something about it."""
    if found.prediction != "eps":
        return found
    if names.has("edm_mean") or names.has("edm_vpred.sigma_max"):
        return replace(
            found,
            family="unknown",
            prediction="",
            reason=f"{found.reason}, trained with EDM's preconditioning, which is not supported for it",
        )
    if names.has("v_pred"):
        return replace(found, prediction="v", reason=f"{found.reason}; the tensor v_pred says that it predicts v")
    said = metadata.get("modelspec.prediction_type", "").lower()
    if said in ("v", "v_prediction", "v-prediction"):
        return replace(found, prediction="v", reason=f"{found.reason}; its metadata says that it predicts v")
    if said in ("epsilon", "eps"):
        return replace(found, reason=f"{found.reason}; its metadata says that it predicts eps")
    if found.family == "sd2" and not found.inpainting:
        architecture = metadata.get("modelspec.architecture", "").lower()
        if "v2-512" in architecture or "768-v" in architecture:
            prediction = "v" if "768-v" in architecture else "eps"
            return replace(
                found, prediction=prediction, reason=f"{found.reason}; its metadata calls it {architecture[:60]}"
            )
        return replace(found, prediction="")  # see checkpoint.py, which looks beside and into the file
    return found


# ---- what goes with a checkpoint -------------------------------------------------------------------------------------

_T2I_ADAPTER = ("body.0.block1.weight", "adapter.body.0.block1.weight", "adapter.body.0.resnets.0.block1.weight")


def _controlnet(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    if names.has("lora_controlnet"):
        return Detection(
            Role.CONTROLNET, reason="A control-LoRA: a ControlNet as changes to a checkpoint's own network."
        )
    if any(map(names.has, _T2I_ADAPTER)):
        return Detection(Role.UNKNOWN, reason="A T2I adapter, which is not supported.")
    if names.has("control_model.input_blocks.0.0.weight") and names.has(f"{ORIGINAL_NETWORK}input_blocks.0.0.weight"):
        return Detection(
            Role.CONTROLNET,
            layout=Layout.ORIGINAL,
            reason="A ControlNet together with a whole checkpoint.",
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
    whose = FAMILIES[family].title if family in FAMILIES else "a model that is not known here"
    return Detection(
        Role.CONTROLNET,
        family,
        layout=layout,
        reason=f"Its {mark} reads a picture to follow: a ControlNet for {whose}.",
    )


def _context_family(at: TensorNames, block: str) -> str:
    for index in (0, 1, 4):
        words = at.shape(f"{block.format(index)}.transformer_blocks.0.attn2.to_k.weight")
        if len(words) == 2:
            return FAMILY_BY_CONTEXT_WIDTH.get(words[1], "unknown")
    return (
        "sdxl" if at.has("add_embedding.linear_1.weight") or at.has("label_emb.0.0.weight") else "unknown"
    )  # reduced ones


_WORD_WIDTHS = {768: "sd1", 1024: "sd2", 1280: "sdxl", 4096: "sd3"}


def _embedding(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    """Textual inversion: very few tensors, each some vectors as wide as a text encoder's words."""
    shapes = names.shapes
    if not 0 < len(shapes) <= 3 or not all(
        len(shape) in (1, 2) and shape[-1] in _WORD_WIDTHS and (len(shape) == 1 or shape[0] <= 512)
        for shape in shapes.values()
    ):
        return None
    family = (
        "sdxl" if {"clip_l", "clip_g"} <= set(shapes) else _WORD_WIDTHS[max(shape[-1] for shape in shapes.values())]
    )
    if {"clip_l", "clip_g", "t5xxl"} <= set(shapes):
        family = "sd3"
    vectors = max(shape[0] if len(shape) == 2 else 1 for shape in shapes.values())
    as_wide = f"as wide as the words of {FAMILIES[family].title}: a textual inversion"
    return Detection(
        Role.EMBEDDING,
        family,
        layout=Layout.ORIGINAL,
        reason=f"{vectors} vector{'s' if vectors > 1 else ''} {as_wide}.",
    )


def _vae(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for prefix in LONE_VAE_PREFIXES:
        at = names.below(prefix)
        if at.has("decoder.conv1.weight") and at.has("decoder.middle.0.residual.0.gamma"):
            return Detection(
                Role.VAE, "qwen_image", layout=Layout.ORIGINAL, reason="The autoencoder that Qwen-Image and Wan share."
            )
        inner = at.shape("decoder.conv_in.weight")
        if len(inner) == 5:
            return Detection(
                Role.VAE,
                "qwen_image" if inner[1] == 16 else "unknown",
                layout=Layout.DIFFUSERS,
                reason="The autoencoder that Qwen-Image and Wan share."
                if inner[1] == 16
                else "An autoencoder of films.",
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
            family, whose = "unknown", "no model that is known here"
        return Detection(
            Role.VAE,
            family,
            layout=layout,
            edition=f"{inner[1]} channels",
            reason=f"An autoencoder of {inner[1]} channels, as {whose} have.",
        )
    if names.has("decoder.layers.0.weight") and names.has("encoder.layers.0.weight"):
        return Detection(Role.VAE, layout=Layout.DIFFUSERS, reason="A tiny autoencoder, for previews.")
    return None


def _text_encoder(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for prefix in LONE_CLIP_PREFIXES:
        words = names.shape(f"{prefix}embeddings.token_embedding.weight")
        if len(words) == 2 and names.has(f"{prefix}encoder.layers.0.self_attn.q_proj.weight"):
            which = {768: "CLIP L", 1024: "OpenCLIP H", 1280: "OpenCLIP G"}.get(words[1], "a CLIP")
            return _as_encoder(f"The text half of {which}, {words[1]:,} wide", {1024: "sd2"}.get(words[1], "unknown"))
    words = (
        names.shape("shared.weight") or names.shape("encoder.embed_tokens.weight") or names.shape("token_embd.weight")
    )
    if len(words) == 2 and (
        names.has("encoder.block.0.layer.0.SelfAttention.q.weight") or names.has("enc.blk.0.attn_q.weight")
    ):
        kind = "UMT5" if words[0] > 200_000 else "T5"
        return _as_encoder(f"The encoder of {kind}, {words[1]:,} wide")
    words = names.shape("model.embed_tokens.weight") or names.shape("model.language_model.embed_tokens.weight")
    if len(words) == 2:
        known = {3584: ("Qwen2.5-VL 7B", "qwen_image"), 2560: ("Qwen3 4B", "z_image")}
        which, family = known.get(words[1], ("a language model", "unknown"))
        return _as_encoder(f"The layers of {which}, {words[1]:,} wide", family)
    if names.has("transformer.resblocks.0.attn.in_proj_weight"):
        return _as_encoder("A CLIP, named as OpenCLIP does")
    return None


def _as_encoder(what: str, family: str = "unknown") -> Detection:
    return Detection(
        Role.TEXT_ENCODER, family, layout=Layout.DIFFUSERS, reason=f"{what}: reads prompts for a checkpoint."
    )


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
            return Detection(
                Role.UPSCALER, layout=Layout.ORIGINAL, reason=f"The blocks of {title}: it enlarges pictures."
            )
    first, slope = names.shape("body.0.weight"), names.shape("body.1.weight")
    if len(first) == 4 and first[1] == 3 and slope == (first[0],):
        return Detection(
            Role.UPSCALER,
            layout=Layout.ORIGINAL,
            reason="A line of convolutions with learnt slopes, as Real-ESRGAN's small networks: it enlarges pictures.",
        )
    return None


# ---- what is known by name, so that a person is not left wondering ------------------------------------------------------

_KNOWN = tuple(
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
        (r"(?:^|\.)vision_model\.", "a CLIP that looks at pictures"),
    )
)


def _others(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    for pattern, title in _KNOWN:
        if pattern.search(names.joined):
            return Detection(reason=f"Named like {title}, which is not supported.")
    said = metadata.get("modelspec.architecture", "")
    return Detection(reason=f"Its metadata calls it {said[:60]}, but its tensors are not named so.") if said else None
