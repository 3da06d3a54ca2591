"""The Models room: the checkpoints in the folders, what each is, and a way to make pictures with it."""
