"""Anomaly detection: scores of images against normal ones, their calibration, and drawn defects to compare detectors."""
