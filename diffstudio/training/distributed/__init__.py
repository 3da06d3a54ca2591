"""Distributed training on several processes and machines: one process leads the run, the others follow its orders."""
