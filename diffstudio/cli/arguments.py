"""The argument parser and the types of arguments, with error messages of one sentence."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn, TypeAlias

from diffstudio.errors import BadRequest

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


def as_pair(text: str) -> tuple[float, float]:
    parts = tuple(as_number(part) for part in text.split(","))
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a pair of numbers separated by a comma")
    return parts[0], parts[1]
