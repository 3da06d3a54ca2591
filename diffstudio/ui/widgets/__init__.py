"""Controls that all rooms share, the theme and the icons."""
