"""The Train room: a folder of pictures in, a checkpoint out, and what happens on the way."""
