"""The models on disk: found in the model folders, recorded, cached and looked up by name."""
