"""The key prefix of each component in a weights file, for every family and naming. No torch.

One checkpoint may hold its network under `model.diffusion_model.` (the original LDM and SGM code, and ComfyUI),
`diffusion_model.`, `unet.` or `transformer.` (diffusers), a trainer's wrapper (`model.`, `net.`) or no prefix at all;
text encoders and the VAE have as many. Detection, loading, splitting, merging, pruning and the matching of LoRA layers
all read this table.

Components have diffusers' names: `unet`, `transformer`, `vae`, `text_encoder`, `text_encoder_2`, `text_encoder_3`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

NETWORKS = ("unet", "transformer")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
COMPONENTS = (*NETWORKS, "vae", *TEXT_ENCODERS)

# ---- prefixes of components ------------------------------------------------------------------------------------------

ORIGINAL_NETWORK = "model.diffusion_model."
_WRAPPERS = ("model.", "net.", "")  # of a network alone in its file; keys of other components begin with them too
_UNET = (ORIGINAL_NETWORK, "diffusion_model.", "unet.", *_WRAPPERS)
_TRANSFORMER = (ORIGINAL_NETWORK, "diffusion_model.", "transformer.", *_WRAPPERS)
NETWORK_PREFIXES = tuple(dict.fromkeys((*_UNET[: -len(_WRAPPERS)], *_TRANSFORMER)))
VAE_PREFIXES = ("first_stage_model.", "vae.")
_LDM_CLIP, _SGM_CLIP = "cond_stage_model.transformer.", "conditioner.embedders.0.transformer."


def _comfy(encoder: str) -> str:
    """The prefix under which ComfyUI saves a text encoder in a checkpoint."""
    return f"text_encoders.{encoder}.transformer."


# family -> component -> prefixes of its keys; the first is that of the original naming, or ComfyUI's where there is
# none
COMPONENT_PREFIXES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sd1": {
        "unet": _UNET,
        "vae": VAE_PREFIXES,
        "text_encoder": (_LDM_CLIP, _SGM_CLIP, _comfy("clip_l"), "text_encoder."),
    },
    "sd2": {
        "unet": _UNET,
        "vae": VAE_PREFIXES,
        "text_encoder": ("cond_stage_model.model.", _comfy("clip_h"), "text_encoder."),
    },
    "sdxl": {
        "unet": _UNET,
        "vae": VAE_PREFIXES,
        "text_encoder": (_SGM_CLIP, _LDM_CLIP, _comfy("clip_l"), "text_encoder."),
        "text_encoder_2": ("conditioner.embedders.1.model.", _comfy("clip_g"), "text_encoder_2."),
    },
    "sdxl_refiner": {
        "unet": _UNET,
        "vae": VAE_PREFIXES,
        "text_encoder_2": ("conditioner.embedders.0.model.", _comfy("clip_g"), "text_encoder_2."),
    },
    "sd3": {
        "transformer": _TRANSFORMER,
        "vae": VAE_PREFIXES,
        "text_encoder": (_comfy("clip_l"), "text_encoder."),
        "text_encoder_2": (_comfy("clip_g"), "text_encoder_2."),
        "text_encoder_3": (_comfy("t5xxl"), "text_encoder_3."),
    },
    "flux": {
        "transformer": _TRANSFORMER,
        "vae": VAE_PREFIXES,
        "text_encoder": (_comfy("clip_l"), "text_encoder."),
        "text_encoder_2": (_comfy("t5xxl"), "text_encoder_2."),
    },
    "z_image": {
        "transformer": _TRANSFORMER,
        "vae": VAE_PREFIXES,
        "text_encoder": (_comfy("qwen3_4b"), "text_encoder."),
    },
    "qwen_image": {
        "transformer": _TRANSFORMER,
        "vae": VAE_PREFIXES,
        "text_encoder": (_comfy("qwen25_7b"), "text_encoder."),
    },
}
TEXT_ENCODER_ROOTS = (
    "cond_stage_model.",
    "conditioner.embedders.",
    "text_encoders.",
    *(f"{e}." for e in TEXT_ENCODERS),
)

# Of a file that holds one component alone, which is usually saved without a prefix.
LONE_VAE_PREFIXES = ("", *VAE_PREFIXES)
LONE_CLIP_PREFIXES = ("", "text_model.", "text_encoder.", "transformer.text_model.", "transformer.")
LONE_COMPONENT_PREFIXES = ("", "text_encoder.", *VAE_PREFIXES[::-1])

# Keys of a network's first layers, by which it is recognised where its prefix is ambiguous.
NETWORK_KEYS: Mapping[str, tuple[str, ...]] = {
    "unet": ("input_blocks.0.0.weight", "conv_in.weight"),  # LDM, diffusers
    "transformer": (
        "img_in.weight",  # FLUX.1, Qwen-Image
        "x_embedder.weight",  # Z-Image; FLUX.1 in diffusers
        "all_x_embedder.2-1.weight",  # Z-Image in diffusers
        "x_embedder.proj.weight",  # Stable Diffusion 3
        "pos_embed.proj.weight",  # Stable Diffusion 3 in diffusers
    ),
}


def find_prefix(family: str, component: str, names: Collection[str]) -> str | None:
    """The prefix of a component's keys among `names`, empty for a network alone; None where the file does not hold it."""
    for prefix in COMPONENT_PREFIXES.get(family, {}).get(component, ()):
        if prefix in _WRAPPERS:
            found = any(prefix + key in names for key in NETWORK_KEYS[component])
        else:
            found = any(name.startswith(prefix) for name in names)
        if found:
            return prefix
    return None


_ROOT = re.compile(
    "|".join(
        (
            *(re.escape(prefix) for prefix in (*NETWORK_PREFIXES, *VAE_PREFIXES) if prefix not in _WRAPPERS),
            r"cond_stage_model\.|conditioner\.embedders\.\d\.|text_encoder(?:_\d)?\.|text_encoders\.\w+\.",
        )
    )
)


def root_of(name: str) -> str:
    """The component that a key of a whole checkpoint belongs to, as the file calls it; empty for a network alone."""
    found = _ROOT.match(name)
    return found[0].rstrip(".") if found is not None else ""


def kind_of_root(root: str) -> str:
    """`network`, `vae` or `text_encoder`, for what `root_of` returned."""
    if not root or f"{root}." in NETWORK_PREFIXES:
        return "network"
    return "vae" if f"{root}." in VAE_PREFIXES else "text_encoder"


# ---- keys that are not weights ---------------------------------------------------------------------------------------

FP8_SCALES = (".scale_weight", ".weight_scale")  # next to fp8 weights: the factors to multiply them by
QUANTIZATION_FORMAT = ".comfy_quant"  # next to a weight: how it is packed, as JSON
NOT_WEIGHTS = (
    "position_ids",
    "logit_scale",
    "attn_mask",
    "scaled_fp8",
    ".scale_input",
    ".input_scale",
    QUANTIZATION_FORMAT,
)

EMA_PREFIX = "model_ema."
EMA_WEIGHTS = "EMA copies of the weights"
_UNUSED_FOR_INFERENCE = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"^(?:model_ema|ema_model|ema|unet_ema)\.|\.model_ema\.|^first_stage_model_ema\.", EMA_WEIGHTS),
        (r"^(?:optimizers?|optimizer_states?|lr_schedulers?|scaler|amp)(?:\.|$)", "the optimiser's state"),
        (r"^(?:first_stage_model\.)?(?:loss|discriminator|perceptual_loss)\.", "the VAE's training losses"),
        (r"^(?:cond_stage_model|conditioner\.embedders\.\d+)\.model\.visual\.", "CLIP's image encoder"),
        (
            r"^(?:callbacks|loops|hyper_parameters|global_step|epoch|pytorch-lightning_version)(?:\.|$)",
            "the trainer's state",
        ),
    )
)


def unused_for_inference(name: str) -> str:
    """What kind of tensor this is, if only training needs it; empty for those that inference needs."""
    return next((what for pattern, what in _UNUSED_FOR_INFERENCE if pattern.search(name)), "")


# ---- layers of LoRA files --------------------------------------------------------------------------------------------

NETWORK = "network"  # the component that denoises, whichever of NETWORKS it is
PEFT_PREFIX = "base_model.model."  # before every name in PEFT's files, whatever the component
_TRAINERS_NETWORK = (
    "lora_unet_",
    "oft_unet_",
    "lora_transformer_",
    "lycoris_",
)  # kohya, sd-scripts' OFT, OneTrainer, LyCORIS
_TRAINERS_ENCODERS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("lora_te_", "lycoris_te_"), ("text_encoder", "text_encoder_2")),
    (("lora_te1_", "text_encoder_", "clip_l_"), ("text_encoder",)),
    (("lycoris_", ""), TEXT_ENCODERS),
    (("lora_te2_", "text_encoder_2_", "clip_g_"), ("text_encoder_2",)),
    (("lora_te3_", "text_encoder_3_", "t5xxl_"), ("text_encoder_3", "text_encoder_2")),
)
_COMFY_ENCODERS = {
    "clip_l": ("text_encoder",),
    "clip_g": ("text_encoder_2",),
    "t5xxl": ("text_encoder_3", "text_encoder_2"),
    "qwen3_4b": ("text_encoder",),
    "qwen25_7b": ("text_encoder",),
}


def underscored(name: str) -> str:
    """The path of a layer as kohya's LoRA files write it: with underscores for dots."""
    return name.replace(".", "_")


# How the names of layers begin, with underscores for dots, and the components they may mean: the first that has such a
# module.
LORA_PREFIXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((prefix, (NETWORK,)) for prefix in (*_TRAINERS_NETWORK, *map(underscored, NETWORK_PREFIXES))),
    *((prefix, components) for prefixes, components in _TRAINERS_ENCODERS for prefix in prefixes),
    *((underscored(_comfy(encoder)), components) for encoder, components in _COMFY_ENCODERS.items()),
)
