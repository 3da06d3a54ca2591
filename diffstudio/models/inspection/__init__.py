"""What goes on inside a network while it runs: attention to words, and features of blocks, without changing its output."""
