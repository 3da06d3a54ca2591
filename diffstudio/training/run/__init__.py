"""A training run on disk: setup, run folder, checkpoints, sample sheets, monitoring."""
