"""Noise schedules, spacings and training distributions as NumPy arrays, for what follows the mouse. No torch."""
