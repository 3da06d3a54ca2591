"""Representations: the features of a denoiser by layer and noise level, what they are worth, and files of them."""
