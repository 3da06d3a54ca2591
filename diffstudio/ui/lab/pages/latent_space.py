"""The page Latent space: sliders of a VAE's directions, interpolation, and reconstruction of any image."""

from __future__ import annotations

from diffstudio.ui.lab.latents.view import SHOWS, TITLE, LatentSpaceView
from diffstudio.ui.lab.page import InteractivePage

PAGE = InteractivePage("latent-space", TITLE, "cube", SHOWS, LatentSpaceView)
