"""The fitted steps of a checkpoint: as records, and where they are kept. No torch."""
