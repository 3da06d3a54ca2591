"""What a weight file is, from the names and shapes of its tensors."""
