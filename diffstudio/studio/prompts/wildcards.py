"""Wildcards and dynamic prompts: `{a|b}`, `{2$$a|b|c}` and `__name__`, drawn for each image by its own seed.

The syntax is that of the dynamicprompts library: https://github.com/adieyal/dynamicprompts/blob/main/docs/SYNTAX.md. A
wildcard is a text file with one choice a line, or a list in a YAML or JSON file, below `paths.wildcards()`;
`__animals/*__` draws from several. Sampling is always random, even where a template asks for another method (`!`, `@`),
so that an image does not depend on the others of its request. `\\{`, `\\}`, `\\_` and `\\#` stand for the characters
themselves, and so do `#`, `%`, `$`, `//` and `__` outside the syntax; a line that starts with `# ` is a comment.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

from diffstudio import paths
from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.library.lookup import similar_names
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.prompts.template_parser import parse_template
from diffstudio.studio.prompts.wildcard_lists import read_wildcard_lists, wildcard_text_file
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.limits import LONGEST_PROMPT

if TYPE_CHECKING:
    from dynamicprompts.wildcards import WildcardManager

_MOST_DRAWN = 20_000  # commands in one expansion, because a template can grow exponentially
_LARGEST_FILE_BYTES = 64 << 20
_MOST_FILES = 50_000
_TEMPLATE = re.compile(r"\{|__|\\[}_#]")
_NAME = r"__(?=\S)(?:(?!__)[^\n{}<>,:;]|\$?\{[^{}]*\})+?(?<=\S)__"  # __colour__, __animals/*__, __{warm|cold}_colours__
_SIGNS = re.compile(
    rf"\\(?P<escaped>[{{}}_#])|(?P<name>{_NAME})|(?P<open>[$%]?\{{)|(?P<close>\}})|(?P<bound>\$\$)"
    r"|(?P<comment>^[ \t]*#(?=\s)[^\n]*)|(?P<plain>[#%$\t]|__|//|/\*)",
    re.MULTILINE,
)
_PLAIN = "{}_#%$/*\t"  # replaced by the noncharacters from U+FDD0 on, which the library treats as text
_HIDDEN = {ord(character): 0xFDD0 + place for place, character in enumerate(_PLAIN)}
_SHOWN = {hidden: character for character, hidden in _HIDDEN.items()}


@dataclass(frozen=True, slots=True)
class DrawnPrompt:
    """The prompts of one image, with their wildcards expanded."""

    prompt: str
    negative: str

    def metadata(self, request: GenerateRequest) -> dict[str, str]:
        """`prompt` and `negative` for the image's metadata, where they differ from the request's."""
        both = {"prompt": (self.prompt, request.prompt), "negative": (self.negative, request.negative)}
        return {name: drawn for name, (drawn, template) in both.items() if drawn != template}


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
        """The prompts of image `index`: the same each time, unless the files change. BadRequest as in `expand`."""
        return DrawnPrompt(self._prompt(index), self._negative(index))

    def prompts(self, first: int) -> list[str]:
        """The distinct prompts of the images from number `first` on. BadRequest as in `expand`."""
        if not (self._templates and is_template(self._request.prompt)):
            return [self._request.prompt]
        return list(dict.fromkeys(self._prompt(index) for index in range(first, self._request.count)))

    def batch_size(self, first: int, most: int) -> int:
        """The number of images from `first` on, at most `most`, that share its negative prompt and can form one batch."""
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
        files = self._files if "__" in text else _no_files()
        return _expand(text, f"{self._request.seed + index} {what}", files)

    @cached_property
    def _files(self) -> WildcardManager:
        return _manager(self._folder, _stamp(self._folder))


def is_template(text: str) -> bool:
    """Whether a prompt may contain template syntax."""
    return _TEMPLATE.search(text) is not None


def escaped(text: str) -> str:
    """A template that always expands to this text."""
    return re.sub(r"[{}#]|(?<=[_\\])_|_(?=_)", r"\\\g<0>", text)


def expand(text: str, seed: str, folder: Path | None = None) -> str:
    """Expand a template to one of its prompts: the same one for the same seed.

    BadRequest for an unknown wildcard, invalid syntax, and endless recursion.
    """
    return _expand(text, seed, _files_for(text, folder or paths.wildcards())) if is_template(text) else text


def _files_for(text: str, folder: Path) -> WildcardManager:
    """The wildcard files that a template needs: they are only looked for where it names one."""
    return _manager(folder, _stamp(folder)) if "__" in text else _no_files()


def _expand(text: str, seed: str, files: WildcardManager) -> str:
    from pyparsing import ParseBaseException

    template = _hide_literals(text)
    try:
        context = _context_type().sampling_at_random(files, seed)
        prompt = "".join(str(sampled) for sampled in context.sample_prompts(template, 1)).translate(_SHOWN)
    except ParseBaseException as error:
        raise _unreadable(
            f"the syntax is invalid from {error.pstr[error.loc :][:30].translate(_SHOWN)!r} on"
        ) from error
    except RecursionError as error:
        raise _unreadable("it is nested too deeply, or a wildcard contains itself", _CORRECT_FILES) from error
    except KeyError as error:  # the library's error for an unset variable
        raise _unreadable(str(error.args[0])[:200]) from error
    except (ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise _unreadable(str(error)[:200]) from error
    if len(escaped(prompt)) > LONGEST_PROMPT:
        raise _unreadable(
            f"it expands to {len(prompt):,} characters, and the limit is {LONGEST_PROMPT:,}", _CORRECT_FILES
        )
    return prompt


def _hide_literals(text: str) -> str:
    """Replace the special characters that are no syntax here, so that the library does not interpret them."""
    open_at: list[int] = []

    def replaced(sign: re.Match[str]) -> str:
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

    hidden = _SIGNS.sub(replaced, text)
    if open_at:
        where = f"the brace before {after!r}" if (after := text[open_at[-1] + 1 :][:20]) else "the brace at its end"
        raise _unreadable(f"{where} is never closed", r"Close it, or write \{ for a literal brace")
    return hidden


_CORRECT_FILES = "Correct it, or the wildcard files"


def _unreadable(why: str, remedy: str = "Correct it, or write \\{ for a literal brace") -> BadRequest:
    return BadRequest("The wildcards in the prompt cannot be expanded", why, remedy)


class _CountingRandom(Random):
    """Counts the commands of one expansion, so that a template that grows without end is stopped."""

    drawn = 0

    def count(self) -> None:
        self.drawn += 1
        if self.drawn > _MOST_DRAWN:
            raise _unreadable("a wildcard or a variable contains itself", _CORRECT_FILES)


@lru_cache(maxsize=1)
def _context_type() -> Any:
    """The class of the library's contexts for sampling, which takes long to import."""
    from dynamicprompts.commands import Command
    from dynamicprompts.enums import SamplingMethod
    from dynamicprompts.samplers.random import RandomSampler
    from dynamicprompts.sampling_context import SamplingContext

    parsed = lru_cache(maxsize=1024)(parse_template)
    random, sampler = SamplingMethod.RANDOM, RandomSampler()

    class Bounded(SamplingContext):
        """Samples at random whatever method a command asks for, counts the commands, and parses each template once."""

        @classmethod
        def sampling_at_random(cls, files: WildcardManager, seed: str) -> Bounded:
            return cls(random, files, {random: sampler}, rand=_CountingRandom(seed))

        def sample_prompts(self, prompt: str | Command, num_prompts: int | None = None) -> Any:
            return super().sample_prompts(parsed(prompt) if isinstance(prompt, str) and prompt else prompt, num_prompts)

        def get_sampler_and_context(self, command: Any) -> Any:
            assert isinstance(self.rand, _CountingRandom)
            self.rand.count()
            return self.default_sampler, self

    return Bounded


@lru_cache(maxsize=1)
def _no_files() -> WildcardManager:
    """For templates that name no wildcard."""
    from dynamicprompts.wildcards import WildcardManager

    return WildcardManager(root_map={})


_Stamp: TypeAlias = tuple[tuple[Path, int, int], ...]


def _stamp(folder: Path) -> _Stamp:
    """The wildcard files below a folder, with their times of modification in ns and sizes in bytes."""
    return tuple(_files_below(folder))


@lru_cache(maxsize=4)
def _manager(folder: Path, stamp: _Stamp) -> WildcardManager:
    """The wildcards below a folder; read again when its files change."""
    from dynamicprompts.wildcards import WildcardManager
    from dynamicprompts.wildcards.item import WildcardItem
    from dynamicprompts.wildcards.values import WildcardValues

    collections, broken = _collections(folder, stamp)

    class Files(WildcardManager):
        """Raises BadRequest for an unknown wildcard, which the library would leave in the prompt."""

        def get_values(self, wildcard: str) -> WildcardValues:
            try:
                values = super().get_values(wildcard) if ".." not in wildcard else None
            except (OSError, UnicodeError) as error:
                raise BadRequest(
                    f"The wildcard {wildcard.translate(_SHOWN)!r} cannot be read",
                    (error.strerror if isinstance(error, OSError) else "") or str(error),
                    "Save it as UTF-8" if isinstance(error, UnicodeError) else "Check the file",
                ) from error
            if not values:
                raise _missing_wildcard(wildcard.translate(_SHOWN), folder, list(collections), broken)
            return WildcardValues.from_items(
                WildcardItem(_hide_literals(item.content), item.weight)
                if isinstance(item, WildcardItem)
                else _hide_literals(str(item))
                for item in values.items
            )

    return Files(root_map={"": [collections]})


def _missing_wildcard(name: str, folder: Path, names: list[str], broken: list[str]) -> BadRequest:
    near = similar_names(name, names, most=1, cutoff=0.6) or [other for other in names if name and name in other][:1]
    why = "; ".join([f"no file below {folder} has that name", *broken[:2]])
    remedy = f"The nearest name is __{near[0]}__" if near else f"Put a file {name}.txt there, with one choice a line"
    return BadRequest(f"There is no wildcard __{name}__", why, remedy)


def _collections(folder: Path, stamp: _Stamp) -> tuple[dict[str, Any], list[str]]:
    """The wildcards by name, and a clause for each file that could not be read."""
    found: dict[str, Any] = {}
    broken: list[str] = []
    for file, _, size in stamp:
        name = file.relative_to(folder).with_suffix("").as_posix()
        if size > _LARGEST_FILE_BYTES:
            broken.append(f"{file.name} is larger than {_LARGEST_FILE_BYTES >> 20} MiB")
            continue
        if file.suffix == ".txt":
            found[name] = wildcard_text_file(file)
            continue
        try:
            lists = read_wildcard_lists(file)
        except (OSError, ValueError, RecursionError) as error:
            reason = str(error).splitlines()[0][:80] if str(error) else "nested too deeply"
            broken.append(f"{file.name} cannot be read ({reason})")
            continue
        within = file.parent.relative_to(folder).as_posix()
        found |= {key if within == "." else f"{within}/{key}": values for key, values in lists.items()}
    return found, broken


def _files_below(folder: Path) -> Iterator[tuple[Path, int, int]]:
    count = 0
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(here, name)
            if file.suffix not in (".txt", ".yaml", ".json"):
                continue
            with suppress(OSError):  # a broken link, or deleted since it was listed
                about = file.stat()
                if stat.S_ISREG(about.st_mode):
                    count += 1
                    if count > _MOST_FILES:
                        return
                    yield file, about.st_mtime_ns, about.st_size
