"""Fits the times of few steps to a checkpoint: `diffstudio models fit-steps`, and a button in the Models room."""
