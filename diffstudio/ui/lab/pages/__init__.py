"""The pages of the Lab, one module each."""
