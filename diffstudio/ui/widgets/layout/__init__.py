"""Layouts that Qt does not have: columns that can be dragged, and rows that wrap."""
