"""Tools that write weight files: convert, merge, fuse LoRA, prune, export."""
