"""Plots without a window: drawn as SVG and as PNG, with their numbers as CSV."""
