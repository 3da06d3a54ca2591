"""Detect what a weights file is, from the names and shapes of its tensors."""
