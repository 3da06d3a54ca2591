"""The argument parser and the types of arguments, with error messages of one sentence."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from diffstudio.errors import BadRequest, unknown_name

Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"  # what `add_subparsers` returns
VAE_HELP = "VAE to use instead of the checkpoint's own"
CLIP_SKIP_HELP = (
    "layer of the CLIP text encoder that reads the prompt: 1 is the last, 2 the one before, as in AUTOMATIC1111"
)


class Parser(argparse.ArgumentParser):
    """Raises BadRequest instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        verb = self.prog.removeprefix("diffstudio").strip()
        help_command = f"diffstudio {verb} --help".replace("  ", " ")
        raise BadRequest(message[:1].upper() + message[1:300].rstrip("."), remedy=f"See `{help_command}`")


def as_text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is not text in UTF-8") from None
    return text


def as_path(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("the path is empty")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"the home folder in {text[:80]!r} is unknown") from None


def as_whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        if len(text) > 40 and text.isdecimal():
            raise argparse.ArgumentTypeError(f"a number of {len(text):,} digits is too large") from None
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number") from None


def as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number") from None


def spacing_help() -> str:
    """The names of spacings for the help of a verb."""
    from diffstudio.studio.request_choices import SpacingName

    names = ", ".join(name for name in SpacingName if name is not SpacingName.CUSTOM)
    return f"scheduler, that is the spacing of the steps: {names}, or the name of a noise schedule saved in the Lab"


def with_named_schedule(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request with a saved noise schedule where `spacing` is the name of one.

    BadRequest for a schedule that cannot be read, and for a name that is neither that nor a spacing.
    """
    from diffstudio.studio.curves.saved import find_curve, saved_curves
    from diffstudio.studio.request_choices import SpacingName

    name = given.get("spacing")
    offered = [one.value for one in SpacingName if one is not SpacingName.CUSTOM]
    if name is None or name in offered:
        return given
    curve = find_curve(name)
    if curve is None:
        names = [*offered, *(one.name for one in saved_curves().curves)]
        raise BadRequest(unknown_name("spacing", name), remedy=f"Choose one of {', '.join(names)}")
    return given | {"spacing": SpacingName.CUSTOM, "curve": curve}


def as_pair(text: str) -> tuple[float, float]:
    parts = tuple(as_number(part) for part in text.split(","))
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not two numbers separated by a comma")
    return parts[0], parts[1]
