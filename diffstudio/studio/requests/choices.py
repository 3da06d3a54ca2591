"""What the settings of a request are chosen from, by the names that are stored."""

from __future__ import annotations

from enum import StrEnum

LANCZOS, LATENT = "lanczos", "latent"  # upscalers without a file; LATENT enlarges the latents before they are decoded


class SamplerName(StrEnum):
    """The samplers by the names in `diffusion.samplers.SAMPLERS` (a test holds the two equal)."""

    EULER = "euler"
    HEUN = "heun"
    DDIM = "ddim"
    DDPM = "ddpm"
    EULER_ANCESTRAL = "euler_ancestral"
    DPMPP_2M = "dpmpp_2m"
    DPMPP_2M_SDE = "dpmpp_2m_sde"
    UNIPC = "unipc"
    LCM = "lcm"


class SpacingName(StrEnum):
    """How the timesteps are spaced between noise and image: names of `diffusion.spacing.SPACINGS`, and those whose times
    a request carries.
    """

    UNIFORM = "uniform"
    TRAILING = "trailing"
    LEADING = "leading"
    KARRAS = "karras"
    EXPONENTIAL = "exponential"
    LOG_SNR = "log_snr"
    ALIGN_YOUR_STEPS = "align_your_steps"
    FITTED = "fitted"  # to the checkpoint, see `studio.fitted_spacing`
    CUSTOM = "custom"  # the steps of a drawn noise schedule, which is in the request


CARRIED = frozenset({SpacingName.FITTED})  # the spacings whose times are in the request


class ResizeName(StrEnum):
    """How the initial image is brought to the size of the request (A1111's resize mode)."""

    CROP = "crop"  # scaled to cover that size, then cropped
    PAD = "pad"  # scaled to fit inside it, on white
    STRETCH = "stretch"


class FillName(StrEnum):
    """What fills the masked area before noise is added (A1111's masked content)."""

    ORIGINAL = "original"  # the image itself
    SURROUNDINGS = "surroundings"  # the colours around it
    NOISE = "noise"
    NOTHING = "nothing"  # grey


class PreprocessorName(StrEnum):
    """How an image is preprocessed for a ControlNet."""

    AS_GIVEN = "as_given"  # not at all: it is already a depth map, or edges or a scribble, white on black
    CANNY = "canny"  # edges
    SCRIBBLE = "scribble"  # dark lines on white become white lines on black
    INVERT = "invert"  # dark becomes light and light dark
