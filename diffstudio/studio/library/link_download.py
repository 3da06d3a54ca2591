"""Fetches a model file from a link: looked up, downloaded with resuming, checked, and imported. No torch.

Both steps run in a child process, whose program is link_receiver.py, and only when the user asks for them. What has been
downloaded is in a hidden folder of the models folder until it is complete and the importer has accepted it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from dataclasses import replace as change
from pathlib import Path
from typing import Any

from diffstudio.atomic import replace, write_text
from diffstudio.errors import BadRequest, CheckpointMissing, CheckpointProblem, Interrupted, StorageProblem
from diffstudio.models.components.download_process import (
    CONNECTION_LOST,
    LOCK,
    PARTIAL_FOLDER,
    ChildOutput,
    interrupted,
    run_download,
)
from diffstudio.storage_errors import not_written, storage_errors
from diffstudio.studio.library.importing import import_file
from diffstudio.studio.library.links import FileLink
from diffstudio.studio.library.model_files import RESERVED

FORMAT = 1
_LINKS, ABOUT, PART = "links", "link.json", "part"
_RECEIVER = "diffstudio.studio.library.link_receiver"  # the program of the child process
_LOOK_UP_SECONDS = 90.0  # in all
_LONGEST_NAME = 150  # bytes of a file's name in UTF-8; file systems allow 255, and the import may add to it
NO_ANSWER = "it does not answer"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the web, as its server describes it."""

    url: str
    host: str  # of the link
    name: str
    size_bytes: int = 0  # 0 if the server does not say
    served_by: str = ""  # the host that sends it, where the link is redirected to another one
    sha256: str = ""  # if the server states it
    version: str = ""  # its ETag or date: a download is resumed only while it stays the same


@dataclass(frozen=True, slots=True)
class UnfinishedDownload:
    remote: RemoteFile
    done_bytes: int


def look_up(link: FileLink, cancelled: Callable[[], bool] = lambda: False) -> RemoteFile:
    """Ask the server for the name and the size of a file; nothing of the file itself is kept.

    CheckpointMissing where the server cannot be reached or has no such file, BadRequest for a web page, Interrupted.
    """
    output = _Output(link.host)
    if not run_download([_RECEIVER, "look-up", link.url, link.host], output.read, cancelled, _LOOK_UP_SECONDS):
        raise CheckpointMissing(*failed(link.host, NO_ANSWER))
    if output.remote is None:
        raise output.problem or output.lost()
    return output.remote


def fetch(
    remote: RemoteFile,
    folder: Path,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Download a file, import it into the models folder `folder`, and return its new path.

    `on_progress` gets the bytes so far and in total. Interrupted soon after `cancelled()` becomes true, and
    CheckpointMissing when the connection is lost: the next call resumes the download. What is not a model file is
    deleted, with the importer's errors. StorageProblem where the disk is full or cannot be written to; what has been
    downloaded is kept then.
    """
    place = _place(folder, remote)
    with storage_errors(not_written(place), folder):
        place.mkdir(parents=True, exist_ok=True)
    write_text(place / ABOUT, json.dumps({"format": FORMAT, **asdict(remote)}))
    part, whole = place / PART, place / remote.name
    if not (whole.exists() and remote.size_bytes in (0, whole.stat().st_size)):  # else the import did not end
        output = _Output(remote.host, on_progress)
        run_download([_RECEIVER, "fetch", str(place), remote.host], output.read, cancelled)
        if not output.complete:
            raise output.problem or output.lost()
        with storage_errors(not_written(place), folder):
            replace(part, whole)
    try:
        path = _imported(whole, folder, cancelled)
    except (CheckpointProblem, BadRequest):
        discard(remote, folder)
        raise
    except (StorageProblem, Interrupted):
        with suppress(OSError):
            replace(whole, part)
        raise
    discard(remote, folder)
    return path


def _imported(whole: Path, folder: Path, cancelled: Callable[[], bool]) -> Path:
    with closing(import_file(whole, folder, move=True)) as steps:
        for item in steps:
            if isinstance(item, Path):
                return item
            if cancelled():
                raise interrupted()
    raise AssertionError("the import yields the path last")


def unfinished(folder: Path) -> list[UnfinishedDownload]:
    """The downloads into a models folder that were interrupted, by name."""
    return sorted(_unfinished(folder), key=lambda one: one.remote.name)


def discard(remote: RemoteFile, folder: Path) -> None:
    """Delete what has been downloaded of a file. Never raises."""
    place = _place(folder, remote)
    shutil.rmtree(place, ignore_errors=True)
    for parent in (place.parent, place.parent.parent):
        with suppress(OSError):
            parent.rmdir()  # unless another download is there


def _unfinished(folder: Path) -> Iterator[UnfinishedDownload]:
    for about in (folder / PARTIAL_FOLDER / _LINKS).glob(f"*/{ABOUT}"):
        try:
            remote = read_about(about)
            if remote is not None and _place(folder, remote) == about.parent:
                yield UnfinishedDownload(remote, _done_bytes(about.parent, remote))
        except ValueError:
            shutil.rmtree(about.parent, ignore_errors=True)  # damaged: it could not be resumed
        except OSError:
            continue  # it may be readable the next time


def _done_bytes(place: Path, remote: RemoteFile) -> int:
    return max((path.stat().st_size for path in (place / PART, place / remote.name) if path.exists()), default=0)


def read_about(about: Path) -> RemoteFile | None:
    """The record of a download that has been started; None for one of a newer version. OSError, ValueError if damaged."""
    try:
        values = json.loads(about.read_text(encoding="utf-8"))
        stored_format = values.pop("format")
        if isinstance(stored_format, int) and stored_format > FORMAT:
            return None
        if stored_format != FORMAT:
            raise ValueError(f"{about} has no known format")
        remote = RemoteFile(**values)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{about} is damaged") from error
    texts = remote.url, remote.host, remote.name, remote.served_by, remote.sha256, remote.version
    if not all(isinstance(text, str) for text in texts) or not isinstance(remote.size_bytes, int):
        raise ValueError(f"{about} has values of other types")
    return change(remote, name=safe_name(remote.name))


def _place(folder: Path, remote: RemoteFile) -> Path:
    return folder / PARTIAL_FOLDER / _LINKS / hashlib.sha256(remote.url.encode()).hexdigest()[:16]


class _Output(ChildOutput):
    def __init__(self, host: str, on_progress: Callable[[int, int], None] = lambda done, of: None) -> None:
        super().__init__("this file", on_progress)
        self._host = host
        self.remote: RemoteFile | None = None
        self.complete = False

    def take(self, message: Mapping[str, Any]) -> None:
        if "remote" in message:
            self.remote = RemoteFile(**message["remote"])
        elif "complete" in message:
            self.complete = True
        elif "refused" in message:
            self.problem = BadRequest(*message["refused"])
        elif "problem" in message:
            what, why, remedy = message["problem"]
            self.problem = CheckpointMissing(what, why, remedy)

    def lost(self) -> CheckpointMissing:
        return CheckpointMissing(*failed(self._host))


def failed(host: str, why: str = CONNECTION_LOST) -> tuple[str, str, str]:
    """What, why and remedy for a server that does not send the file."""
    return f"The file could not be downloaded from {host}", why, "Check the connection, then try again"


def safe_name(name: str) -> str:
    """The name of a file that a server suggests, as one that is valid on every system and not hidden.

    At most _LONGEST_NAME bytes; a name that was made safe stays as it is.
    """
    name = name.encode("utf-8", "replace").decode().replace("\\", "/").rpartition("/")[2]
    before = None
    while before != name:
        before, name = name, _safer(name)
    return name if name.lower() not in ("", ABOUT, PART, LOCK) else "model"


def _safer(name: str) -> str:
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]+', "_", name).strip(" .")
    if name.partition(".")[0].rstrip().lower() in RESERVED:
        name = f"_{name}"
    if len(name.encode()) > _LONGEST_NAME:
        stem, dot, suffix = name.rpartition(".")
        ending = f"{dot}{_cut(suffix, 16)}" if stem else ""
        name = _cut(stem or suffix, _LONGEST_NAME - len(ending.encode())).rstrip(" .") + ending
    return name


def _cut(text: str, most_bytes: int) -> str:
    """Its first whole characters that take at most so many bytes in UTF-8."""
    return text.encode()[:most_bytes].decode(errors="ignore")
