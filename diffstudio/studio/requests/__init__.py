"""Requests for images and training runs: frozen records shared by the window, the command line, the queue and PNG metadata.

A request is changed with `dataclasses.replace`, never in place. Creating one checks everything that can be checked
without opening a checkpoint; what depends on the checkpoint (its sizes) is checked when the job starts.
"""
