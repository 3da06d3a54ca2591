"""Training runs as the window sees them: processes, status, history."""
