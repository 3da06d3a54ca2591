"""The evidence for the verdict on a run: losses, copies and diversity."""
