"""The controls every room is built from, the theme, and the icons."""
