"""Images from anywhere, read without trusting them. No torch."""
