"""The words of a prompt and their tokens in a text encoder. No torch.

The sub-tokens of a word are merged; punctuation and the syntax of prompt weighting are not part of words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from diffstudio.models.conditioning.prompt_weighting import CHUNK_TOKENS, TokenChunk, parse_prompt

# Each character of a script without spaces is a word, and so is any other symbol, such as an emoji.
_CHARACTER = "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
_WORD = re.compile(
    rf"\d+(?:[.,]\d+)+|{_CHARACTER}|(?:(?!{_CHARACTER})\w)+(?:['’-](?:(?!{_CHARACTER})\w)+)*|[^\w\s,.;:!?…'’\"()\[\]{{}}|/\\-]+"
)
_PIECE = re.compile(rf"\s*(?:{_WORD.pattern}|\S)")

Span = tuple[int, int]  # first character, and the one after the last


@dataclass(frozen=True, slots=True)
class PromptWord:
    """A word and the positions of its tokens among the text tokens that the network reads."""

    text: str
    tokens: tuple[int, ...]  # empty if it was cut off
    weight: float = 1.0  # from prompt weighting


def words_in(text: str) -> list[Span]:
    """The words of a text, in order."""
    return [match.span() for match in _WORD.finditer(text)]


def words_at(
    text: str,
    offsets: Sequence[Span],
    *,
    start: int = 0,
    end: int | None = None,
    first: int = 0,
    longest: int | None = None,
) -> tuple[PromptWord, ...]:
    """The words of `text[start:end]`, from the character offsets of the tokens.

    `offsets` are those of the whole text; token i is at position `first` + i, and tokens beyond `longest` are cut off.
    Words that share a token are merged.
    """
    whole = text[start:end]
    words: list[tuple[Span, list[int]]] = [((a + start, b + start), []) for a, b in words_in(whole)]
    for index, (left, right) in enumerate(offsets):
        touched = [place for place, ((a, b), _) in enumerate(words) if left < b and right > a]
        if not touched:
            continue
        merged_from, merged_to = touched[0], touched[-1] + 1
        tokens = sorted({index, *(token for _, held in words[merged_from:merged_to] for token in held)})
        words[merged_from:merged_to] = [((words[merged_from][0][0], words[merged_to - 1][0][1]), tokens)]
    return tuple(
        PromptWord(text[a:b], tuple(first + token for token in tokens if longest is None or token < longest))
        for (a, b), tokens in words
    )


def joined(one: Sequence[PromptWord], other: Sequence[PromptWord]) -> tuple[PromptWord, ...]:
    """The words of one text with their tokens in two encoders.

    If the encoders merge different words, a word gets the tokens of every word whose text contains it.
    """
    if [word.text for word in one] == [word.text for word in other]:
        return tuple(replace(a, tokens=a.tokens + b.tokens) for a, b in zip(one, other, strict=True))
    shorter, longer = (one, other) if len(one) <= len(other) else (other, one)
    rest = list(longer)
    found = []
    for word in shorter:
        tokens = word.tokens
        while rest and rest[0].text in word.text:
            tokens += rest.pop(0).tokens
        found.append(replace(word, tokens=tokens))
    return tuple(found)


def weighted_words(
    prompt: str, chunks: Sequence[TokenChunk], ids: Callable[[str], Sequence[int]]
) -> tuple[PromptWord, ...]:
    """The words of a prompt in AUTOMATIC1111's grammar, split into chunks by `prompt_weighting.split_chunks`.

    Positions include the start and end tokens of each chunk. `ids` returns the tokens of a text without them.
    """
    positions = iter(
        [
            (CHUNK_TOKENS + 2) * number + 1 + place
            for number, chunk in enumerate(chunks)
            for place in range(len(chunk.ids))
        ]
    )
    found: list[PromptWord] = []
    for section in parse_prompt(prompt):
        glued = False  # the previous word continues without a space
        for run in section:
            for text, count in _counted_pieces(run.text, ids):
                tokens = tuple(next(positions) for _ in range(count))
                word = text.strip()
                joins = glued and found and not text[:1].isspace() and bool(words_in(word))
                if joins:
                    found[-1] = replace(found[-1], text=found[-1].text + word, tokens=found[-1].tokens + tokens)
                elif words_in(word):
                    found.append(PromptWord(word, tokens, run.weight))
                glued = False
            glued = bool(run.text) and not run.text[-1:].isspace() and bool(words_in(run.text[-1:]))
    return tuple(found)


def _counted_pieces(text: str, ids: Callable[[str], Sequence[int]]) -> Iterator[tuple[str, int]]:
    """A text split into words and other pieces, with the number of tokens of each.

    The pieces are coarser if words on their own have other tokens than within the text.
    """
    whole = list(ids(text))
    for pattern in (_PIECE, re.compile(r"\s*\S+")):
        pieces = [match[0] for match in pattern.finditer(text)]
        tokens = [list(ids(piece)) for piece in pieces]
        if [token for each in tokens for token in each] == whole:
            yield from zip(pieces, map(len, tokens), strict=True)
            return
    yield text, len(whole)
