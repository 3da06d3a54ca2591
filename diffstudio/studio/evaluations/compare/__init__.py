"""Comparison: models trained on one folder for the same time, and judged side by side."""
