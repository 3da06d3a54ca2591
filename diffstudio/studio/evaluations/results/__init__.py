"""What the results of all verbs of the Lab have in common: reading them back, and figures as text."""
