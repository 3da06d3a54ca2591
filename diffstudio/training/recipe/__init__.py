"""The recipe of a training run: its sections, one module each, and their limits."""
