"""Captions of training images: read from files and tables, and dropped out in training."""
