"""Connections between rooms, worker, gallery and dialogs: what `app.Desktop` is put together from."""
