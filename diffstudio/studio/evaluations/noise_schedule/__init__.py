"""What the page Noise schedule asks for: losses of a run by noise level, and an image drawn with a schedule."""
