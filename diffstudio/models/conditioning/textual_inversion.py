"""Textual inversion embeddings: learned vectors in place of token embeddings (Gal et al. 2022, arXiv 2208.01618).

While a prompt is encoded, the tokenizer maps each embedding's name to negative ids, and the encoder's embedding table
returns the vectors for them; afterwards both are unchanged. Negative ids, because CLIP finds the end of a prompt at its
largest id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown
from diffstudio.models.conditioning.prompt_weighting import CHUNK_TOKENS, ClipTokenizer
from diffstudio.models.files.file_access import EARLIER_OR_DOWNLOAD, nonfinite
from diffstudio.models.files.header import Header
from diffstudio.models.files.weights_reader import load_weights

MOST_VECTORS = 512  # of one embedding


@dataclass(frozen=True, slots=True)
class TextualInversion:
    """A named embedding: its vectors for each text encoder, by the encoder's width."""

    name: str
    vectors: Mapping[int, Tensor]  # D -> [n,D], float32 on the CPU; n is the same for all

    @property
    def length(self) -> int:
        """The number of tokens it takes."""
        return len(next(iter(self.vectors.values())))


def read_textual_inversion(path: Path, name: str = "", header: Header | None = None) -> TextualInversion:
    """Read an embedding in the format of A1111, kohya, OneTrainer or diffusers.

    Its tensors are called `emb_params`, `clip_l` and `clip_g`, or anything where there is only one. `header` is the
    file's, if it was read already.

    CheckpointMissing, CheckpointDamaged, CheckpointDangerous; CheckpointUnknown for other files.
    """
    found = [
        value
        for value in load_weights(path, header).values()
        if value.is_floating_point() and value.ndim in (1, 2) and value.numel()
    ]
    vectors: dict[int, Tensor] = {}
    for value in found:
        rows = value.to(torch.float32, copy=True).reshape(-1, value.shape[-1])
        vectors.setdefault(rows.shape[1], rows)
    lengths = {len(rows) for rows in vectors.values()}
    if not vectors or len(found) != len(vectors) or len(lengths) != 1 or max(lengths) > MOST_VECTORS:
        raise CheckpointUnknown(
            f"{path.name} is not a textual inversion embedding",
            "it does not contain the vectors of one embedding",
            "Choose another file",
        )
    if not all(bool(torch.isfinite(rows).all()) for rows in vectors.values()):
        raise CheckpointDamaged(nonfinite(path.name), remedy=EARLIER_OR_DOWNLOAD)
    return TextualInversion(name or path.stem, vectors)


def names_in_prompt(text: str, names: Sequence[str]) -> list[str]:
    """The names that occur in a text as separate words, ignoring case.

    After ComfyUI's `embedding:`, a name may also have a folder and a file suffix: `embedding:faces/ann.safetensors`.
    """
    pattern = _pattern(names)
    by_folded = {name.casefold(): name for name in names}
    return (
        list(dict.fromkeys(by_folded[match["name"].casefold()] for match in pattern.finditer(text))) if pattern else []
    )


def unknown_names(text: str, names: Sequence[str]) -> list[str]:
    """The names after `embedding:` in a text that are not among these."""
    pattern = _pattern(names)
    rest = text if pattern is None else pattern.sub(" ", text)
    return list(dict.fromkeys(re.findall(r"\bembedding:([^\s,:|()\[\]<>]+)", rest, re.IGNORECASE)))


def _pattern(names: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern of all names; the longest first, so that `bad-hands` does not match in `bad-hands-5`. None without any."""
    if not names:
        return None
    ordered = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(
        rf"(?P<prefix>\bembedding:(?:[^\s,:|()\[\]<>/\\]+[/\\]+)*)?(?<![\w-])(?P<name>{ordered})"
        r"(?(prefix)(?:\.(?:safetensors|pt|bin|ckpt))?)(?![\w-])",
        re.IGNORECASE,
    )


class TextualInversions:
    """The embeddings that are active in the CLIP text encoders of one model."""

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        self._encoders = encoders
        self._known: tuple[TextualInversion, ...] = ()

    def use(self, embeddings: Sequence[TextualInversion]) -> tuple[str, ...]:
        """Activate exactly these embeddings.

        Returns a sentence for each that does not fit the encoders and is read as plain text.
        """
        widths = [_table(encoder).embedding_dim for encoder in self._encoders.values()]
        problems = [(one, _problem(one, widths)) for one in embeddings]
        self._known = tuple(one for one, problem in problems if not problem)
        return tuple(
            f"The embedding {one.name} does not fit this checkpoint and is read as plain text: {problem}."
            for one, problem in problems
            if problem
        )

    @property
    def known(self) -> tuple[str, ...]:
        return tuple(one.name for one in self._known)

    @property
    def lengths(self) -> Mapping[int, int]:
        """The number of tokens of each active embedding, by the first of its ids in `tokenizer`."""
        return {ids[0]: len(ids) for ids in _ids(self._known).values()}

    def tokenizer(self, tokenizer: ClipTokenizer) -> ClipTokenizer:
        """The tokenizer, extended by the names of the active embeddings."""
        return _TokenizerWithEmbeddings(tokenizer, self._known) if self._known else tokenizer

    @contextmanager
    def injected_into(self, encoder: nn.Module) -> Iterator[None]:
        """Within the block, the encoder accepts the negative ids that `tokenizer` returns."""
        if not self._known:
            yield
            return
        table = _table(encoder)
        vectors = torch.cat([one.vectors[table.embedding_dim] for one in self._known]).to(table.weight)  # [N,D]

        def remove_negative_ids(table: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            pending_ids.append(args[0])
            return (args[0].clamp_min(0), *args[1:])

        def insert_vectors(table: nn.Module, args: tuple[Tensor, ...], embeddings: Tensor) -> Tensor:
            ids = pending_ids.pop()
            return torch.where((ids < 0)[..., None], vectors[(-1 - ids).clamp_min(0)], embeddings)

        pending_ids: list[Tensor] = []
        hooks = [table.register_forward_pre_hook(remove_negative_ids), table.register_forward_hook(insert_vectors)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@dataclass(frozen=True, slots=True)
class _TokenIds:
    input_ids: Sequence[int]


class _TokenizerWithEmbeddings:
    """A tokenizer that maps the names of embeddings to negative ids."""

    def __init__(self, tokenizer: ClipTokenizer, known: Sequence[TextualInversion]) -> None:
        self._tokenizer = tokenizer
        self.bos_token_id, self.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.pad_token_id = tokenizer.pad_token_id
        self._pattern = _pattern([one.name for one in known])
        self._ids = _ids(known)

    def __call__(self, text: str, *, add_special_tokens: bool, verbose: bool) -> _TokenIds:
        assert self._pattern is not None
        ids: list[int] = []
        reached = 0
        for match in self._pattern.finditer(text):
            ids += self._plain(text[reached : match.start()], add_special_tokens, verbose)
            ids += self._ids[match["name"].casefold()]
            reached = match.end()
        return _TokenIds(ids + self._plain(text[reached:], add_special_tokens, verbose))

    def _plain(self, text: str, add_special_tokens: bool, verbose: bool) -> list[int]:
        if not text.strip():
            return []
        return list(self._tokenizer(text, add_special_tokens=add_special_tokens, verbose=verbose).input_ids)


def _ids(embeddings: Sequence[TextualInversion]) -> dict[str, list[int]]:
    """Negative ids for the vectors of each embedding, by its name in lower case."""
    ids: dict[str, list[int]] = {}
    below = 0
    for one in embeddings:
        ids[one.name.casefold()] = list(range(below - 1, below - 1 - one.length, -1))
        below -= one.length
    return ids


def _problem(embedding: TextualInversion, widths: Sequence[int]) -> str:
    """Why text encoders of these widths cannot use it; empty if they can."""
    if not all(width in embedding.vectors for width in widths):
        return (
            f"its vectors have {_numbers(embedding.vectors)} dimensions, but the text encoders use {_numbers(widths)}"
        )
    if embedding.length > CHUNK_TOKENS:
        return f"it takes {embedding.length} tokens, and the text encoders read {CHUNK_TOKENS} at a time"
    return ""


def _table(encoder: Any) -> nn.Embedding:
    table: nn.Embedding = encoder.get_input_embeddings()
    return table


def _numbers(widths: Iterable[int]) -> str:
    return " and ".join(f"{width:,}" for width in sorted(set(widths)))
