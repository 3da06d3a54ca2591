"""Arguments of a command line, taken one by one from a list."""

from __future__ import annotations


def taken_values(rest: list[str], flag: str) -> list[str]:
    """The values after a flag up to the next flag; they are removed from `rest` with the flag."""
    if flag not in rest:
        return []
    first = rest.index(flag)
    last = next((place for place in range(first + 1, len(rest)) if rest[place].startswith("--")), len(rest))
    found = rest[first + 1 : last]
    del rest[first:last]
    return found


def taken(rest: list[str], flag: str) -> str | None:
    """The value after a flag, removed from `rest` with the flag; None without the flag."""
    for place, argument in enumerate(rest):
        if argument == flag and place + 1 < len(rest):
            value = rest[place + 1]
            del rest[place : place + 2]
            return value
        if argument.startswith(f"{flag}="):
            del rest[place]
            return argument[len(flag) + 1 :]
    return None
