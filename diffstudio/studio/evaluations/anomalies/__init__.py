"""Anomalies: which images of a folder are not like normal ones, how sure that is, and where they differ."""
