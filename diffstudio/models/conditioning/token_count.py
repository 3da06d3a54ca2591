"""How many tokens of a prompt a checkpoint reads, and which part it does not: without torch, for the window.

What counts is the tokenizer that reads furthest: CLIP's in chunks where a family knows them, T5's or a language model's
where a family cuts the prompt, the checkpoint's own where it was trained here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from diffstudio import paths
from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint, Layout
from diffstudio.models.conditioning.prompt_weighting import TokenCount, count_tokens
from diffstudio.networks.conditioning import Conditioning

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IN_CHUNKS = frozenset({"sd1", "sd2", "sdxl", "sdxl_refiner"})  # families that read all of it, with its weights


@dataclass(frozen=True, slots=True)
class _Cut:
    """A family that reads so many tokens and no more."""

    tokenizer: str  # by diffusers' name
    longest: int  # tokens of the prompt itself


_CUTS = {"sd3": _Cut("tokenizer_3", 255), "flux": _Cut("tokenizer_2", 511)}  # T5's end takes one of 256, of 512


def reads_weights(checkpoint: Checkpoint) -> bool:
    """Whether `(word:1.2)` and BREAK mean anything to it."""
    return checkpoint.family in IN_CHUNKS


def counted(checkpoint: Checkpoint, text: str) -> TokenCount | None:
    """How much of what this checkpoint reads the prompt takes; None where that is not known: it takes no prompt, or has no
    tokenizer at hand. The first call for a checkpoint reads its tokenizer, which takes a moment.
    """
    if checkpoint.conditioning is not Conditioning.TEXT:
        return None
    reader = _reader(_Key(checkpoint))
    return None if reader is None else count_tokens(text, *reader)


class _Key:
    """A checkpoint as the key of a cache: the same as long as its file is."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._same = (checkpoint.path, checkpoint.modified, checkpoint.family)

    def __hash__(self) -> int:
        return hash(self._same)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._same == other._same


@lru_cache(maxsize=4)
def _reader(key: _Key) -> tuple[Tokenizer, int | None] | None:
    """The tokenizer, and how many tokens are read: None for all."""
    checkpoint = key.checkpoint
    if checkpoint.family == "pixel":
        return _own(checkpoint)
    if checkpoint.family in IN_CHUNKS:
        return _first(_clip, _folders(checkpoint, ("tokenizer", "tokenizer_2")), None)
    if checkpoint.family in _CUTS:
        cut = _CUTS[checkpoint.family]
        return _first(_whole, _folders(checkpoint, (cut.tokenizer,)), cut.longest)
    return None


def _first(
    read: Callable[[Path], Tokenizer | None], folders: Sequence[Path], longest: int | None
) -> tuple[Tokenizer, int | None] | None:
    return next(((found, longest) for folder in folders if (found := read(folder)) is not None), None)


def _own(checkpoint: Checkpoint) -> tuple[Tokenizer, int] | None:
    try:
        longest = int(checkpoint.json("network")["text_tokens"])
    except (CheckpointDamaged, KeyError, TypeError, ValueError):
        return None
    tokenizer = _from_text(checkpoint.metadata.get("diffstudio.tokenizer", ""))
    return None if tokenizer is None else (tokenizer, longest)


def _folders(checkpoint: Checkpoint, names: Sequence[str]) -> list[Path]:
    """Where its tokenizer may lie: in its own folder, else among those that ship with the program."""
    own = [checkpoint.path / name for name in names] if checkpoint.layout is Layout.FOLDER else []
    return [*own, *(paths.resources() / "models" / checkpoint.family / name for name in names)]


def _clip(folder: Path) -> Tokenizer | None:
    """CLIP's tokenizer from its words and merges, as Radford et al. 2021 published it; or from one file that says everything."""

    def make() -> Tokenizer:
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

        tokenizer = Tokenizer(
            models.BPE.from_file(
                str(folder / "vocab.json"),
                str(folder / "merges.txt"),
                end_of_word_suffix="</w>",
                unk_token="<|endoftext|>",
            )
        )
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
        return tokenizer

    return _made(make) if (folder / "vocab.json").is_file() else _whole(folder)


def _whole(folder: Path) -> Tokenizer | None:
    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return _from_text(text)


def _from_text(text: str) -> Tokenizer | None:
    def make() -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(text)

    return _made(make)


def _made(make: Callable[[], Tokenizer]) -> Tokenizer | None:
    try:
        return make()
    except Exception:  # noqa: BLE001 - tokenizers raises nothing more exact; without a count the prompt works all the same
        return None
