"""Anomalies: scores of images against normal ones, their calibration, and defects drawn to compare detectors."""
