"""Evaluation: checkpoints and folders of generated images measured against a folder of real images."""
