"""Results of the Lab as the window shows them: tables, plots and pairs of images, read without trust from JSON. No torch."""
