"""SwarmUI's prompt directives, such as `<fromto[0.5]:cat, dog>`, in the prompt syntax used here. No torch.

Source: "Advanced Prompt Syntax" in SwarmUI's documentation.
"""

from __future__ import annotations

import re

_DIRECTIVE = re.compile(r"<(\w+)(?:\[([^\[\]<>]*)\])?(?::([^<>]*))?>")  # an innermost one: name, [value], content
_OTHER_PROMPT = ("segment", "object", "region", "refiner", "base", "video", "videoswap", "extend")  # up to its end
_WITHOUT_EQUAL = [
    "random",
    "wildcard",
    "preset",
    "repeat",
    "setvar",
    "var",
    "setmacro",
    "macro",
    "param",
    "trigger",
    "clear",
    "fromto",
    "alternate",
]
_KEPT = ("lora", "embed", "embedding")
_ASIDE, _CUT = "\x00", "\x01"  # mark what is set aside, and where another pass begins


def read_prompt(text: str) -> tuple[str, list[str]]:
    """The prompt in AUTOMATIC1111's syntax, and the directives that have no equal in it, as phrases.

    `<alternate:a, b>` becomes `[a|b]`, `<fromto[0.5]:a, b>` becomes `[a:b:0.5]`. Text after `<segment:…>` and the like
    is the prompt of another pass, and is cut off.
    """
    left_out: list[str] = []
    done: list[str] = []  # pieces set aside while what encloses them is read, so that their marks separate nothing

    def aside(piece: str) -> str:
        done.append(piece)
        return f"{_ASIDE}{len(done) - 1}{_ASIDE}"

    def replaced(match: re.Match[str]) -> str:
        name, value, content = match[1].lower(), match[2], match[3] or ""
        parts = _parts(content)
        if name in _KEPT:
            return aside(match[0])
        if name == "alternate" and len(parts) > 1:
            return aside(f"[{'|'.join(parts)}]")
        if name == "fromto" and len(parts) == 2 and _is_step(value):
            return aside(f"[{parts[0]}:{parts[1]}:{value}]")
        if name == "break":
            return " BREAK "
        if name in _OTHER_PROMPT:
            return f"{_CUT}{name}{_CUT}"
        if name in _WITHOUT_EQUAL:
            left_out.append(_phrase(name))
        return "" if name in (*_WITHOUT_EQUAL, "comment") else match[0]

    text = text.replace(_ASIDE, "").replace(_CUT, "")
    while (changed := _DIRECTIVE.sub(replaced, text)) != text:
        text = changed
    while _ASIDE in text:
        text = re.sub(rf"{_ASIDE}(\d+){_ASIDE}", lambda match: done[int(match[1])], text)
    text, *others = re.split(rf"{_CUT}(\w+){_CUT}", text)
    left_out += map(_phrase, others[::2])
    return text.strip(), list(dict.fromkeys(left_out))


def _phrase(name: str) -> str:
    return f"<{name}> of the prompt"


def _parts(content: str) -> list[str]:
    """The choices in a directive: separated by `||`, otherwise by `|`, otherwise by commas."""
    separator = next((mark for mark in ("||", "|") if mark in content), ",")
    return [part.strip() for part in content.split(separator)]


def _is_step(value: str | None) -> bool:
    """A number of steps, or a fraction of them."""
    return value is not None and re.fullmatch(r"\d+(?:\.\d*)?|\.\d+", value) is not None
