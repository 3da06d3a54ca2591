"""Where the words of a prompt act in an image: maps of attention, and what masking a word changes."""
