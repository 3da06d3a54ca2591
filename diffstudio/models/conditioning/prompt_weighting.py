"""Prompt weighting and chunking by AUTOMATIC1111's rules: `(word:1.2)`, `[word]`, `BREAK`.

No torch until a prompt is encoded.

    (word)        weight 1.1; ((word)) 1.21
    (word:1.3)    weight 1.3; any number, also below 1 or negative
    [word]        weight 1 / 1.1
    \\( \\) \\[ \\] \\\\  the character itself; any other backslash is dropped
    BREAK         starts a new chunk

A bracket that is never closed acts up to the end; one that closes nothing is an ordinary character. Edits and
alternations, `[a:b:0.5]` and `[a|b]`, were resolved before: `prompt_schedule`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

ROUND, SQUARE = 1.1, 1 / 1.1  # the weight of one pair of brackets
CHUNK_TOKENS = 75  # of a chunk, without its start and end tokens
BACKTRACK = 20  # tokens: a chunk may end at a comma this close to its end
_NO_EMBEDDINGS: Mapping[int, int] = MappingProxyType({})

_SYNTAX = re.compile(
    r"\\[()\[\]\\]"  # an escaped character
    r"|:\s*(?P<weight>[+-]?(?:\d{1,4}(?:\.\d{0,6})?|\.\d{1,6}))\s*\)"
    r"|\bBREAK\b"
    r"|[()\[\]\\]"
)
_TAG = re.compile(r"(?P<name><[^<>:\s]+:[^<>:]+)(?::(?P<weight>[+-]?\d{1,4}(?:\.\d{0,6})?))?>")
_CLOSING = re.compile(r"(?::\s*(?P<weight>[+-]?(?:\d{1,4}(?:\.\d{0,6})?|\.\d{1,6}))\s*)?\)")
_WORD = re.compile(r"[^\s,.;|(){}\[\]<>\\]+")

Ids: TypeAlias = Callable[[str], Sequence[int]]  # a text's tokens, without start and end tokens


class TokenIds(Protocol):
    @property
    def input_ids(self) -> Sequence[int]: ...


class ClipTokenizer(Protocol):
    """What encoding a prompt needs of transformers' CLIPTokenizer."""

    bos_token_id: int
    eos_token_id: int
    pad_token_id: int | None

    def __call__(self, text: str, *, add_special_tokens: bool, verbose: bool) -> TokenIds: ...


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A run of text with its weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """The tokens that an encoder reads at once: at most `CHUNK_TOKENS` tokens, each with its weight."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A prompt's tokens, and how many of them are read."""

    used: int  # tokens of the prompt
    room: int  # the limit: `CHUNK_TOKENS` per chunk, or the encoder's maximum where longer prompts are truncated
    chunks: int = 1
    cut: tuple[int, int] | None = None  # the range of truncated characters


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """The text encoder's output for B prompts, all with the same number n of chunks."""

    states: Tensor  # [B, n * (CHUNK_TOKENS + 2), D]
    pooled: Tensor | None  # [B,P] of each prompt's first chunk; None without a pooled output


# One chunk's ids [1, CHUNK_TOKENS + 2] -> hidden states [1, CHUNK_TOKENS + 2, D] and pooled [1,P] or None.
Encode: TypeAlias = Callable[["Tensor"], tuple["Tensor", "Tensor | None"]]
EncodedChunks: TypeAlias = dict[TokenChunk, tuple["Tensor", "Tensor | None"]]


def parse_prompt(text: str) -> tuple[tuple[WeightedText, ...], ...]:
    """Parse a prompt into sections separated by BREAK, each of runs of text that differ in weight. Never empty."""
    sections: list[list[WeightedText]] = [[]]
    for run in _weighted_runs(text):
        if run is None:
            sections.append([])
        elif sections[-1] and sections[-1][-1].weight == run.weight:
            sections[-1][-1] = replace(run, text=sections[-1][-1].text + run.text)
        else:
            sections[-1].append(run)
    return tuple(tuple(section) for section in sections)


def strip_syntax(text: str) -> str:
    """The prompt without weighting syntax, for encoders that do not support it."""
    return " ".join("".join(run.text for run in section).strip() for section in parse_prompt(text)).strip()


def split_chunks(text: str, ids: Ids, embedding_lengths: Mapping[int, int] = _NO_EMBEDDINGS) -> list[TokenChunk]:
    """Split a prompt into chunks, at least one.

    A chunk ends at its last comma if that is within `BACKTRACK` tokens of its end, as in AUTOMATIC1111 with its
    `comma_padding_backtrack` of 20. `embedding_lengths`: how many tokens, at most `CHUNK_TOKENS`, stay together from
    one of these ids on.
    """
    comma = (tuple(ids(",")) or (-1,))[-1]
    made: list[TokenChunk] = []
    sections = parse_prompt(text)
    for number, section in enumerate(sections, 1):
        tokens = [(token, run.weight) for run in section for token in ids(run.text)]
        chunks = list(_split(tokens, comma, embedding_lengths))
        nothing_after_break = not chunks and number == len(sections) > 1
        made += chunks if chunks or nothing_after_break else [TokenChunk()]
    return made


def count_tokens(text: str, tokenizer: Tokenizer, longest: int | None = None) -> TokenCount:
    """Count a prompt's tokens with a tokenizer of the library tokenizers.

    Without `longest` the prompt is chunked and its weights are parsed; else it is taken literally and truncated to
    `longest` tokens.
    """
    if longest is None:
        chunks = split_chunks(text, lambda run: tokenizer.encode(run, add_special_tokens=False).ids)
        return TokenCount(sum(len(chunk.ids) for chunk in chunks), CHUNK_TOKENS * len(chunks), len(chunks))
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    cut = (offsets[longest][0], len(text.rstrip())) if len(offsets) > longest else None
    return TokenCount(len(offsets), longest, cut=cut)


def encode_weighted(
    prompts: Sequence[str],
    tokenizer: ClipTokenizer,
    encode: Encode,
    known: EncodedChunks | None = None,
    embedding_lengths: Mapping[int, int] = _NO_EMBEDDINGS,
) -> EncodedPrompts:
    """Encode weighted prompts with a CLIP text encoder, padded with empty chunks to the longest prompt.

    `encode` takes one chunk's ids [1, CHUNK_TOKENS + 2] (int64, CPU, with start, end and padding tokens as in
    diffusers) and returns the family's hidden states [1, CHUNK_TOKENS + 2, D] and pooled [1,P] or None. Each distinct
    chunk is encoded once and alone, so that a prompt's states do not depend on the batch; without weights they equal
    diffusers' bit for bit. Weights multiply the states, whose mean is then restored. Encode positive and negative
    prompts together, so that they have the same length. `known` holds the chunks that were encoded before, and gets
    the new ones; `embedding_lengths` as in `split_chunks`.
    """
    import torch

    def ids(text: str) -> Sequence[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    rows = [split_chunks(prompt, ids, embedding_lengths) for prompt in prompts]
    longest = max(len(row) for row in rows)
    known = {} if known is None else known
    for row in rows:
        row += [TokenChunk()] * (longest - len(row))
        for chunk in row:
            if chunk not in known:
                known[chunk] = _encoded(chunk, tokenizer, encode)
    states = torch.cat([torch.cat([known[chunk][0] for chunk in row], 1) for row in rows])
    pooled = [known[row[0]][1] for row in rows]
    return EncodedPrompts(states, torch.cat([one for one in pooled if one is not None]) if None not in pooled else None)


def _encoded(chunk: TokenChunk, tokenizer: ClipTokenizer, encode: Encode) -> tuple[Tensor, Tensor | None]:
    import torch

    missing = CHUNK_TOKENS - len(chunk.ids)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = [tokenizer.bos_token_id, *chunk.ids, tokenizer.eos_token_id, *[padding] * missing]
    states, pooled = encode(torch.tensor([ids], dtype=torch.int64))
    if any(weight != 1.0 for weight in chunk.weights):
        all_weights = [1.0, *chunk.weights, *[1.0] * (missing + 1)]
        weights = torch.tensor(all_weights, device=states.device)  # [CHUNK_TOKENS + 2]
        exact = states.float()
        weighed = exact * weights[None, :, None]
        restored = exact.mean() / weighed.mean()
        if torch.isfinite(restored):  # a mean of zero cannot be restored by a factor
            weighed = weighed * restored
        states = weighed.to(states.dtype)
    return states, pooled


def _split(
    tokens: Sequence[tuple[int, float]], comma: int, embedding_lengths: Mapping[int, int]
) -> Iterator[TokenChunk]:
    """A section's tokens in chunks of at most `CHUNK_TOKENS`; none for an empty section."""
    chunk: list[tuple[int, float]] = []
    after_comma = 0  # the place in the chunk after its last comma; 0 without one
    position = 0
    while position < len(tokens):
        token = tokens[position][0]
        length = embedding_lengths.get(token, 1)
        if len(chunk) + length > CHUNK_TOKENS:
            at_comma = len(chunk) == CHUNK_TOKENS and token != comma and CHUNK_TOKENS - after_comma < BACKTRACK
            end = after_comma if at_comma and after_comma else len(chunk)
            yield _chunk(chunk[:end])
            chunk, after_comma = chunk[end:], 0
            continue
        chunk += tokens[position : position + length]
        position += length
        if token == comma:
            after_comma = len(chunk)
    if chunk:
        yield _chunk(chunk)


def _chunk(tokens: Sequence[tuple[int, float]]) -> TokenChunk:
    return TokenChunk(tuple(token for token, _ in tokens), tuple(weight for _, weight in tokens))


def _weighted_runs(text: str) -> Iterator[WeightedText | None]:
    """Runs of text with their weights, in order; None for a BREAK."""
    matches = list(_SYNTAX.finditer(text))
    opens, closes = _pairs(matches)
    within: dict[int, float] = {}  # the open brackets, by index, and their weights
    reached = 0
    for number, match in enumerate(matches):
        if reached < match.start():
            yield WeightedText(text[reached : match.start()], _weight(within))
        reached = match.end()
        if number in opens:
            within[number] = opens[number]
        elif number in closes:
            del within[closes[number]]
        elif match[0] == "BREAK":
            yield None
        elif match[0] != "\\":
            yield WeightedText(match[0].removeprefix("\\"), _weight(within))
    if reached < len(text):
        yield WeightedText(text[reached:], _weight(within))


def _weight(within: dict[int, float]) -> float:
    return math.prod(reversed(within.values()), start=1.0)  # the innermost first, as AUTOMATIC1111 multiplies


def _pairs(matches: Sequence[re.Match[str]]) -> tuple[dict[int, float], dict[int, int]]:
    """Match brackets: the weight of each opening one, closed or not, and the opening one of each closing one."""
    opens: dict[int, float] = {}
    closes: dict[int, int] = {}
    waiting: dict[str, list[int]] = {"(": [], "[": []}
    for number, match in enumerate(matches):
        if match[0] in waiting:
            waiting[match[0]].append(number)
            opens[number] = ROUND if match[0] == "(" else SQUARE
            continue
        kind = "(" if match[0] == ")" or match["weight"] is not None else "[" if match[0] == "]" else ""
        if kind and waiting[kind]:
            closes[number] = waiting[kind].pop()
            if match["weight"] is not None:
                opens[closes[number]] = float(match["weight"])
    return opens, closes


def reweighted(text: str, start: int, end: int, steps: int) -> tuple[str, int, int]:
    """Change the weight of the selection, or of the word at the cursor, by 0.1 per step.

    Returns the prompt and the new selection. As in AUTOMATIC1111: `word` becomes `(word:1.1)`, the number in `(…:1.1)`
    grows, at 1 the brackets are removed; the number in `<lora:name:0.8>` changes by 0.05 per step. Nothing changes
    where there is no word.
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
    """The range without surrounding spaces and brackets; empty where there is no word."""
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
    """For each pair of round brackets: start and end of its content, and end of the pair."""
    matches = list(_SYNTAX.finditer(text))
    return [
        (matches[opening].end(), matches[closing].start(), matches[closing].end())
        for closing, opening in _pairs(matches)[1].items()
        if matches[opening][0] == "("
    ]
