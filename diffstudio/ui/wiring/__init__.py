"""Controllers that connect the rooms with the worker, the gallery and the dialogs. `app.Desktop` creates them."""
