"""The user's side of the model library: notes and tags, imports, weight tools."""
