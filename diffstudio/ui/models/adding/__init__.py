"""Adding models: files, folders, and downloads from links."""
