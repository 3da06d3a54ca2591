"""The argument parser and the types of arguments, with error messages of one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from diffstudio.errors import BadRequest, unknown_name

VAE_HELP = "VAE to use instead of the checkpoint's own"
CLIP_SKIP_HELP = (
    "layer of the CLIP text encoder that reads the prompt: 1 is the last, 2 the one before, as in AUTOMATIC1111"
)


class Parser(argparse.ArgumentParser):
    """Raises BadRequest instead of printing the usage.

    After `add_prompt` the last positional argument can be given as `--prompt=TEXT` too, which may begin with `-`.
    """

    takes_prompt = False
    _given: Sequence[str] = ()
    _has_prompt = False  # by --prompt, which fills the place of a positional argument

    def add_prompt(self, what: str) -> None:
        """Add the positional argument PROMPT; it must be the last one."""
        self.takes_prompt = True
        self.add_argument("prompt", metavar="PROMPT", type=as_text, help=what)
        about = "instead of PROMPT, for a prompt that begins with `-`: --prompt=-text"
        self.add_argument("--prompt", metavar="T", dest="_", default=argparse.SUPPRESS, help=about)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        self._given = [str(arg) for arg in args or ()]
        if not self.takes_prompt:
            return super().parse_known_args(args, namespace)
        others, prompts = _without_prompts(self._given)
        if not prompts:
            return super().parse_known_args(args, namespace)
        self._has_prompt = True
        end = () if "--" in others else ("--",)
        found, unknown = super().parse_known_args([*others, *end, prompts[-1]], namespace)
        if unknown and unknown[-1] == prompts[-1]:  # another one was the positional argument
            if not any(one.startswith("-") and one != "--" for one in unknown[:-1]):
                self.error("two prompts were given, one of them with --prompt")
            unknown = [one for one in unknown[:-1] if one != "--"]
        return found, unknown

    def error(self, message: str) -> NoReturn:
        verb = self.prog.removeprefix("diffstudio").strip()
        help_command = f"diffstudio {verb} --help".replace("  ", " ")
        if self._has_prompt and message.endswith(" PROMPT"):
            message = message.replace("PROMPT", str(self._get_positional_actions()[-2].metavar))
        remedy = self._of_a_dash(message) or f"See `{help_command}`"
        raise BadRequest(message[:1].upper() + message[1:300].rstrip("."), remedy=remedy)

    def _of_a_dash(self, message: str) -> str:
        """How to give a value that begins with `-` and was taken for an option; empty if that is not the reason."""
        taken = [
            arg for arg in self._given if len(arg) > 1 and arg[0] == "-" and not self._is_option(arg.split("=")[0])
        ]
        if not taken or "--" in self._given:
            return ""
        value = taken[0][:80]
        if self.takes_prompt and (message.endswith(" PROMPT") or "ignored explicit argument" in message):
            return f"`{value}` was taken for an option. If it is the prompt, write `--prompt={value}`, or `-- {value}` at the end"
        before = self._given[self._given.index(taken[0]) - 1]
        if message.endswith("expected one argument") and before in message:
            return f"Write `{before}={value}` for a value that begins with `-`"
        return ""

    def _is_option(self, text: str) -> bool:
        return text in self._option_string_actions


def _without_prompts(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after taking out each `--prompt T` and `--prompt=T`, and those texts."""
    others: list[str] = []
    prompts: list[str] = []
    rest = list(given)
    while rest:
        arg = rest.pop(0)
        if arg == "--":
            return [*others, arg, *rest], prompts
        if arg.startswith("--prompt="):
            prompts.append(arg.removeprefix("--prompt="))
        elif arg == "--prompt" and rest and not rest[0].startswith("-"):
            prompts.append(rest.pop(0))
        else:
            others.append(arg)
    return others, prompts


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
        path = Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"the home folder in {text[:80]!r} is unknown") from None
    try:
        path.resolve()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"a link in {text[:80]!r} leads back to itself") from None
    except OSError:  # said where the path is used
        pass
    return path


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
    from diffstudio.studio.requests import SpacingName

    names = ", ".join(name for name in SpacingName if name is not SpacingName.CUSTOM)
    return f"scheduler, that is the spacing of the steps: {names}, or the name of a noise schedule saved in the Lab"


def with_named_schedule(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request with a saved noise schedule where `spacing` is the name of one.

    BadRequest for a schedule that cannot be read, and for a name that is neither that nor a spacing.
    """
    from diffstudio.studio.curves.saved import find_curve, saved_curves
    from diffstudio.studio.requests import SpacingName

    name = given.get("spacing")
    offered = [one.value for one in SpacingName if one is not SpacingName.CUSTOM]
    if name is None or name in offered:
        return given
    curve = find_curve(name)
    if curve is None:
        names = [*offered, *(one.name for one in saved_curves().curves)]
        raise BadRequest(unknown_name("scheduler", name), remedy=f"Choose one of {', '.join(names)}")
    return given | {"spacing": SpacingName.CUSTOM, "curve": curve}


def as_pair(text: str) -> tuple[float, float]:
    parts = tuple(as_number(part) for part in text.split(","))
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not two numbers separated by a comma")
    return parts[0], parts[1]
