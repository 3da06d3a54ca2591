"""Settings that other programs wrote into images, one module for each program or format."""
