"""The sections of the Generate panel, top to bottom."""
