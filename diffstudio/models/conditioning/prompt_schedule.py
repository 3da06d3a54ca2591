"""Prompts that change from step to step, and prompts composed with AND: AUTOMATIC1111's grammar. No torch.

    [from:to:when]  `from` up to step `when`, then `to`
    [to:when]       nothing, then `to`
    [from::when]    `from`, then nothing
    [a|b|c]         another one in each step, in turn; any of them may be empty
    a :1.5 AND b    both at once, each with its own weight
    \\[ \\] \\: \\|     the character itself

A whole number `when` counts steps; one with a point is a fraction of the steps. In a second pass (hires fix) the count
continues from the first: whole numbers go on after its steps, and fractions run from 1 to 2. Edits can be nested, and
weights such as `(word:1.2)` can stand in them. Brackets that do not match, or hold none of this, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from diffstudio.models.conditioning.prompt_features import PromptFeature

_TOKENS = re.compile(
    r"\bembedding:(?![\s:|\[\]()]|[+-]?[.\d]+\s*\])|\\.|[\[\]():|]|(?:(?!\bembedding:)[^\\\[\]():|])+|.",
    re.DOTALL | re.IGNORECASE,
)
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"(?<!\\):\s*([+-]?(?:\d*\.\d+|\d+\.?))\s*\Z")
_ESCAPE = re.compile(r"\\([()\[\]:|\\])|(?<=\bA)\\(?=ND\b)|(?<=\bB)\\(?=REAK\b)")
_SYNTAX = re.compile(r"[\[\]]|\\(?![()])|(?<=\bA)(?=ND\b)|(?<=\bB)(?=REAK\b)|:(?=\s*[+-]?[.\d]+\s*\Z)")


class _Separator(Enum):
    COLON = ":"
    BAR = "|"


@dataclass(frozen=True, slots=True, eq=False)
class _Edit:
    """`[before:after:when]`."""

    before: _Nodes
    after: _Nodes
    when: str  # a number as it was written

    def at(self, step: int, steps: int, steps_before: int | None) -> _Nodes:
        return self.before if step <= self._last_step(steps, steps_before) else self.after

    def _last_step(self, steps: int, steps_before: int | None) -> int:
        """The last step with `before`: 0 for none."""
        when = float(self.when)
        if "." in self.when:
            when = (when - (steps_before is not None)) * steps
        else:
            when -= steps_before or 0
        return int(max(0.0, min(when, float(steps))))


@dataclass(frozen=True, slots=True, eq=False)
class _Alternation:
    """`[a|b]`: one after the other, from the first step of each pass."""

    options: tuple[_Nodes, ...]

    def at(self, step: int, steps: int, steps_before: int | None) -> _Nodes:
        return self.options[(step - 1) % len(self.options)]


_Node: TypeAlias = str | _Edit | _Alternation
_Nodes: TypeAlias = tuple[_Node, ...]
_Item: TypeAlias = _Node | _Separator  # while parsing


class ScheduledText:
    """A text with edits and alternations, parsed once."""

    def __init__(self, text: str) -> None:
        self._nodes = _parse(text)

    @property
    def changes(self) -> bool:
        """Whether it may differ between steps."""
        return any(not isinstance(node, str) for node in self._nodes)

    def at(self, step: int, steps: int, steps_before: int | None = None) -> str:
        """The text in step 1 .. `steps` of a pass; `steps_before` are those of the first pass, None in that itself."""
        out: list[str] = []
        waiting = list(reversed(self._nodes))
        while waiting:
            node = waiting.pop()
            if isinstance(node, str):
                out.append(node)
            else:
                waiting += reversed(node.at(step, steps, steps_before))
        return "".join(out)

    def table(self, steps: int, steps_before: int | None = None) -> list[tuple[int, str]]:
        """The texts in order, each with the last step that it applies to."""
        table: list[tuple[int, str]] = []
        for step in range(1, steps + 1):
            text = self.at(step, steps, steps_before)
            if table and table[-1][1] == text:
                table.pop()
            table.append((step, text))
        return table


@dataclass(frozen=True, slots=True)
class Subprompt:
    """One of the texts that AND joins."""

    text: ScheduledText
    weight: float = 1.0


def split_and(prompt: str, *, lone_weight: bool = True) -> tuple[Subprompt, ...]:
    """The subprompts of a prompt, at least one; a weight `:1.5` at the end of one is taken off.

    `lone_weight`: also off a prompt without AND, as in AUTOMATIC1111, where it scales the CFG scale.
    """
    texts = _AND.split(prompt)
    if len(texts) == 1 and not (lone_weight and _WEIGHT.search(prompt)):
        return (Subprompt(ScheduledText(prompt)),)
    return tuple(_weighted(text) for text in texts)


def _weighted(text: str) -> Subprompt:
    match = _WEIGHT.search(text)
    if match is None:
        return Subprompt(ScheduledText(text.strip()))
    return Subprompt(ScheduledText(text[: match.start()].strip()), float(match[1]))


def has_and(prompt: str) -> bool:
    return _AND.search(prompt) is not None


def unescape(text: str) -> str:
    """The text for an encoder without this grammar: escaped characters become themselves."""
    return _ESCAPE.sub(lambda escape: escape[1] or "", text)


def escape_schedule(text: str) -> str:
    """Escape a text in which only `(word:1.2)`, `\\(` and `\\)` are syntax, as in ComfyUI: the rest stays what it is."""
    return _SYNTAX.sub(lambda syntax: f"\\{syntax[0]}", text)


# ---- the prompts of a batch ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepTexts:
    """The texts that condition B images in one step."""

    positive: tuple[tuple[str, ...], ...]  # [n][B]: the subprompts of AND; images with fewer have weight 0
    weights: tuple[tuple[float, ...], ...]  # [n][B]
    negative: tuple[str, ...]  # [B]

    @classmethod
    def plain(cls, prompts: Sequence[str], negatives: Sequence[str]) -> StepTexts:
        """The texts of prompts without this grammar."""
        return cls((tuple(prompts),), ((1.0,) * len(prompts),), tuple(negatives))


class PromptBatch:
    """The prompts and negative prompts of B images, parsed as far as `features` allow; the rest is plain text."""

    def __init__(self, prompts: Sequence[str], negatives: Sequence[str], features: PromptFeature) -> None:
        self._features = features
        parsed = {prompt: self._parsed(prompt) for prompt in prompts}
        self._prompts = [parsed[prompt] for prompt in prompts]
        scheduled = {negative: self._scheduled(negative) for negative in negatives}
        self._negatives = [scheduled[negative] for negative in negatives]

    def _parsed(self, prompt: str) -> tuple[Subprompt, ...] | str:
        if PromptFeature.AND in self._features:
            return split_and(prompt, lone_weight=PromptFeature.WEIGHTS in self._features)
        scheduled = self._scheduled(prompt)
        return scheduled if isinstance(scheduled, str) else (Subprompt(scheduled),)

    def _scheduled(self, text: str) -> ScheduledText | str:
        return ScheduledText(text) if PromptFeature.SCHEDULE in self._features else text

    @property
    def changes(self) -> bool:
        """Whether the texts may differ between steps."""
        texts = [text for text in self._negatives if not isinstance(text, str)]
        texts += [part.text for prompt in self._prompts if not isinstance(prompt, str) for part in prompt]
        return any(text.changes for text in texts)

    def at(self, step: int, steps: int, steps_before: int | None = None) -> StepTexts:
        """The texts of step 1 .. `steps`; arguments as in `ScheduledText.at`."""

        def text_at(text: ScheduledText | str) -> str:
            found = text if isinstance(text, str) else text.at(step, steps, steps_before)
            literal = PromptFeature.TEXT in self._features and PromptFeature.WEIGHTS not in self._features
            return unescape(found) if literal else found

        rows = [
            [(text_at(prompt), 1.0)]
            if isinstance(prompt, str)
            else [(text_at(part.text), part.weight) for part in prompt]
            for prompt in self._prompts
        ]
        most = max(map(len, rows))
        padded = [row + [(row[0][0], 0.0)] * (most - len(row)) for row in rows]
        return StepTexts(
            tuple(tuple(row[part][0] for row in padded) for part in range(most)),
            tuple(tuple(row[part][1] for row in padded) for part in range(most)),
            tuple(map(text_at, self._negatives)),
        )


# ---- parsing ---------------------------------------------------------------------------------------------------------


def _parse(text: str) -> _Nodes:
    """One pass over the text; a stack holds the open brackets and what stands in them."""
    stack: list[tuple[str, list[_Item]]] = [("", [])]
    for token in _TOKENS.findall(text):
        items = stack[-1][1]
        match token:
            case "[" | "(":
                stack.append((token, []))
            case "]" if stack[-1][0] == "[":
                stack.pop()
                stack[-1][1].extend(_in_square_brackets(items))
            case ")" if stack[-1][0] == "(":
                stack.pop()
                stack[-1][1].extend(_literal(("(", *items, ")")))
            case "]" | ")":  # it closes nothing, so no bracket around it can be closed either
                _flush(stack)
                stack[0][1].append(token)
            case ":" | "|":
                items.append(_Separator(token))
            case _:
                items.append(token)
    _flush(stack)
    return _literal(stack[0][1])


def _flush(stack: list[tuple[str, list[_Item]]]) -> None:
    """Turn all open brackets into plain characters."""
    outermost = stack[0][1]
    for bracket, items in stack[1:]:
        outermost += _literal((bracket, *items))
    del stack[1:]


def _in_square_brackets(items: Sequence[_Item]) -> Iterator[_Node]:
    fields = _split(items, _Separator.COLON)
    last = [item for item in fields[-1] if isinstance(item, str)]
    when = _NUMBER.fullmatch("".join(last)) if len(last) == len(fields[-1]) else None
    if when is not None and len(fields) in (2, 3):
        before = _literal(fields[0]) if len(fields) == 3 else ()
        yield _Edit(before, _literal(fields[-2]), when[1])
    elif _Separator.BAR in items:
        yield _Alternation(tuple(_literal(option) for option in _split(items, _Separator.BAR)))
    else:
        yield from _literal(("[", *items, "]"))


def _split(items: Sequence[_Item], separator: _Separator) -> list[list[_Item]]:
    fields: list[list[_Item]] = [[]]
    for item in items:
        if item is separator:
            fields.append([])
        else:
            fields[-1].append(item)
    return fields


def _literal(items: Sequence[_Item]) -> _Nodes:
    """The items with separators as plain characters, and neighbouring strings joined."""
    nodes: list[_Node] = []
    strings: list[str] = []
    for item in items:
        if isinstance(item, str):
            strings.append(item)
        elif isinstance(item, _Separator):
            strings.append(item.value)
        else:
            nodes += ["".join(strings), item]
            strings = []
    return (*nodes, "".join(strings))
