"""How images are read, shown, dragged, dropped, pasted and acted on, in every room."""
