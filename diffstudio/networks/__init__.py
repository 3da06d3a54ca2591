"""The pixel transformer and the U-Net that are trained here, their caption tokenizer, and the map of state-dict keys."""
