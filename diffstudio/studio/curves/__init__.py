"""Noise schedules, spacings and training distributions as NumPy arrays, for interactive plots. No torch."""
