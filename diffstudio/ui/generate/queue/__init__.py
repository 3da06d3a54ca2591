"""The queue in the Generate room: its list of jobs, and the dialog that shows what a waiting job makes."""
