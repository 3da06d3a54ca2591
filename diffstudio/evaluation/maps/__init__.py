"""Two-dimensional maps of image features, and their trustworthiness."""
