"""Model files dropped on the window: imported into the model folder, then chosen in the Generate room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.ui.shell.model_library import ModelLibrary


class DroppedModels(QObject):
    """Follows the imports that started here; those of the Models room are its own."""

    prompt_model_imported = Signal(object)  # Checkpoint: a LoRA or an embedding, for the prompt
    checkpoint_imported = Signal(object)  # Checkpoint: to generate with
    message = Signal(str, str)  # kind and text of a banner in the window

    def __init__(self, model_library: ModelLibrary) -> None:
        super().__init__()
        self._model_library = model_library
        self._names: set[str] = set()  # of the files being imported
        self._imported: Path | None = None
        model_library.imported.connect(self._file_imported)
        model_library.import_progress.connect(self._progressed)

    def import_files(self, paths: Sequence[Path]) -> None:
        self._names |= {path.name for path in paths}
        self._model_library.import_files(paths)

    def _file_imported(self, path: Path) -> None:
        self._imported = path

    def _progressed(self, name: str, fraction: float | None) -> None:
        if name not in self._names:
            self._imported = None
        elif fraction is not None:
            self.message.emit("info", f"Importing {name}: {fraction:.0%}.")
        else:
            self._names.discard(name)  # two files of one name come from different folders
            imported, self._imported = self._imported, None
            model = (
                next((one for one in self._model_library.checkpoints if one.path == imported), None)
                if imported is not None
                else None
            )
            if model is not None:
                self._use(model)
            elif imported is not None:  # a tokenizer, which is not listed
                self.message.emit("good", f"{imported.name} was added to {imported.parent}.")

    def _use(self, model: Checkpoint) -> None:
        self.message.emit("good", f"{model.path.name} was added to {model.path.parent}.")
        if model.role in (Role.LORA, Role.EMBEDDING):
            self.prompt_model_imported.emit(model)
        elif model.can_generate:
            self.checkpoint_imported.emit(model)
