"""Attention: where the words of a prompt act in the image that a checkpoint makes of it."""
