"""The fitted steps of a checkpoint, and how they are stored. No torch."""
