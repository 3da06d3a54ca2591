"""Features of images, and measures on them: how good, how diverse and how original generated images are."""
