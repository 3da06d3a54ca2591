"""Training data: from a folder of images to batches."""
