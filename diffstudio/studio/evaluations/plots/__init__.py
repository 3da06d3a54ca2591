"""Plots without a window: SVG, PNG, and the data as CSV."""
