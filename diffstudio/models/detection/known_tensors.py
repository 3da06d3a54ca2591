"""The tensor names of every network that is supported, and the models that names beyond them are known from. No torch.

Other models are built on the same blocks: Kolors on Stable Diffusion XL's, Nucleus-Image on Qwen-Image's. They have all
the tensors by which their relative is recognised, and a few more. Loaded without these they would make noise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from diffstudio.models.state_dicts.prefixes import FP8_SCALES, NOT_WEIGHTS, root_of, unused_for_inference

_P = r"\.(?:weight|bias)"  # the end of a layer's name; `#` stands for a number
_ATTENTION = r"(?:to_[qkv]|to_out\.#|to_add_out|add_[qkv]_proj|norm_(?:added_)?[qk])"
_FEED_FORWARD = r"net\.#(?:\.proj)?"
_SPATIAL = (  # a U-Net's attention block, in both namings
    r"(?:norm|proj_in|proj_out"
    rf"|transformer_blocks\.#\.(?:attn[12]\.(?:to_[qkv]|to_out\.#)|norm[123]|ff\.{_FEED_FORWARD}))"
)
_TIME_AND_TEXT = r"time_text_embed\.(?:timestep|text|guidance)_embedder\.linear_[12]"
_Z_IMAGE_BLOCK = (
    r"(?:attention\.(?:qkv|out|to_[qkv]|to_out\.#|[qk]_norm|norm_[qk])|attention_norm[12]|ffn_norm[12]"
    r"|feed_forward\.w[123]|adaLN_modulation\.#)"
)


def _any(*names: str) -> re.Pattern[str]:
    return re.compile("|".join(names))


_UNET = _any(
    # LDM and SGM
    rf"(?:time_embed|label_emb\.#|out)\.#{_P}",
    r"time_embed\.cond_proj\.weight",
    rf"(?:input_blocks|output_blocks)\.#\.#(?:\.(?:op|conv))?{_P}",
    rf"(?:(?:input_blocks|output_blocks)\.#|middle_block)\.#\."
    rf"(?:(?:in|emb|out)_layers\.#|skip_connection|{_SPATIAL}){_P}",
    # diffusers
    rf"(?:(?:time|add)_embedding\.linear_[12]|conv_in|conv_norm_out|conv_out){_P}",
    r"time_embedding\.cond_proj\.weight",
    rf"(?:(?:down|up)_blocks\.#|mid_block)\.resnets\.#\.(?:norm[12]|conv[12]|time_emb_proj|conv_shortcut){_P}",
    rf"(?:down_blocks\.#\.downsamplers|up_blocks\.#\.upsamplers)\.#\.conv{_P}",
    rf"(?:(?:down|up)_blocks\.#|mid_block)\.attentions\.#\.{_SPATIAL}{_P}",
)

# family -> the names below the network's prefix, in every naming
_NAMES: Mapping[str, re.Pattern[str]] = {
    "sd1": _UNET,
    "sd2": _UNET,
    "sdxl": _UNET,
    "sdxl_refiner": _UNET,
    "sd3": _any(
        r"pos_embed",
        rf"(?:x_embedder\.proj|context_embedder|[ty]_embedder\.mlp\.#|final_layer\.(?:linear|adaLN_modulation\.#)){_P}",
        rf"joint_blocks\.#\.(?:x|context)_block\."
        rf"(?:adaLN_modulation\.#|attn2?\.(?:qkv|proj|ln_[qk])|mlp\.fc[12]){_P}",
        r"pos_embed\.pos_embed",
        rf"(?:pos_embed\.proj|norm_out\.linear|proj_out|{_TIME_AND_TEXT}){_P}",
        rf"transformer_blocks\.#\.(?:norm1(?:_context)?\.linear|attn2?\.{_ATTENTION}"
        rf"|ff(?:_context)?\.{_FEED_FORWARD}){_P}",
    ),
    "flux": _any(
        rf"(?:img_in|txt_in|(?:time|vector|guidance)_in\.(?:in|out)_layer"
        rf"|final_layer\.(?:linear|adaLN_modulation\.#)){_P}",
        rf"double_blocks\.#\.(?:img|txt)_(?:mod\.lin|attn\.(?:qkv|proj)|mlp\.#){_P}",
        rf"single_blocks\.#\.(?:linear[12]|modulation\.lin){_P}",
        r"(?:double_blocks\.#\.(?:img|txt)_attn|single_blocks\.#)\.norm\.(?:query|key)_norm\.(?:scale|weight)",
        rf"(?:x_embedder|context_embedder|norm_out\.linear|proj_out|{_TIME_AND_TEXT}){_P}",
        rf"transformer_blocks\.#\.(?:norm1(?:_context)?\.linear|attn\.{_ATTENTION}|ff(?:_context)?\.{_FEED_FORWARD}){_P}",
        rf"single_transformer_blocks\.#\.(?:norm\.linear|proj_mlp|proj_out|attn\.{_ATTENTION}){_P}",
    ),
    "z_image": _any(
        r"(?:x|cap|siglip)_pad_token",
        rf"(?:x_embedder|all_x_embedder\.\d+-\d+|(?:cap|siglip)_embedder\.#|t_embedder\.mlp\.#"
        rf"|(?:final_layer|all_final_layer\.\d+-\d+)\.(?:linear|adaLN_modulation\.#)){_P}",
        rf"(?:layers|(?:noise|context|siglip)_refiner)\.#\.{_Z_IMAGE_BLOCK}{_P}",
    ),
    "qwen_image": _any(
        "__index_timestep_zero__",
        rf"(?:img_in|txt_in|txt_norm|norm_out\.linear|proj_out|time_text_embed\.timestep_embedder\.linear_[12]){_P}",
        rf"transformer_blocks\.#\.(?:(?:img|txt)_(?:mod\.#|mlp\.{_FEED_FORWARD})|attn\.{_ATTENTION}){_P}",
    ),
}

# Buffers and marks of the original code, which say nothing or are read elsewhere.
_HARMLESS = re.compile(
    r"(?:betas|alphas_cumprod(?:_prev)?|sqrt_(?:one_minus_|recip_|recipm1_)?alphas_cumprod|sqrt_recip_alphas_cumprod"
    r"|log_one_minus_alphas_cumprod|posterior_\w+|lvlb_weights|logvar|scale_factor|global_step|v_pred|ztsnr|edm_\w+"
    r"|denoiser\.\w+|embedding_manager\..*|model_sampling\..*)"
)

# What tensors that a supported network has not are known from.
_KNOWN_FROM = tuple(
    (re.compile(pattern), title)
    for pattern, title in (
        (r"^encoder_hid_proj\.", "Kolors"),
        (r"^time_text_embed\.addition_t_embedding\.", "Qwen-Image-Layered"),
        (r"^transformer_blocks\.#\.(?:encoder_proj|img_mlp\.(?:gate|experts|shared_expert))\b", "Nucleus-Image"),
        (r"^distilled_guidance_layer\.", "Chroma"),
        (r"^(?:double|single)_stream_modulation", "FLUX.2"),
        (r"individual_token_refiner", "HunyuanVideo"),
        (r"^(?:clip_text_pooled_proj|time_text_embed)\.", "NewBie"),
        (r"^(?:dec_net|nerf_\w+|__x0__|__32x32__)\b", "a model that paints pixels, without a VAE"),
        (r"\bpulid_ca\b", "a network with PuLID"),
        (r"\bto_[kv]_ip\b|\bip_adapter\b|^image_proj\.|^encoder_hid_proj\.image", "a network with an IP-Adapter"),
        (r"\bfuser\.|^position_net\.", "GLIGEN"),
        (r"motion_modules|temporal_|\btime_(?:stack|mixer|conv)|\btemp_(?:convs|attentions)", "a video model"),
        (r"^control_(?:layers|noise_refiner|all_x_embedder)\.", "a ControlNet of Z-Image"),
    )
)
_NUMBER = re.compile(r"\.\d+(?=\.|$)", re.M)


def template(name: str) -> str:
    """The name with `#` for the numbers of blocks and layers."""
    return _NUMBER.sub(".#", name)


def unknown_in_network(family: str, names: Iterable[str], prefix: str) -> tuple[str, ...]:
    """The templates, without the prefix, of tensors in the network that no network of this family has.

    `names` are the whole file's. What belongs to other components or to training does not count.
    """
    known = _NAMES.get(family)
    if known is None:
        return ()
    inside = "\n".join(name[len(prefix) :] for name in names if name.startswith(prefix))
    return tuple(
        one
        for one in sorted(set(_NUMBER.sub(".#", inside).split("\n")) - {""})
        if known.fullmatch(one) is None and not (_is_harmless(one) or not prefix and root_of(one.replace("#", "0")))
    )


def unused_beside_network(names: Iterable[str], prefix: str) -> tuple[str, ...]:
    """The templates of tensors that belong to no component and are not training's; none for a network without a prefix."""
    if not prefix:
        return ()
    outside = "\n".join(name for name in names if not name.startswith(prefix) and not root_of(name))
    return tuple(one for one in sorted(set(_NUMBER.sub(".#", outside).split("\n")) - {""}) if not _is_harmless(one))


def _is_harmless(name: str) -> bool:
    return (
        name.endswith((*NOT_WEIGHTS, *FP8_SCALES))
        or _HARMLESS.fullmatch(name) is not None
        or bool(unused_for_inference(name.replace("#", "0")))
    )


def known_from(unknown: Iterable[str]) -> str:
    """The model that has such tensors; empty if no model is known to have them."""
    return next((title for pattern, title in _KNOWN_FROM for name in unknown if pattern.search(name)), "")
