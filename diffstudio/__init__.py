"""diffstudio: make images on your own machine with diffusion models, train them, and see how they work."""

__version__ = "0.2.0.dev0"
