"""From a request to images on disk."""
