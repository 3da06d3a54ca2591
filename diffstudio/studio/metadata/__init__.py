"""Generation settings inside image files, ours and those of other programs."""
