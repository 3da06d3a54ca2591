"""Likelihood: how many bits a checkpoint needs for each value of the images of a folder."""
