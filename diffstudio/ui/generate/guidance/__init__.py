"""Guidance besides the CFG scale in the Generate panel, and the diversity of a batch."""
