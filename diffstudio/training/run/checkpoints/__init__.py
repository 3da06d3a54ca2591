"""The checkpoints of a run: written while it trains, and compared by their images when it ends."""
