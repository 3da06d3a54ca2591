"""From a folder of pictures to a checkpoint."""
