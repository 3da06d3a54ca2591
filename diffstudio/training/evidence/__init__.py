"""What a verdict on a run is based on: losses, copies and diversity."""
