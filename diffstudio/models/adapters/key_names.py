"""The keys of adapter files in every naming: the layer that a tensor belongs to, and its role there.

Namings: kohya's `lora_unet_….lora_down.weight`, diffusers' and PEFT's `unet.….lora_A.weight` (and diffusers' older
`….processor.to_q_lora.down.weight`), OneTrainer's `lora_transformer_…`, ComfyUI's `diffusion_model.…`, LyCORIS'
`lycoris_…`, XLabs' `double_blocks.0.processor.qkv_lora1.down.weight`, cloneofsimo's `unet:0:down`.
"""

from __future__ import annotations

import re

# What a tensor is, by the ending of its key: the first match. The rest of the key is the layer's name.
_ENDINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"\.(?:lora_down|lora_A|lora\.down|lora_linear_layer\.down)(?:\.\w+)??(?:\.weight)?$", "down"),
        (r"\.(?:lora_up|lora_B|lora\.up|lora_linear_layer\.up)(?:\.\w+)??\.bias$", "up_bias"),
        (r"\.(?:lora_up|lora_B|lora\.up|lora_linear_layer\.up)(?:\.\w+)??(?:\.weight)?$", "up"),
        (r"[._]lora(?P<number>[12]?)\.down\.weight$", "down"),
        (r"[._]lora(?P<number>[12]?)\.up\.weight$", "up"),
        (r":(down|up)$", r"\1"),
        (r"\.lora_mid(?:\.weight)?$", "mid"),
        (r"\.(?:lora\.|lora_linear_layer\.)?(?:network_)?alpha$", "alpha"),
        (r"\.scalar$", "scalar"),
        (r"\.lora_magnitude_vector(?:\.\w+)??(?:\.weight)?$", "magnitude"),
        (r"\.dora_scale$", "dora_scale"),
        (r"\.lora_embedding_A(?:\.\w+)?$", "embedding_down"),
        (r"\.lora_embedding_B(?:\.\w+)?$", "embedding_up"),
        (r"\.lora_E(?:\.\w+)?$", "lora_E"),
        (r"\.(hada_(?:w[12]_[ab]|t[12]))(?:\.\w+)??(?:\.weight)?$", r"\1"),
        (r"\.(lokr_(?:w[12](?:_[ab])?|t[12]))(?:\.\w+)??(?:\.weight)?$", r"\1"),
        (r"\.(?:diff|w_norm)$", "diff"),
        (r"\.(?:diff_b|b_norm)$", "diff_b"),
        (r"\.oft_blocks(?:\.(?P<part>\d+))?$", "oft_blocks"),
        (r"\.(oft_diag|rescale|on_input)$", r"\1"),
        (r"\.(oft_R|boft_R|boft_s|ia3_l)(?:\.\w+)??(?:\.weight)?$", r"\1"),
        (r"\.oft_r(?:\.\w+)?$", "oft_r"),
        (r"\.((?:a1|a2|b1|b2|bm))\.weight$", r"\1"),
        # Of modules that PEFT saves whole, and of LyCORIS' IA3. What was there before training is not needed.
        (r"\.original_module\.(?:weight|bias)$", "original"),
        (r"\.(?:base_layer\.|modules_to_save\.(?:\w+\.)?)?(weight|bias)$", r"\1"),
    )
)
_DECORATION = re.compile(r"\.processor(?=\.|$)")
_QUICK = {"lora_down.weight": "down", "lora_up.weight": "up", "lora_A.weight": "down", "lora_B.weight": "up"}


def split_name(name: str) -> tuple[str, str]:
    """A key as the layer's name and the role of the tensor in it; the role is empty for unknown keys."""
    layer, _, rest = name.rpartition(".")
    layer, _, last = layer.rpartition(".")
    role = _QUICK.get(f"{last}.{rest}", "")
    if role and layer:
        return _DECORATION.sub("", layer), role
    for ending, role in _ENDINGS:
        if match := ending.search(name):
            groups = match.groupdict()
            layer = _DECORATION.sub("", name[: match.start()]) + (groups.get("number") or "")
            part = groups.get("part")
            return (layer, match.expand(role) + ("" if part is None else f".{part}")) if layer else (name, "")
    return name, ""


def is_positional(layer: str) -> bool:
    """Whether a layer is named by its position, as cloneofsimo's files do: `unet:0`."""
    return _POSITION.fullmatch(layer) is not None


def position_of(layer: str) -> tuple[str, int]:
    """`unet` and 0 of `unet:0`."""
    component, _, index = layer.rpartition(":")
    return component, int(index)


_POSITION = re.compile(r"(?:unet|text_encoder|):\d{1,5}")
