"""The result of the page Image map: points that are zoomed, hovered, chosen and compared."""
