"""Training: from a folder of images to a checkpoint."""
