"""The pixel transformer that is trained here, its caption tokenizer, and the map of its state-dict keys."""
