"""Folders of images as an evaluation reads them, and what is said and refused about them."""
