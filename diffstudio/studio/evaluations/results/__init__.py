"""Shared by the results of all Lab verbs: reading stored results, and numbers as text."""
