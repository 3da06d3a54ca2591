"""The gallery: image files and the database of their settings."""
