"""Comparison of models that are trained on one folder for the same time."""
