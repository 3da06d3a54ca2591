"""Fetches a model file from a link: looked up, downloaded with resuming, checked, and imported. No torch.

Both steps run in a child process with this module as its program, and only when the user asks for them. What has been
downloaded lies in a hidden folder of the models folder until it is complete and the importer has accepted it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from diffstudio import __version__
from diffstudio.atomic import disk_is_full, not_written, replace, storage_errors, write_text
from diffstudio.errors import FREE_SPACE_OR_FOLDER, BadRequest, CheckpointMissing, DiffstudioError, StorageProblem
from diffstudio.models.components.download_process import (
    CONNECTION_LOST,
    PARTIAL_FOLDER,
    report,
    reported_size,
    run_download,
)
from diffstudio.models.files.file_access import first_line
from diffstudio.studio.library.importing import import_file
from diffstudio.studio.library.links import FileLink

if TYPE_CHECKING:
    import requests

FORMAT = 1
_LINKS, _ABOUT, _PART = "links", "link.json", "part"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 20.0, 60.0  # to connect; for the next bytes
_LONGEST_NAME = 150  # characters of a file's name
_IN_A_BROWSER = "Download it in a web browser, and add the file"


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
    run_download([__name__, "look-up", link.url, link.host], output.read, cancelled)
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
    deleted, with the importer's errors. StorageProblem where the disk is full or cannot be written to.
    """
    place = _place(folder, remote)
    with storage_errors(not_written(place), folder):
        place.mkdir(parents=True, exist_ok=True)
    write_text(place / _ABOUT, json.dumps({"format": FORMAT, **asdict(remote)}))
    output = _Output(remote.host, on_progress)
    run_download([__name__, "fetch", str(place), remote.host], output.read, cancelled)
    if not output.complete:
        raise output.problem or output.lost()
    whole = place / remote.name
    with storage_errors(not_written(place), folder):
        replace(place / _PART, whole)
    try:
        for item in import_file(whole, folder):
            if isinstance(item, Path):
                return item
        raise AssertionError("the import yields the path last")
    finally:
        discard(remote, folder)


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
    for about in (folder / PARTIAL_FOLDER / _LINKS).glob(f"*/{_ABOUT}"):
        remote = _read_about(about)
        if remote is None or _place(folder, remote) != about.parent:
            shutil.rmtree(about.parent, ignore_errors=True)  # damaged: it could not be resumed
        else:
            part = about.with_name(_PART)
            yield UnfinishedDownload(remote, part.stat().st_size if part.exists() else 0)


def _read_about(about: Path) -> RemoteFile | None:
    try:
        values = json.loads(about.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            return None
        remote = RemoteFile(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    texts = remote.url, remote.host, remote.name, remote.served_by, remote.sha256, remote.version
    sound = all(isinstance(text, str) for text in texts) and isinstance(remote.size_bytes, int)
    return remote if sound and remote.name == _safe_name(remote.name) else None


def _place(folder: Path, remote: RemoteFile) -> Path:
    return folder / PARTIAL_FOLDER / _LINKS / hashlib.sha256(remote.url.encode()).hexdigest()[:16]


class _Output:
    """Reads the child process's progress and result, a line of JSON at a time."""

    def __init__(self, host: str, on_progress: Callable[[int, int], None] = lambda done, of: None) -> None:
        self._host, self._on_progress = host, on_progress
        self.remote: RemoteFile | None = None
        self.complete = False
        self.problem: DiffstudioError | None = None

    def read(self, line: str) -> None:
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            return  # printed by a library
        if "done" in message:
            self._on_progress(int(message["done"]), int(message["of"]))
        elif "remote" in message:
            self.remote = RemoteFile(**message["remote"])
        elif "complete" in message:
            self.complete = True
        elif "full" in message:
            self.problem = StorageProblem(
                "There is not enough disk space for this file",
                f"it takes {int(message['full']) / 1e9:.1f} GB",
                FREE_SPACE_OR_FOLDER,
            )
        elif "refused" in message:
            self.problem = BadRequest(*message["refused"])
        elif "problem" in message:
            what, why, remedy = message["problem"]
            self.problem = CheckpointMissing(what, why, remedy)

    def lost(self) -> CheckpointMissing:
        return CheckpointMissing(*_failed(self._host))


def _failed(host: str, why: str = CONNECTION_LOST) -> tuple[str, str, str]:
    return f"The file could not be downloaded from {host}", why, "Check the connection, then try again"


def _safe_name(name: str) -> str:
    """The name of a file that a server suggests, as one that is valid on every system and not hidden."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]+', "_", name.replace("\\", "/").rpartition("/")[2]).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    if len(name) > _LONGEST_NAME:
        name = f"{(stem or name)[: _LONGEST_NAME - 20]}{dot}{suffix[:16]}"
    return name if name not in ("", _ABOUT, _PART) else "model"


# ---- the child process -----------------------------------------------------------------------------------------------


def _session() -> requests.Session:
    import requests

    class Session(requests.Session):
        """Follows redirects to http(s) only, and never from https to http."""

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            target = super().get_redirect_target(resp)
            if target is not None and urlsplit(resp.url).scheme == "https" and urlsplit(target).scheme == "http":
                raise requests.exceptions.InvalidSchema("the server redirects to a link without encryption")
            return target

    session = Session()
    session.headers.update({"User-Agent": f"diffstudio/{__version__}", "Accept-Encoding": "identity"})
    return session


def _look_up(url: str, host: str) -> None:
    with _session() as session, session.get(url, stream=True, timeout=_TIMEOUT_SECONDS) as answer:
        if not _is_file(answer, host):
            return
        served_by = urlsplit(answer.url).hostname or ""
        linked = next((each.headers.get("X-Linked-Etag", "") for each in (*answer.history, answer)), "")
        sha256 = linked.strip('"').lower()
        remote = RemoteFile(
            url,
            host,
            _file_name(answer, url),
            int(answer.headers.get("Content-Length") or 0),
            served_by if served_by != urlsplit(url).hostname else "",
            sha256 if re.fullmatch("[0-9a-f]{64}", sha256) else "",
            _version(answer),
        )
        report(remote=asdict(remote))


def _is_file(answer: requests.Response, host: str) -> bool:
    """Whether the server sends a file; reports what it sends instead."""
    status, code = answer.status_code, HTTPStatus
    if answer.headers.get("Content-Type", "").partition(";")[0].strip() == "text/html" and status < 400:
        report(refused=("The link leads to a web page, not to a file", "", "Copy the link of the download itself"))
    elif status in (code.UNAUTHORIZED, code.FORBIDDEN):
        report(problem=(f"{host} does not give this file to everyone", "it needs an account there", _IN_A_BROWSER))
    elif status in (code.NOT_FOUND, code.GONE):
        report(problem=(f"{host} has no file at this link", "", "Check the link"))
    elif status not in (code.OK, code.PARTIAL_CONTENT):
        report(problem=_failed(host, f"the server answers {status} {answer.reason or ''}".strip()))
    else:
        return True
    return False


def _file_name(answer: requests.Response, url: str) -> str:
    """The name in the answer's headers, or else in the link, or else in the address it was redirected to."""
    header = answer.headers.get("Content-Disposition", "")
    if match := re.search(r"filename\*=(?:utf-8|iso-8859-1)'[^']*'([^;\s]+)", header, re.IGNORECASE):
        return _safe_name(unquote(match[1].strip('"')))
    if match := re.search(r'filename="([^"]*)"|filename=([^;\s]+)', header, re.IGNORECASE):
        return _safe_name(match[1] or match[2] or "")
    names = [unquote(urlsplit(each).path.rpartition("/")[2]) for each in (url, answer.url)]
    return _safe_name(next((name for name in names if "." in name), names[0]))


def _version(answer: requests.Response) -> str:
    return str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")


def _fetch(place: Path) -> None:
    remote = _read_about(place / _ABOUT)
    if remote is None:
        return
    part, size = place / _PART, remote.size_bytes
    if size and part.exists() and part.stat().st_size > size:
        part.unlink()
    done = part.stat().st_size if part.exists() else 0
    if shutil.disk_usage(place).free < size - done:
        report(full=size)
        return
    with reported_size(part, size):
        if not (size and done == size):
            with _session() as session:
                if not _receive(session, remote, part, done):
                    return
        if size and part.stat().st_size != size:
            report(problem=_failed(remote.host))
        elif remote.sha256 and _sha256(part) != remote.sha256:
            part.unlink()
            report(
                problem=_failed(remote.host, "the file is corrupt: its SHA-256 is not the one that the server states")
            )
        else:
            report(complete=True)


def _receive(session: requests.Session, remote: RemoteFile, part: Path, done: int) -> bool:
    """Receive the rest of a file, or all of it where the server cannot send the rest; False if it sends no file."""
    asked = {"Range": f"bytes={done}-", "If-Range": remote.version} if done and remote.version else {}
    with session.get(remote.url, stream=True, timeout=_TIMEOUT_SECONDS, headers=asked) as answer:
        if not _is_file(answer, remote.host):
            return False
        is_rest = answer.headers.get("Content-Range", "").startswith(f"bytes {done}-") and bool(asked)
        size = int(answer.headers.get("Content-Length") or 0) + (done if is_rest else 0)
        if remote.size_bytes and size and size != remote.size_bytes:
            report(problem=(f"The file on {remote.host} has changed", "", "Cancel the download, then start it again"))
            return False
        try:
            with part.open("ab" if is_rest else "wb") as file:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
        except OSError as error:
            if not disk_is_full(error):
                raise
            report(full=remote.size_bytes or part.stat().st_size)
            return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _main(step: str, argument: str, host: str) -> None:
    import requests

    try:
        if step == "look-up":
            _look_up(argument, host)
        else:
            _fetch(Path(argument))
    except requests.exceptions.InvalidSchema as error:
        report(problem=_failed(host, first_line(error)))
    except requests.exceptions.SSLError:
        report(problem=_failed(host, "its certificate cannot be verified"))
    except requests.exceptions.Timeout:
        report(problem=_failed(host, "it does not answer"))
    except requests.exceptions.ConnectionError:
        report(problem=_failed(host, "it cannot be reached"))


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:4])
    except Exception as error:  # noqa: BLE001 - the parent process reports it
        report(problem=_failed(sys.argv[3], first_line(error)))
