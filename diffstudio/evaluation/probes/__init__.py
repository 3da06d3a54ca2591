"""Probes of features: the accuracy of a linear classifier and of nearest neighbours on them."""
