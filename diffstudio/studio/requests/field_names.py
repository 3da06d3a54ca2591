"""What sentences call the fields of requests: the window's words, in lower case."""

from __future__ import annotations

FIELD_NAMES = {
    "prompt": "prompt",
    "negative": "negative prompt",
    "checkpoint": "checkpoint",
    "seed": "seed",
    "steps": "steps",
    "sampler": "sampler",
    "spacing": "scheduler",
    "guidance": "CFG scale",
    "guide_last_call": "guidance of the last step",
    "guidance_interval": "guidance interval",
    "autoguidance": "checkpoint for autoguidance",
    "autoguidance_scale": "autoguidance scale",
    "cads": "CADS noise",
    "cads_tau1": "CADS tau 1",
    "cads_tau2": "CADS tau 2",
    "cads_mixing": "CADS mixing",
    "truncation": "truncation",
    "width": "width",
    "height": "height",
    "count": "images",
    "vae": "VAE",
    "clip_skip": "clip skip",
    "times": "times of the steps",
    "curve": "noise schedule",
    # img2img, inpainting, outpainting
    "init": "init image",
    "strength": "denoising strength",
    "resize": "resize mode",
    "mask": "mask",
    "fill": "masked content",
    "feather": "mask blur",
    "masked_only": "only masked",
    "padding": "only-masked padding",
    "outpaint": "outpainting",
    # hires fix, Upscale
    "enlarge": "hires fix scale",
    "upscaler": "upscaler",
    "enlarge_strength": "hires denoising strength",
    "enlarge_steps": "hires steps",
    "enlarge_guidance": "hires CFG scale",
    "tiled": "tiled",
    "source": "source image",
    "scale": "scale",
    # ControlNets
    "controls": "ControlNets",
    "network": "ControlNet",
    "image": "control image",
    "prepare": "preprocessor",
    "begins": "start of the ControlNet",
    "ends": "end of the ControlNet",
    "low": "lower Canny threshold",
    "high": "upper Canny threshold",
    "control_type": "control type",
    # training runs
    "folder": "folder",
    "recipe": "recipe",
    "run": "run",
    "minutes": "minutes",
    "resume": "resumed run",
    "start_from": "checkpoint to start from",
    "processes": "processes",
    "machines": "machines",
    "port": "port",
}


def names_of(*fields: str) -> dict[str, str]:
    """These fields with their names, in this order."""
    return {field: FIELD_NAMES[field] for field in fields}


def value_phrase(field: str, value: str) -> str:
    """`the clip skip 99`, in a list of values that cannot be used."""
    return f"the {FIELD_NAMES[field]} {value}"
