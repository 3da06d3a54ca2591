"""Detect networks (U-Nets, diffusion transformers), alone or with text encoders and a VAE, by their tensors. No torch.

Every family has a tensor whose name and shape no other has; they come from the original code and from diffusers'
configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from diffstudio.errors import listed
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.known_tensors import known_from, unknown_in_network, unused_beside_network
from diffstudio.models.detection.types import FAMILY_BY_CONTEXT_WIDTH, Detection, Layout, Role, TensorNames
from diffstudio.models.state_dicts.prefixes import NETWORK_PREFIXES, ORIGINAL_NETWORK, TEXT_ENCODER_ROOTS, VAE_PREFIXES
from diffstudio.plurals import count_of


def detect_checkpoint(names: TensorNames, metadata: Mapping[str, str]) -> Detection | None:
    """A network, alone or with text encoders or a VAE."""
    for prefix in NETWORK_PREFIXES:
        at = names.below(prefix)
        for recognise in _NETWORKS:
            if (found := recognise(at)) is not None:
                found = _predicting(_accounted(found, names, prefix), names, metadata)
                return _with_surroundings(found, names, prefix)
    return None


def _accounted(found: Detection, names: TensorNames, prefix: str) -> Detection:
    """Of no family where the network has tensors that its family has not: it is another network, with other inputs."""
    unknown = unknown_in_network(found.family, names.shapes, prefix)
    if not unknown:
        return replace(found, unused=unused_beside_network(names.shapes, prefix))
    like, title = FAMILIES[found.family].title, known_from(unknown)
    reason = (
        f"Named like {like}, but with the tensors of {title}, which is not supported"
        if title
        else f"Named like {like}, but with tensors that it does not have: {_first(unknown)}"
    )
    return replace(found, family="unknown", prediction="", edition="", inpainting=False, reason=reason, unused=unknown)


def _first(names: tuple[str, ...]) -> str:
    return listed(names, 1, lambda name: name[:80])


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
    if found.family in FAMILIES and found.unused:
        contents += f"; tensors that are not used: {_first(found.unused)}"
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
        return replace(found, family="unknown", reason=f"{why}, like Stable Diffusion XL, but smaller (SSD-1B or Vega)")
    if family == "sd2" and micro:
        return replace(found, family="unknown", reason=f"{why} and image conditioning (Stable unCLIP)")
    if channels not in (4, 9):
        extra = _EXTRA_INPUTS.get(channels, count_of(channels, "channel"))
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
        edition="Omni" if at.has("siglip_embedder.1.weight") else "",
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
    found = Detection(Role.NETWORK, "qwen_image", "flow", layout=Layout.DIFFUSERS)
    if at.has("__index_timestep_zero__"):
        why = "Qwen-Image's blocks with the mark of Qwen-Image-Edit 2511, used without reference images"
        return replace(found, edition="Edit", reason=why)
    return replace(found, reason="Blocks with separate image and text modulation, like Qwen-Image")


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
