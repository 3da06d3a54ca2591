"""Templates of wildcards parsed in pieces: dynamicprompts takes 2 ms for each `{a|b}`, so that long ones took seconds.

What stands between the groups is text, groups of plain options are read here, and each other group is given to the
library once. The result is the library's own, command for command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamicprompts.commands import Command

_BRACES = re.compile(r"[{}]")
_ACROSS_GROUPS = re.compile(
    r"__|[$%]\{|#|/[/*]"
)  # wildcards, variables, wrappers and comments: for the library as a whole
# Options that hold text alone: no weight or method before them, no group, bound or leading space.
_OPTION = r"(?:[^\s{}|$#%~!@](?:(?!::)[^{}|$#%])*)?"
_PLAIN_GROUP = re.compile(rf"\{{{_OPTION}(?:\|{_OPTION})*\}}")


def parse_template(template: str) -> Command:
    """The library's command for a template whose braces match; pyparsing's ParseBaseException for invalid syntax."""
    from dynamicprompts.commands import LiteralCommand, SequenceCommand
    from dynamicprompts.parser.parse import parse

    if _ACROSS_GROUPS.search(template):
        return parse(template)
    tokens: list[Command] = [
        _group(piece) if piece[0] == "{" else LiteralCommand(piece) for piece in _pieces(template) if piece
    ]
    return tokens[0] if len(tokens) == 1 else SequenceCommand(tokens=tokens)


def _pieces(template: str) -> Iterator[str]:
    """The outermost groups, and the texts between them."""
    depth = start = 0
    for brace in _BRACES.finditer(template):
        opens = brace[0] == "{"
        if depth == 0 and opens:
            yield template[start : brace.start()]
            start = brace.start()
        depth += 1 if opens else -1
        if depth == 0:
            yield template[start : brace.end()]
            start = brace.end()
    yield template[start:]


@lru_cache(maxsize=4096)
def _group(group: str) -> Command:
    from dynamicprompts.commands import LiteralCommand, SequenceCommand, VariantCommand, VariantOption
    from dynamicprompts.parser.parse import parse

    if not _PLAIN_GROUP.fullmatch(group):
        return parse(group)
    options = [LiteralCommand(text) if text else SequenceCommand(tokens=[]) for text in group[1:-1].split("|")]
    return VariantCommand([VariantOption(value=option) for option in options])
