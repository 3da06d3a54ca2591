"""What networks are trained to predict, and at which noise levels."""
