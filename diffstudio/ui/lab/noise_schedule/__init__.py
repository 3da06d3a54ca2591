"""The page Noise schedule: the editor of a curve with its points, and what stands around it."""
