"""Features of images laid out in two dimensions, and how far neighbours are to be trusted there."""
