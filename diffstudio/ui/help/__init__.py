"""Help: the manual, the list of keyboard shortcuts, and what the program is made of."""
