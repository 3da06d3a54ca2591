"""The networks that are trained here, their tokenizer, and the map of their state-dict keys."""
