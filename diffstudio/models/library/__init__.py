"""The model folders as one list, and what is remembered about each file."""
