"""Prompts: what `(word:1.2)`, `[word]`, `BREAK` and a long text mean, by AUTOMATIC1111's rules. No torch until something is encoded.

    (word)        counts 1.1 times as much; ((word)) 1.21 times
    (word:1.3)    1.3 times; any number, also below 1 or below 0
    [word]        1 / 1.1 times
    \\( \\) \\[ \\] \\\\  the character itself
    BREAK         what follows begins a chunk of its own

A bracket without its partner is an ordinary character. What AUTOMATIC1111 does with `[a|b]` and `[a:b:0.5]`, changing
the prompt on the way, is not done here: the brackets weaken what is inside, which is read as it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

ROUND, SQUARE = 1.1, 1 / 1.1  # what one pair of brackets does
ROOM = 75  # tokens of a chunk, between its first and its last
BACKTRACK = 20  # tokens: a comma this close to the end of a chunk ends it

_SYNTAX = re.compile(
    r"\\[()\[\]\\]"  # an escaped character
    r"|:\s*(?P<weight>[+-]?(?:\d{1,4}(?:\.\d{0,6})?|\.\d{1,6}))\s*\)"
    r"|\bBREAK\b"
    r"|[()\[\]]"
)
_TAG = re.compile(r"(?P<name><[^<>:\s]+:[^<>:]+)(?::(?P<weight>[+-]?\d{1,4}(?:\.\d{0,6})?))?>")
_CLOSING = re.compile(r"(?::\s*(?P<weight>[+-]?(?:\d{1,4}(?:\.\d{0,6})?|\.\d{1,6}))\s*)?\)")
_WORD = re.compile(r"[^\s,.;|(){}\[\]<>\\]+")

Ids: TypeAlias = Callable[[str], Sequence[int]]  # the tokens of a text, without any that stand for its beginning or end


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text and how strongly it counts."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """What an encoder reads at once: at most `ROOM` tokens, each with its weight."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenCount:
    """How much of what can be read a prompt takes."""

    used: int  # tokens of the prompt
    room: int  # tokens that are read: `ROOM` in each chunk, or all there is where the rest is cut
    chunks: int = 1
    cut: tuple[int, int] | None = None  # the characters of the prompt that are not read, from and up to


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder made of a list of B prompts, all in the same number n of chunks."""

    states: Tensor  # [B, n * (ROOM + 2), D]
    pooled: Tensor | None  # [B, P]: of each prompt's first chunk; None where the encoder pools nothing


def parse(text: str) -> tuple[tuple[Piece, ...], ...]:
    """The sections that BREAK parts a prompt into, at least one; neighbours in a section differ in weight."""
    sections: list[list[Piece]] = [[]]
    for piece in _weighed(text):
        if piece is None:
            sections.append([])
        elif sections[-1] and sections[-1][-1].weight == piece.weight:
            sections[-1][-1] = replace(piece, text=sections[-1][-1].text + piece.text)
        else:
            sections[-1].append(piece)
    return tuple(tuple(section) for section in sections)


def plain(text: str) -> str:
    """The prompt without its syntax, for encoders that know no weights."""
    return " ".join("".join(piece.text for piece in section).strip() for section in parse(text)).strip()


def chunks_of(text: str, ids: Ids) -> list[Chunk]:
    """The prompt in chunks, at least one. Each of its commas within `BACKTRACK` of a chunk's end may end that chunk.

    As `stable-diffusion-webui` does with its `comma_padding_backtrack` of 20.
    """
    comma = (tuple(ids(",")) or (-1,))[-1]
    made: list[Chunk] = []
    sections = parse(text)
    for number, section in enumerate(sections, 1):
        chunks = list(_split([(token, piece.weight) for piece in section for token in ids(piece.text)], comma))
        nothing_after_break = not chunks and number == len(sections) > 1
        made += chunks if chunks or nothing_after_break else [Chunk()]
    return made


def count_tokens(text: str, tokenizer: Any, longest: int | None = None) -> TokenCount:
    """How many tokens a prompt takes, by a `tokenizers.Tokenizer` or a tokenizer of transformers that stands on one.

    Without `longest` it is read in chunks, with its weights; else as it stands, up to so many tokens, and the rest is cut.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if longest is None:
        chunks = chunks_of(text, lambda piece: backend.encode(piece, add_special_tokens=False).ids)
        return TokenCount(sum(len(chunk.ids) for chunk in chunks), ROOM * len(chunks), len(chunks))
    offsets = backend.encode(text, add_special_tokens=False).offsets
    cut = (offsets[longest][0], len(text.rstrip())) if len(offsets) > longest else None
    return TokenCount(len(offsets), longest, cut=cut)


def encode_weighted(
    prompts: Sequence[str], tokenizer: Any, encode: Callable[[Tensor], tuple[Tensor, Tensor | None]]
) -> Encoded:
    """Prompts as a CLIP text encoder sees them, all padded with empty chunks to as many as the longest has.

    `tokenizer` is a transformers CLIPTokenizer; `encode` gets the ids [1, ROOM + 2] of one chunk, begun, ended and padded as
    diffusers does it, int64 on the CPU, and returns the hidden states that the family wants, [1, ROOM + 2, D], and the
    pooled [1,P] or None. Each distinct chunk is encoded once and alone, so that a prompt's states do not hang on its
    neighbours; without weights they are diffusers' own to the bit. Weights multiply the states, whose mean is then restored.
    Ask for wanted and unwanted prompts together: then they have the same length.
    """
    import torch

    def ids(text: str) -> Sequence[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    rows = [chunks_of(prompt, ids) for prompt in prompts]
    longest = max(len(row) for row in rows)
    known: dict[Chunk, tuple[Tensor, Tensor | None]] = {}
    for row in rows:
        row += [Chunk()] * (longest - len(row))
        for chunk in row:
            if chunk not in known:
                known[chunk] = _encoded(chunk, tokenizer, encode)
    states = torch.cat([torch.cat([known[chunk][0] for chunk in row], 1) for row in rows])
    pooled = [known[row[0]][1] for row in rows]
    return Encoded(states, torch.cat([one for one in pooled if one is not None]) if None not in pooled else None)


def _encoded(
    chunk: Chunk, tokenizer: Any, encode: Callable[[Tensor], tuple[Tensor, Tensor | None]]
) -> tuple[Tensor, Tensor | None]:
    import torch

    missing = ROOM - len(chunk.ids)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = [tokenizer.bos_token_id, *chunk.ids, tokenizer.eos_token_id, *[padding] * missing]
    states, pooled = encode(torch.tensor([ids], dtype=torch.int64))
    if any(weight != 1.0 for weight in chunk.weights):
        weights = torch.tensor([1.0, *chunk.weights, *[1.0] * (missing + 1)], device=states.device)  # [ROOM + 2]
        exact = states.float()
        weighed = exact * weights[None, :, None]
        states = (weighed * (exact.mean() / weighed.mean())).to(states.dtype)
    return states, pooled


def _split(tokens: Sequence[tuple[int, float]], comma: int) -> Iterator[Chunk]:
    """A section's tokens in chunks of at most `ROOM`; none for an empty section."""
    start = 0
    while start < len(tokens):
        end = min(start + ROOM, len(tokens))
        if end < len(tokens) and tokens[end][0] != comma:
            commas = [place for place in range(max(start, end - BACKTRACK), end) if tokens[place][0] == comma]
            end = commas[-1] + 1 if commas else end
        yield Chunk(tuple(token for token, _ in tokens[start:end]), tuple(weight for _, weight in tokens[start:end]))
        start = end


def _weighed(text: str) -> Iterator[Piece | None]:
    """Runs of text with their weights, in order; None stands for a BREAK."""
    signs = list(_SYNTAX.finditer(text))
    opens, closes = _pairs(signs)
    within: dict[int, float] = {}  # the brackets that are open here, by their numbers, and what each does
    reached = 0
    for number, sign in enumerate(signs):
        if reached < sign.start():
            yield Piece(text[reached : sign.start()], _weight(within))
        reached = sign.end()
        if number in opens:
            within[number] = opens[number]
        elif number in closes:
            del within[closes[number]]
        elif sign[0] == "BREAK":
            yield None
        else:
            yield Piece(sign[0].removeprefix("\\"), _weight(within))
    if reached < len(text):
        yield Piece(text[reached:])


def _weight(within: dict[int, float]) -> float:
    return math.prod(reversed(within.values()), start=1.0)  # the innermost first, as AUTOMATIC1111 multiplies


def _pairs(signs: Sequence[re.Match[str]]) -> tuple[dict[int, float], dict[int, int]]:
    """Which brackets belong together: what each opening one does, and for each closing one its opening one."""
    opens: dict[int, float] = {}
    closes: dict[int, int] = {}
    waiting: dict[str, list[int]] = {"(": [], "[": []}
    for number, sign in enumerate(signs):
        if sign[0] in waiting:
            waiting[sign[0]].append(number)
            continue
        kind = "(" if sign[0] == ")" or sign["weight"] is not None else "[" if sign[0] == "]" else ""
        if kind and waiting[kind]:
            closes[number] = waiting[kind].pop()
            usual = ROUND if kind == "(" else SQUARE
            opens[closes[number]] = float(sign["weight"]) if sign["weight"] is not None else usual
    return opens, closes


def reweighted(text: str, start: int, end: int, steps: int) -> tuple[str, int, int]:
    """The prompt with the selection start .. end, or the word at it, a tenth stronger for each step; and where it is now.

    As in AUTOMATIC1111: `word` becomes `(word:1.1)`, the number in `(…:1.1)` grows, at 1 the brackets go; in a tag like
    `<lora:name:0.8>` the number changes by a twentieth. Nothing changes where there is no word.
    """
    for tag in _TAG.finditer(text):
        if tag.start() <= start and end <= tag.end():
            number = round(float(tag["weight"] or 1) + steps / 20, 2)
            changed = f"{tag['name']}:{number:g}>"
            return text[: tag.start()] + changed + text[tag.end() :], tag.start(), tag.start() + len(changed)
    start, end = _word_or_selection(text, start, end)
    if start == end:
        return text, start, end
    inside, weight, before, after = text[start:end], 1.0, start, end
    closing = _CLOSING.match(text, end)
    if text[start - 1 : start] == "(" and text[max(0, start - 2)] != "\\" and closing:
        weight, before, after = float(closing["weight"] or ROUND), start - 1, closing.end()
    weight = round(weight + steps / 10, 2)
    changed = inside if weight == 1 else f"({inside}:{weight:g})"
    place = before + (weight != 1)
    return text[:before] + changed + text[after:], place, place + len(inside)


def _word_or_selection(text: str, start: int, end: int) -> tuple[int, int]:
    """Without the spaces and the brackets around it; nothing where there is no word."""
    if start == end:
        inner = [pair[:2] for pair in _weighted_ranges(text) if pair[0] <= start <= pair[1]]
        word = next(
            (word.span() for word in _WORD.finditer(text) if word.start() <= start <= word.end()), (start, start)
        )
        return max(inner, default=word)
    whole = next(
        (
            pair
            for pair in _weighted_ranges(text)
            if text[start:end].strip() == text[pair[0] - 1 : pair[2]] and start <= pair[0] <= end
        ),
        None,
    )
    if whole is not None:
        return whole[:2]
    kept = text[start:end]
    return start + len(kept) - len(kept.lstrip()), end - len(kept) + len(kept.rstrip())


def _weighted_ranges(text: str) -> list[tuple[int, int, int]]:
    """For each pair of round brackets: where its inside begins and ends, and where the pair does."""
    signs = list(_SYNTAX.finditer(text))
    return [
        (signs[opening].end(), signs[closing].start(), signs[closing].end())
        for closing, opening in _pairs(signs)[1].items()
        if signs[opening][0] == "("
    ]
