"""Verbs of the Lab's section Understand, and others that came after the first ones."""
