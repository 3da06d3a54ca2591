"""What a page shows of a finished job, from its parts: tables, plots, grids and pairs of images, and how they are saved."""
