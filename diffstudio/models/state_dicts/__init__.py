"""State-dict keys of every naming, and how they map to diffusers' keys."""
