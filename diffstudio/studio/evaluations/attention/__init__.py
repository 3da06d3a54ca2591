"""Attention maps: where the words of a prompt act in the generated image."""
