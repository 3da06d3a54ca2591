"""Guidance besides the CFG scale in the Generate panel, and how diverse a batch is."""
