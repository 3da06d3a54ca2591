"""`diffstudio map`: training images, held-out images and samples laid out by their features."""
