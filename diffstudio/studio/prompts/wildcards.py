"""Wildcards: `{a|b}`, `{2$$a|b|c}` and `__name__` in prompts, drawn anew for each image by its own seed.

The grammar is the dynamicprompts library's: https://github.com/adieyal/dynamicprompts/blob/main/docs/SYNTAX.md. A
wildcard is a text file with a choice on each line, or a list in a YAML or JSON file, below `paths.wildcards()`;
`__animals/*__` draws from several. What is drawn is random whatever the template asks for (`!`, `@`), so that an image
does not hang on its neighbours. `\\{`, `\\}`, `\\_` and `\\#` are the characters themselves, and so are `#`, `%`, `$`,
`//` and `__` where they begin nothing; a line that begins with `# ` is a comment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.lookup import similar_names
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.requests import LONGEST_PROMPT, GenerateRequest

if TYPE_CHECKING:
    from dynamicprompts.wildcards import WildcardManager

_MOST_DRAWN = 20_000  # commands in one expansion: a template can double itself
_LARGEST_FILE_BYTES = 64 << 20
_MOST_FILES = 50_000
_TEMPLATE = re.compile(r"\{|__|\\[}_#]")
_NAME = r"__(?=\S)(?:(?!__)[^\n{}<>,:;]|\$?\{[^{}]*\})+?(?<=\S)__"  # __colour__, __animals/*__, __{warm|cold}_colours__
_SIGNS = re.compile(
    rf"\\(?P<escaped>[{{}}_#])|(?P<name>{_NAME})|(?P<open>[$%]?\{{)|(?P<close>\}})|(?P<bound>\$\$)"
    r"|(?P<comment>^[ \t]*#(?=\s)[^\n]*)|(?P<plain>[#%$\t]|__|//|/\*)",
    re.MULTILINE,
)
_PLAIN = "{}_#%$/*\t"  # stand in the noncharacters from U+FDD0 on, which the library takes for text
_HIDDEN = {ord(character): 0xFDD0 + place for place, character in enumerate(_PLAIN)}
_SHOWN = {hidden: character for character, hidden in _HIDDEN.items()}


@dataclass(frozen=True, slots=True)
class DrawnPrompt:
    """The prompts of one image, with their wildcards drawn."""

    prompt: str
    negative: str

    def metadata(self, request: GenerateRequest) -> dict[str, str]:
        """`prompt` and `negative` for the image's metadata, where they differ from the request's."""
        asked = {"prompt": (self.prompt, request.prompt), "negative": (self.negative, request.negative)}
        return {name: drawn for name, (drawn, template) in asked.items() if drawn != template}


class PromptVariants:
    """The prompts of each image of a request. Wildcard files are read once, when a prompt first needs them.

    The prompt of a class-conditional checkpoint is the name of a class and is never read as a template.
    """

    def __init__(
        self, request: GenerateRequest, checkpoint: Checkpoint | None = None, folder: Path | None = None
    ) -> None:
        self._request, self._folder = request, folder or paths.wildcards()
        self._templates = checkpoint is None or checkpoint.conditioning is not Conditioning.CLASS

    def of(self, index: int) -> DrawnPrompt:
        """The prompts of image `index`: always the same, as long as the files stay the same. BadRequest as in `expand`."""
        return DrawnPrompt(self._prompt(index), self._negative(index))

    def prompts(self, first: int) -> list[str]:
        """The distinct prompts of the images from number `first` on. BadRequest as in `expand`."""
        if not (self._templates and is_template(self._request.prompt)):
            return [self._request.prompt]
        return list(dict.fromkeys(self._prompt(index) for index in range(first, self._request.count)))

    def batch_size(self, first: int, most: int) -> int:
        """How many of the `most` images from `first` on have the negative prompt of the first, and so fit into one
        batch.
        """
        if not (self._templates and is_template(self._request.negative)):
            return most
        negative = self._negative(first)
        return next((later for later in range(1, most) if self._negative(first + later) != negative), most)

    def _prompt(self, index: int) -> str:
        return self._expanded(self._request.prompt, index, "prompt")

    def _negative(self, index: int) -> str:
        return self._expanded(self._request.negative, index, "negative")

    def _expanded(self, text: str, index: int, what: str) -> str:
        if not (self._templates and is_template(text)):
            return text
        return _expand(text, f"{self._request.seed + index} {what}", self._files)

    @cached_property
    def _files(self) -> WildcardManager:
        return _manager(self._folder)


def is_template(text: str) -> bool:
    """Whether it may mean something else than what it says."""
    return _TEMPLATE.search(text) is not None


def escaped(text: str) -> str:
    """The template that always means this text."""
    return re.sub(r"[{}#]|(?<=[_\\])_|_(?=_)", r"\\\g<0>", text)


def expand(text: str, seed: str, folder: Path | None = None) -> str:
    """One of the prompts that a template stands for, always the same one for a seed.

    BadRequest, in one sentence, for a wildcard that no file has, a template that is not whole, and one without end.
    """
    return _expand(text, seed, _manager(folder or paths.wildcards())) if is_template(text) else text


def _expand(text: str, seed: str, files: WildcardManager) -> str:
    from dynamicprompts.enums import SamplingMethod
    from dynamicprompts.samplers.random import RandomSampler
    from pyparsing import ParseBaseException

    random = SamplingMethod.RANDOM
    context = _bounded_context()(random, files, {random: RandomSampler()}, rand=_Dice(seed))
    hidden = _hidden(text)
    try:
        made = "".join(str(sampled) for sampled in context.sample_prompts(hidden, 1)).translate(_SHOWN)
    except ParseBaseException as error:
        raise _unreadable(
            f"the part from {error.pstr[error.loc :][:30].translate(_SHOWN)!r} on makes no sense"
        ) from error
    except RecursionError as error:
        raise _unreadable("it is nested too deeply, or a wildcard contains itself", _NO_END) from error
    except KeyError as error:  # how the library says that a variable was not set
        raise _unreadable(str(error.args[0])[:200]) from error
    except (ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise _unreadable(str(error)[:200]) from error
    if len(escaped(made)) > LONGEST_PROMPT:
        raise _unreadable(
            f"what it stands for has {len(made):,} characters, and at most {LONGEST_PROMPT:,} are read", _NO_END
        )
    return made


def _hidden(text: str) -> str:
    """The text with all that begins no template put where the library does not see it."""
    open_at: list[int] = []

    def seen(sign: re.Match[str]) -> str:
        match sign.lastgroup:
            case "escaped":
                return sign["escaped"].translate(_HIDDEN)
            case "open":
                open_at.append(sign.start())
            case "close" if open_at:
                open_at.pop()
            case "close" | "plain":
                return sign[0].translate(_HIDDEN)
            case "bound" if not open_at:
                return sign[0].translate(_HIDDEN)
            case "comment":
                return ""
        return sign[0]

    hidden = _SIGNS.sub(seen, text)
    if open_at:
        where = f"the brace before {rest!r}" if (rest := text[open_at[-1] + 1 :][:20]) else "the brace at its end"
        raise _unreadable(f"{where} is never closed", r"Close it, or write \{ for a brace that means nothing")
    return hidden


_NO_END = "Correct it, or the files that it draws from"


def _unreadable(why: str, remedy: str = "Correct it, or write \\{ for a brace that means nothing") -> BadRequest:
    return BadRequest("The choices in the prompt cannot be drawn", why, remedy)


class _Dice(Random):
    """Counts, so that a template that doubles itself comes to an end."""

    drawn = 0

    def count(self) -> None:
        self.drawn += 1
        if self.drawn > _MOST_DRAWN:
            raise _unreadable("a wildcard or a variable repeats itself without end", _NO_END)


def _bounded_context() -> Any:
    from dynamicprompts.sampling_context import SamplingContext

    class Bounded(SamplingContext):
        """Draws at random whatever a command asks for, and counts."""

        def get_sampler_and_context(self, command: Any) -> Any:
            assert isinstance(self.rand, _Dice)
            self.rand.count()
            return self.default_sampler, self

    return Bounded


def _manager(folder: Path) -> WildcardManager:
    """The wildcards below a folder."""
    from dynamicprompts.wildcards import WildcardManager
    from dynamicprompts.wildcards.item import WildcardItem
    from dynamicprompts.wildcards.values import WildcardValues

    collections, broken = _collections(folder)

    class Files(WildcardManager):
        """Knows no silence: a name that stands for nothing is said."""

        def get_values(self, wildcard: str) -> WildcardValues:
            try:
                values = super().get_values(wildcard) if ".." not in wildcard else None
            except OSError as error:
                raise BadRequest(
                    f"The wildcard {wildcard.translate(_SHOWN)!r} cannot be read",
                    error.strerror or str(error),
                    "Check the file",
                ) from error
            if not values:
                raise _nothing_called(wildcard.translate(_SHOWN), folder, list(collections), broken)
            return WildcardValues.from_items(
                WildcardItem(_hidden(item.content), item.weight)
                if isinstance(item, WildcardItem)
                else _hidden(str(item))
                for item in values.items
            )

    return Files(root_map={"": [collections]})


def _nothing_called(name: str, folder: Path, names: list[str], broken: list[str]) -> BadRequest:
    near = similar_names(name, names, most=1, cutoff=0.6) or [other for other in names if name and name in other][:1]
    why = "; ".join([f"nothing below {folder} is called that", *broken[:2]])
    remedy = (
        f"Write __{near[0]}__, if that was meant" if near else f"Put a file {name}.txt there with a choice on each line"
    )
    return BadRequest(f"There is no wildcard __{name}__", why, remedy)


def _collections(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What each name stands for, and what could not be read."""
    from dynamicprompts.wildcards.collection import WildcardTextFile
    from dynamicprompts.wildcards.collection.structured import parse_structured_file
    from yaml import YAMLError  # type: ignore[import-untyped]

    found: dict[str, Any] = {}
    broken: list[str] = []
    for file in _files_below(folder):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if file.suffix == ".txt":
            found[name] = WildcardTextFile(file, encoding="utf-8-sig")
            continue
        try:
            lists = dict(parse_structured_file(file))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, YAMLError) as error:
            broken.append(
                f"{file.name} cannot be read ({str(error).splitlines()[0][:80] if str(error) else 'too deep'})"
            )
            continue
        within = file.parent.relative_to(folder).as_posix()
        found |= {key if within == "." else f"{within}/{key}": values for key, values in lists.items()}
    return found, broken


def _files_below(folder: Path) -> Iterator[Path]:
    count = 0
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(here, name)
            if (
                file.suffix in (".txt", ".yaml", ".json")
                and file.is_file()
                and file.stat().st_size <= _LARGEST_FILE_BYTES
            ):
                count += 1
                if count > _MOST_FILES:
                    return
                yield file
