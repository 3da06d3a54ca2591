"""Count the tokens of a prompt that a checkpoint reads, and find the truncated part. No torch.

The tokenizer that reads furthest decides: CLIP's in families with chunks, T5's or a language model's in families that
truncate, and the checkpoint's own if it was trained here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.clip_vocabulary import clip_vocabulary
from diffstudio.models.conditioning.prompt_weighting import CHUNK_TOKENS, TokenCount, count_tokens
from diffstudio.models.detection.families_table import is_trained_here
from diffstudio.models.detection.types import Layout
from diffstudio.networks.conditioning import Conditioning

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHUNKED_FAMILIES = frozenset({"sd1", "sd2", "sdxl", "sdxl_refiner"})  # they read prompts of any length, with weights


@dataclass(frozen=True, slots=True)
class _TokenLimit:
    """The longest prompt of a family that truncates prompts."""

    tokenizer: str  # by diffusers' name
    longest: int  # tokens of the prompt itself


_CLIP_LIMIT = _TokenLimit("tokenizer", CHUNK_TOKENS)  # of Stable Diffusion 3 without T5
_TOKEN_LIMITS = {
    "sd3": _TokenLimit("tokenizer_3", 255),  # 256, less T5's end token
    "flux": _TokenLimit("tokenizer_2", 511),  # 512, likewise
    "flux schnell": _TokenLimit("tokenizer_2", 255),
    "z_image": _TokenLimit("tokenizer", 509),  # 512, less `<|im_start|>`, `user` and a newline before it
    "qwen_image": _TokenLimit("tokenizer", 512),
}


def supports_prompt_weights(checkpoint: Checkpoint) -> bool:
    """Whether its prompts may use `(word:1.2)` and BREAK."""
    return checkpoint.family in CHUNKED_FAMILIES


def count_prompt_tokens(checkpoint: Checkpoint, text: str) -> TokenCount | None:
    """The prompt's token count for this checkpoint; None where it takes no prompt or its tokenizer is missing.

    The first call for a checkpoint reads its tokenizer, which takes a moment.
    """
    if checkpoint.conditioning is not Conditioning.TEXT:
        return None
    reader = _reader(_Key(checkpoint))
    return None if reader is None else count_tokens(text, *reader)


class _Key:
    """A checkpoint as a cache key: equal as long as its file is unchanged."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._same = (checkpoint.path, checkpoint.modified, checkpoint.family, checkpoint.edition)

    def __hash__(self) -> int:
        return hash(self._same)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._same == other._same


@lru_cache(maxsize=4)
def _reader(key: _Key) -> tuple[Tokenizer, int | None] | None:
    """The tokenizer, and the maximum number of tokens, None for no limit; None where the tokenizer is missing."""
    checkpoint = key.checkpoint
    if is_trained_here(checkpoint.family):
        return _own(checkpoint)
    if checkpoint.family in CHUNKED_FAMILIES:
        clip = _first(_clip, _folders(checkpoint, ("tokenizer", "tokenizer_2")), None)
        return clip or ((shipped, None) if (shipped := _shipped_clip()) is not None else None)
    if checkpoint.family == "sd3" and not (checkpoint.path / "text_encoder_3").is_dir():
        return _first(_clip, _folders(checkpoint, (_CLIP_LIMIT.tokenizer,)), _CLIP_LIMIT.longest)
    limit = _TOKEN_LIMITS.get(f"{checkpoint.family} {checkpoint.edition}") or _TOKEN_LIMITS.get(checkpoint.family)
    return _first(_from_file, _folders(checkpoint, (limit.tokenizer,)), limit.longest) if limit is not None else None


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
    """The tokenizers in its own folder; a single file has none."""
    return [checkpoint.path / name for name in names] if checkpoint.layout is Layout.FOLDER else []


def _clip(folder: Path) -> Tokenizer | None:
    """CLIP's tokenizer from `vocab.json` and `merges.txt`, or from `tokenizer.json`."""
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"

    def make() -> Tokenizer:
        from tokenizers import models

        return _clip_tokenizer(*models.BPE.read_file(str(vocabulary), str(merges)))

    return _made(make) if vocabulary.is_file() else _from_file(folder)


def _shipped_clip() -> Tokenizer | None:
    """CLIP's tokenizer with the vocabulary that ships with the program: the same for all these families."""
    return _made(lambda: _clip_tokenizer(*clip_vocabulary()))


def _clip_tokenizer(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """CLIP's byte-pair tokenizer: Radford et al. 2021, arXiv 2103.00020."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    end = "<|endoftext|>"
    tokenizer = Tokenizer(
        models.BPE(vocab=dict(vocabulary), merges=list(merges), end_of_word_suffix="</w>", unk_token=end)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.add_special_tokens(["<|startoftext|>", end])
    return tokenizer


def _from_file(folder: Path) -> Tokenizer | None:
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
    except Exception:  # noqa: BLE001 - tokenizers raises nothing more specific, and the prompt works without a count
        return None
