"""Representations: the features of a denoiser by layer and noise level, probed and exported."""
