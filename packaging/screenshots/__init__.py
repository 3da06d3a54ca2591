"""The screenshots of the manual: one module for each room, and what they share."""
