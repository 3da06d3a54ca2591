"""What features are worth: how well a linear classifier or the nearest neighbours tell classes apart by them."""
