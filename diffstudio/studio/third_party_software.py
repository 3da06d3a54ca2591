"""What the program is made of: versions, and the licences of its packages and of the files that ship with it. No torch.

Licences are found by listing the installed packages and the resources folder, so that none is forgotten.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, version
from pathlib import Path

from diffstudio import __version__, paths

_PROGRAM = "diffstudio"
_NOTICE = re.compile(r"(^|[-_.])(licen[cs]es?|copying|notice|ofl|authors)([-_.]|$)", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_SHOWN = ("torch", "diffusers", "transformers", "peft", "safetensors", "PySide6-Essentials")
_LONGEST_NAME = 60  # characters of a licence's name: some packages give the whole text there


@dataclass(frozen=True, slots=True)
class ThirdPartySoftware:
    """A package, or files in the resources folder, with its licence."""

    name: str
    version: str  # empty for files
    licence: str  # its name, as far as the package says
    notices: tuple[Path, ...]  # the files of its licence texts

    def text(self) -> str:
        """The licence texts, one after the other; empty when the package carries none."""
        texts = []
        for notice in self.notices:
            try:
                texts.append(f"{notice.name}\n\n{notice.read_text(encoding='utf-8', errors='replace').strip()}")
            except OSError:
                continue  # removed since it was listed
        return "\n\n\n".join(texts)


def versions() -> list[tuple[str, str]]:
    """(name, version) of the program, Python, and the packages that matter in a report of a problem."""
    found = [(_PROGRAM, __version__), ("Python", platform.python_version()), ("System", platform.platform())]
    for name in _SHOWN:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    return found


def all_software() -> list[ThirdPartySoftware]:
    """The program, what it ships, and every installed package that it needs, directly or through another."""
    return [_program(), *_resources(), *_packages()]


def _program() -> ThirdPartySoftware:
    root = paths.resources().parent  # of a checkout
    notices = [root / name for name in ("LICENSE", "NOTICE")]
    if not all(notice.is_file() for notice in notices):
        notices = _notices(_distribution(_PROGRAM))
    return ThirdPartySoftware(_PROGRAM, __version__, "Apache-2.0", tuple(notices))


def _resources() -> list[ThirdPartySoftware]:
    """One for each folder of the resources that holds a licence text."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(paths.resources().rglob("*")):
        if path.is_file() and path.suffix.lower() in ("", ".txt", ".md") and _NOTICE.search(path.stem):
            folders.setdefault(path.parent, []).append(path)
    return [
        ThirdPartySoftware(folder.relative_to(paths.resources()).as_posix(), "", notices[0].stem, tuple(notices))
        for folder, notices in folders.items()
    ]


def _packages() -> list[ThirdPartySoftware]:
    found = [_from_package(each) for each in _needed()]
    return sorted(found, key=lambda each: each.name.casefold())


def _from_package(package: Distribution) -> ThirdPartySoftware:
    return ThirdPartySoftware(package.metadata["Name"], package.version, _licence(package), tuple(_notices(package)))


def _needed() -> list[Distribution]:
    """The packages that the program requires, and those that these require; all, if it is not installed itself."""
    program = _distribution(_PROGRAM)
    if program is None:
        by_name = {str(each.metadata["Name"]).casefold(): each for each in distributions()}
        return list(by_name.values())
    needed: dict[str, Distribution] = {}
    queue = list(_requirements(program))
    while queue:
        name = queue.pop()
        if name in needed or (package := _distribution(name)) is None:  # for another system, or an extra
            continue
        needed[name] = package
        queue += _requirements(package)
    return list(needed.values())


def _requirements(package: Distribution) -> Iterable[str]:
    for line in package.requires or ():
        if "extra ==" not in line and (match := _NAME.match(line)):
            yield re.sub(r"[-_.]+", "-", match.group()).casefold()


def _distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _licence(package: Distribution) -> str:
    """The SPDX expression, the name, or the classifiers of a package's licence."""
    metadata = package.metadata
    for field in ("License-Expression", "License"):
        text = str((metadata.get_all(field) or [""])[0]).strip()
        if text and "\n" not in text and len(text) <= _LONGEST_NAME:
            return text
    classifiers = metadata.get_all("Classifier") or []
    names = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")]
    return ", ".join(names) or "see its text"


def _notices(package: Distribution | None) -> list[Path]:
    found = []
    for file in (package.files or ()) if package is not None else ():
        if _NOTICE.search(file.name.rsplit(".", 1)[0]) and file.suffix.lower() in (
            "",
            ".txt",
            ".md",
            ".rst",
            ".bsd",
            ".mit",
        ):
            found.append(Path(str(file.locate())))
    return [path for path in found if path.is_file()]


def device_name(setting: str) -> str:
    """The device that images are computed on, as torch names it: `NVIDIA H100`, or the processor. Imports torch."""
    from diffstudio.models.memory.devices import choose_device, device_title

    return device_title(choose_device(setting))
