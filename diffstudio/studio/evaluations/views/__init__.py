"""Results of the Lab for the window: tables, plots and pairs of images, read from untrusted JSON. No torch."""
