"""Reverse: the reverse process of one image as a film of its state, estimate, noise and score."""
