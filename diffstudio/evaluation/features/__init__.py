"""Features of images: the networks that compute them, and arrays of them in files."""
