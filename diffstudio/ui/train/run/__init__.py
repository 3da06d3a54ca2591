"""One training run in the Train room: its progress, charts, samples, verdict and settings."""
