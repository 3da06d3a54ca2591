"""Files of weights that are dropped on the window: brought into the models, and put to the use that each is made for."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio.models.checkpoint import Checkpoint, Role
from diffstudio.ui.shell.model_library import ModelLibrary


class DroppedModels(QObject):
    """What the Models room brings in by itself is none of its business."""

    prompted = Signal(object)  # Checkpoint: a LoRA or a textual inversion, for the prompt
    drawing = Signal(object)  # Checkpoint: to make pictures with
    said = Signal(str, str)  # a tone and a sentence for the window; an empty one takes the last away

    def __init__(self, shelf: ModelLibrary) -> None:
        super().__init__()
        self._shelf = shelf
        self._names: set[str] = set()  # of what is on its way
        self._came: Path | None = None
        shelf.brought.connect(self._brought)
        shelf.bringing.connect(self._bringing)

    def bring(self, path: Path) -> None:
        self._names.add(path.name)
        self._shelf.bring([path])

    def _brought(self, path: Path) -> None:
        self._came = path

    def _bringing(self, name: str, fraction: float | None) -> None:
        if name not in self._names:
            self._came = None
        elif fraction is not None:
            self.said.emit("info", f"Bringing {name} into your models: {fraction:.0%}.")
        else:
            self._names.remove(name)
            came, self._came = self._came, None
            model = (
                next((one for one in self._shelf.checkpoints if one.path == came), None) if came is not None else None
            )
            if model is not None:
                self._use(model)

    def _use(self, model: Checkpoint) -> None:
        self.said.emit("good", f"{model.path.name} lies in {model.path.parent} now.")
        if model.role in (Role.LORA, Role.EMBEDDING):
            self.prompted.emit(model)
        elif model.can_generate:
            self.drawing.emit(model)
