"""Generation settings inside image files, of diffstudio and of other programs."""
