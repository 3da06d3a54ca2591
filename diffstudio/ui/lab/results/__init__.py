"""Widgets for the results of finished jobs: tables, plots, grids and pairs of images, and saving them."""
