"""The names of generation settings as every room labels them: the terms that A1111, ComfyUI and InvokeAI use."""

from __future__ import annotations

AUTOGUIDANCE = "Autoguidance"
CADS = "CADS noise"
CFG_SCALE = "CFG scale"
CHECKPOINT = "Checkpoint"
CLIP_SKIP = "Clip skip"
CONTROLNET = "ControlNet"
DENOISING_STRENGTH = "Denoising strength"
GUIDE_LAST_STEP = "Guide last step"
GUIDANCE = "Guidance"
GUIDANCE_INTERVAL = "Guidance interval"
HIRES_FIX = "Hires fix"
INIT_IMAGE = "Init image"  # what img2img starts from
LORA = "LoRA"
MASK = "Mask"
NEGATIVE_PROMPT = "Negative prompt"
OUTPAINT = "Outpaint"
PROMPT = "Prompt"
SAMPLER = "Sampler"
SCHEDULER = "Scheduler"  # `SpacingName`: how the noise levels of the steps are spaced
SEED = "Seed"
SIZE = "Size"
STEPS = "Steps"
TRUNCATION = "Truncation"  # psi of a GAN, temperature of a VAE
UPSCALER = "Upscaler"
VAE = "VAE"
