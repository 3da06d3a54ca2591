"""Weight files of every format, read without trusting them."""
