"""Model families, supported or not, by the names that trainers write into metadata. No torch is imported here."""

from __future__ import annotations

import re
from typing import NamedTuple

from diffstudio.models.detection.families_table import FAMILIES, UNKNOWN

U_NETS = ("sd1", "sd2", "sdxl", "sdxl_refiner")


class Architecture(NamedTuple):
    """`family` is a key of FAMILIES, or `unknown` for a model that is not supported."""

    family: str
    title: str
    u_net: bool


# Patterns for text without anything but letters and digits, the most specific first: sd-scripts, musubi-tuner,
# OneTrainer and ai-toolkit write `flux2dev`, `stablediffusionxlv1baselora`, `hunyuanvideo`, `networkslorawan`, …
_PATTERNS = tuple(
    (re.compile(pattern), family, title)
    for pattern, family, title in (
        (r"flux2|klein", "", "FLUX.2"),
        (r"flux3", "", "FLUX.3"),
        (r"chroma(?!tic)", "", "Chroma"),
        (r"hunyuanvideo|framepack", "", "HunyuanVideo"),
        (r"hunyuanimage", "", "HunyuanImage"),
        (r"hunyuandit", "", "Hunyuan-DiT"),
        (r"kolors", "", "Kolors"),
        (r"newbie", "", "NewBie"),
        (r"lumina", "", "Lumina 2"),
        (r"ltx", "", "LTX-Video"),
        (r"anima(?!gine|te|tion|l)", "", "Anima"),
        (r"cosmos", "", "Cosmos"),
        (r"wan(?:2|video|x|t2v|i2v|$)", "", "Wan"),
        (r"auraflow|ponyv7", "", "AuraFlow"),
        (r"pixart", "", "PixArt"),
        (r"sana(?:\d|video|sprint|$)", "", "Sana"),
        (r"hidream", "", "HiDream"),
        (r"omnigen", "", "OmniGen"),
        (r"cogview|cogvideo", "", "CogView"),
        (r"kandinsky", "", "Kandinsky"),
        (r"stablecascade|wuerstchen", "", "Stable Cascade"),
        (r"stablevideodiffusion|^svd", "", "Stable Video Diffusion"),
        (r"animatediff", "", "AnimateDiff"),
        (r"mochi", "", "Mochi"),
        (r"krea2", "", "Krea 2"),
        (r"longcat", "", "LongCat-Image"),
        (r"ovisimage", "", "Ovis-Image"),
        (r"ernieimage", "", "ERNIE-Image"),
        (r"nucleus", "", "Nucleus-Image"),
        (r"flex[12]|flex$", "", "Flex"),
        (r"qwenimagelayered", "", "Qwen-Image-Layered"),
        (r"qwenimage(?:2[01]|2$)", "", "Qwen-Image 2"),
        (r"qwenimage", "qwen_image", ""),
        (r"zimage", "z_image", ""),
        (r"flux", "flux", ""),
        (r"diffusionv?3|sd3", "sd3", ""),
        (r"refiner", "sdxl_refiner", ""),
        (r"xl|illustrious|noobai", "sdxl", ""),
        (r"diffusionv?2|sdv?2", "sd2", ""),
        (r"diffusionv?1|sdv?1", "sd1", ""),
    )
)
_UNSUPPORTED_U_NETS = ("Kolors", "Stable Video Diffusion", "AnimateDiff")


def architecture(family: str, title: str = "") -> Architecture:
    """A supported family, or with an empty `family` a model that is not supported."""
    if family in FAMILIES:
        return Architecture(family, FAMILIES[family].title, family in U_NETS)
    return Architecture(UNKNOWN, title, title in _UNSUPPORTED_U_NETS)


def architecture_from_text(text: str) -> Architecture | None:
    """The model that a text such as `sdxl_base_v1-0`, `Flux.2-dev` or `networks.lora_wan` names; None if it names none."""
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    for pattern, family, title in _PATTERNS:
        if pattern.search(plain):
            return architecture(family, title)
    return None


def family_from_text(text: str) -> str:
    """The supported family that a text names; or `unknown`."""
    found = architecture_from_text(text)
    return found.family if found is not None else UNKNOWN
