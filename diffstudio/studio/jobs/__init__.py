"""The job queue, job control, and what is recorded of a running job."""
