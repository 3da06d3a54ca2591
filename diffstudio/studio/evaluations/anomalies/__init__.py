"""Anomaly detection: anomalous images of a folder, with p-values and heat maps."""
