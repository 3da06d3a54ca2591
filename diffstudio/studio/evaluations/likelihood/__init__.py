"""Likelihood: bits per dimension of the images of a folder under a checkpoint."""
