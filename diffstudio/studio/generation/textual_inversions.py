"""Textual inversions of a request: whose names stand in its prompts, found in the library and shown to its model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from diffstudio.errors import DiffstudioError
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.library.library import Library

if TYPE_CHECKING:
    from diffstudio.models.conditioning.textual_inversion import TextualInversion
    from diffstudio.models.model import Model

_HASH_DIGITS = 12  # how AUTOMATIC1111 writes a textual inversion's, into `TI hashes`


class RequestTextualInversions:
    """For one request and one thread. Files are read when a prompt first names them, and once."""

    def __init__(self, library: Library | None) -> None:
        self._library = library
        self._read: dict[str, TextualInversion | str] = {}  # or why it cannot be read
        self._shown: tuple[str, ...] = ()
        self._said: set[str] = set()

    @cached_property
    def _files(self) -> dict[str, Checkpoint]:
        library = self._library
        found = [one for one in library.scan() if one.role is Role.EMBEDDING] if library is not None else []
        return {one.name: one for one in found}

    @cached_property
    def _unreadable(self) -> dict[str, DiffstudioError]:
        """What that scan found where embeddings lie and could not open, with why."""
        problems = self._library.problems if self._library is not None else []
        return {path.stem: error for path, error in problems if "embeddings" in map(str.lower, path.parts[:-1])}

    def show(self, model: Model, texts: Sequence[str]) -> tuple[str, ...]:
        """Have the model know exactly the words that these texts use; a sentence for each that it cannot, once in a request."""
        embeddings: Any = getattr(model, "embeddings", None)
        if embeddings is None:
            return ()
        from diffstudio.models.conditioning.textual_inversion import names_in_prompt

        wanted = [self._known(name) for name in names_in_prompt("\n".join(texts), [*self._files, *self._unreadable])]
        notes = [one for one in wanted if isinstance(one, str)]
        notes += embeddings.use([one for one in wanted if not isinstance(one, str)])
        self._shown = embeddings.known
        fresh = tuple(note for note in notes if note not in self._said)
        self._said.update(fresh)
        return fresh

    def about(self) -> dict[str, Any]:
        """What a picture's record says of them: `embeddings`, each with name and hash; nothing where there are none."""
        told = [{"name": name, "hash": sha256_of(self._files[name].path)[:_HASH_DIGITS]} for name in self._shown]
        return {"embeddings": told} if told else {}

    def _known(self, name: str) -> TextualInversion | str:
        """Its words must not stop a picture whose prompt happens to hold them: what is damaged is said, and stays a word."""
        if name not in self._read:
            from diffstudio.models.conditioning.textual_inversion import read_textual_inversion

            try:
                if name not in self._files:
                    raise self._unreadable[name]
                self._read[name] = read_textual_inversion(self._files[name].path, name)
            except DiffstudioError as error:
                self._read[name] = f"The embedding {name} is read as plain text. {error}"
        return self._read[name]
