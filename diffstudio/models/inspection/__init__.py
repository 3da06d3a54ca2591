"""Inspection of a running network without changing its output: attention to words, and features of blocks."""
