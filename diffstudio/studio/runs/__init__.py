"""Training runs: their processes, status and history."""
