"""What a run is prepared with: starting weights, data types, its stored dataset, room on the disk."""
