"""Restoration with a denoiser: degradations of an image, how noisy it is, and the images that fit it."""
