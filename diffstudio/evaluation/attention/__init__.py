"""Attention maps of the words of a prompt, and the deletion test, which masks a word."""
