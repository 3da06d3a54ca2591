"""The verbs of the Lab, one module each."""
