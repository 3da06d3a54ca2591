"""The textual inversions (embeddings) of a request: those that its prompts name are registered with its model.

No torch is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diffstudio.errors import DiffstudioError, listed
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.conditioning.prompt_features import PromptFeature
from diffstudio.models.detection.types import Role
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.library.library import Library

if TYPE_CHECKING:
    from diffstudio.models.conditioning.textual_inversion import TextualInversion
    from diffstudio.models.model import Model

_FOLDER = "embeddings"
_HASH_DIGITS = 12  # of the hash that AUTOMATIC1111 writes as `TI hashes`


def textual_inversion_files(library: Library) -> dict[str, Checkpoint | DiffstudioError]:
    """All textual inversions of the library by name; the error for an unreadable file in an embeddings folder."""
    files = {model.name: model for model in library.scan() if model.role is Role.EMBEDDING}
    unreadable = {path.stem: error for path, error in library.problems if _FOLDER in map(str.lower, path.parts[:-1])}
    return {**unreadable, **files}


class RequestTextualInversions:
    """The textual inversions of one request, from `files` by name; each is read once, when a prompt first names it.

    Not thread-safe.
    """

    def __init__(self, files: Mapping[str, Checkpoint | DiffstudioError]) -> None:
        self._files = files
        self._read: dict[str, TextualInversion | str] = {}  # or a sentence why it cannot be read
        self._used: tuple[str, ...] = ()
        self._noted: set[str] = set()

    def attach(self, model: Model, prompts: Sequence[str]) -> tuple[str, ...]:
        """Register exactly those that these prompts name; returns a sentence for each that fails, once a request."""
        from diffstudio.models.conditioning.textual_inversion import names_in_prompt, unknown_names

        text, names = "\n".join(prompts), list(self._files)
        if model.textual_inversions is None:
            unsupported = PromptFeature.TEXT in model.prompt_features and unknown_names(text, ())
            return self._new(
                [f"This checkpoint does not support embeddings: {_as_text(unsupported)}"] if unsupported else []
            )
        named = [self._load(name) for name in names_in_prompt(text, names)]
        notes = [one for one in named if isinstance(one, str)]
        if unknown := unknown_names(text, names):
            notes.append(f"There is no such embedding: {_as_text(unknown)}")
        notes += model.textual_inversions.use([one for one in named if not isinstance(one, str)])
        self._used = model.textual_inversions.known
        return self._new(notes)

    def attach_to_weaker(self, model: Model, prompts: Sequence[str]) -> tuple[str, ...]:
        """Like `attach`, for the weaker model of autoguidance, with the same prompts; returns notes on that model only."""
        used = self._used  # of the metadata
        notes = self.attach(model, prompts)
        self._used = used
        return tuple(f"The weaker model of autoguidance: {note}" for note in notes)

    def _new(self, notes: Sequence[str]) -> tuple[str, ...]:
        """Those that were not returned before."""
        new = tuple(note for note in notes if note not in self._noted)
        self._noted.update(new)
        return new

    def metadata(self) -> dict[str, Any]:
        """`embeddings` for the image's metadata, each with name and hash; empty without any."""
        used = [(name, file) for name in self._used if isinstance(file := self._files[name], Checkpoint)]
        embeddings = [{"name": name, "hash": sha256_of(file.path)[:_HASH_DIGITS]} for name, file in used]
        return {"embeddings": embeddings} if embeddings else {}

    def _load(self, name: str) -> TextualInversion | str:
        """A file that cannot be read does not stop the job, because the prompt may mean the plain word."""
        if name not in self._read:
            from diffstudio.models.conditioning.textual_inversion import read_textual_inversion

            try:
                file = self._files[name]
                if isinstance(file, DiffstudioError):
                    raise file
                self._read[name] = read_textual_inversion(file.path, name, file.header)
            except DiffstudioError as error:
                self._read[name] = f"The embedding {name} is read as plain text. {error}"
        return self._read[name]


def _as_text(names: Sequence[str]) -> str:
    shown = listed(names, 3, lambda name: f"embedding:{name[:60]}")
    return f"{shown} {'is' if len(names) == 1 else 'are'} read as plain text."
