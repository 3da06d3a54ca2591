"""What a verdict on a run is based on: losses of a Gaussian model, copies and diversity."""
