"""Synthetic data: labelled images generated into a folder, and a test of whether they help a classifier."""
