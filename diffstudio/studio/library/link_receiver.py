"""The child process that looks up and downloads a file from the web: see link_download.py. No torch."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from diffstudio import __version__
from diffstudio.models.components.download_process import ALREADY_RUNNING, only_writer, report, reported_size
from diffstudio.models.files.file_access import first_line
from diffstudio.models.files.hashes import file_sha256
from diffstudio.storage_errors import disk_is_full
from diffstudio.studio.library.link_download import ABOUT, NO_ANSWER, PART, RemoteFile, failed, read_about, safe_name

if TYPE_CHECKING:
    import requests

_CHUNK_BYTES = 1 << 20
_CHECKED_BYTES = 64 << 20  # of a file of unknown size, after which the free space is checked,
_KEPT_FREE_BYTES = 1 << 30  # which must not fall below this
_TIMEOUT_SECONDS = 20.0, 60.0  # to connect; for the next bytes
_IN_A_BROWSER = "Download it in a web browser, and add the file"


def _session() -> requests.Session:
    import requests

    class Session(requests.Session):
        """Follows redirects to http(s) only, and never from https to http. Sends no passwords; uses the system's proxies."""

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            target = super().get_redirect_target(resp)
            if target is not None and urlsplit(resp.url).scheme == "https" and urlsplit(target).scheme == "http":
                raise requests.exceptions.InvalidSchema("the server redirects to a link without encryption")
            return target

        def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
            prepared_request.headers.pop("Authorization", None)

    session = Session()
    session.auth = lambda request: request  # else those in ~/.netrc are sent
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
        report(problem=failed(host, f"the server answers {status} {answer.reason or ''}".strip()))
    else:
        return True
    return False


def _file_name(answer: requests.Response, url: str) -> str:
    """The name in the answer's headers, or else in the link, or else in the address it was redirected to."""
    header = answer.headers.get("Content-Disposition", "")
    if match := re.search(r"filename\*=(?:utf-8|iso-8859-1)'[^']*'([^;\s]+)", header, re.IGNORECASE):
        return safe_name(unquote(match[1].strip('"')))
    if match := re.search(r'filename="([^"]*)"|filename=([^;\s]+)', header, re.IGNORECASE):
        return safe_name(match[1] or match[2] or "")
    names = [unquote(urlsplit(each).path.rpartition("/")[2]) for each in (url, answer.url)]
    return safe_name(next((name for name in names if "." in name), names[0]))


def _version(answer: requests.Response) -> str:
    return str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")


def _fetch(place: Path) -> None:
    remote = read_about(place / ABOUT)
    assert remote is not None, "this version has written it"
    with only_writer(place) as alone:
        if alone:
            _complete(place, remote)
        else:
            report(problem=(f"{remote.name} is not downloaded twice", ALREADY_RUNNING, "Wait until that has ended"))


def _complete(place: Path, remote: RemoteFile) -> None:
    part, size = place / PART, remote.size_bytes
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
            report(problem=failed(remote.host))
        elif remote.sha256 and file_sha256(part) != remote.sha256:
            part.unlink()
            report(
                problem=failed(remote.host, "the file is corrupt: its SHA-256 is not the one that the server states")
            )
        else:
            report(complete=True)


def _receive(session: requests.Session, remote: RemoteFile, part: Path, done: int) -> bool:
    """Receive the rest of a file, or all of it where the server cannot send the rest; False if it sends no file."""
    asked = {"Range": f"bytes={done}-", "If-Range": remote.version} if done and remote.version else {}
    with session.get(remote.url, stream=True, timeout=_TIMEOUT_SECONDS, headers=asked) as answer:
        content_range, status = answer.headers.get("Content-Range", ""), answer.status_code
        if done and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and content_range == f"bytes */{done}":
            return True  # nothing is missing: the size was not known
        if not _is_file(answer, remote.host):
            return False
        is_rest = status == HTTPStatus.PARTIAL_CONTENT
        if is_rest and not (asked and content_range.startswith(f"bytes {done}-")):
            report(problem=failed(remote.host, f"it sends another part of the file ({content_range[:80]})"))
            return False
        size = int(answer.headers.get("Content-Length") or 0) + (done if is_rest else 0)
        if remote.size_bytes and size and size != remote.size_bytes:
            _report_change(remote)
            return False
        try:
            return _write(answer, remote, part, done if is_rest else 0)
        except OSError as error:
            if not disk_is_full(error):
                raise
            report(full=remote.size_bytes)
            return False


def _write(answer: requests.Response, remote: RemoteFile, part: Path, done: int) -> bool:
    """Write what a server sends, from byte `done` of the file on; False if that is more than it said."""
    checked_at = done
    if not remote.size_bytes and not _has_space(part):
        return False
    with part.open("ab" if done else "wb") as file:
        for chunk in answer.iter_content(_CHUNK_BYTES):
            done += len(chunk)
            if remote.size_bytes and done > remote.size_bytes:
                _report_change(remote)
                return False
            if not remote.size_bytes and done - checked_at >= _CHECKED_BYTES:
                checked_at = done
                if not _has_space(part):
                    return False
            file.write(chunk)
    return True


def _has_space(part: Path) -> bool:
    """Whether so much of the disk is free that a file of unknown size may go on; reports it if not."""
    if shutil.disk_usage(part.parent).free >= _KEPT_FREE_BYTES:
        return True
    report(full=0)
    return False


def _report_change(remote: RemoteFile) -> None:
    report(problem=(f"The file on {remote.host} has changed", "", "Cancel the download, then start it again"))


def _main(step: str, argument: str, host: str) -> None:
    import requests

    try:
        if step == "look-up":
            _look_up(argument, host)
        else:
            _fetch(Path(argument))
    except requests.exceptions.InvalidSchema as error:
        report(problem=failed(host, first_line(error)))
    except requests.exceptions.SSLError:
        report(problem=failed(host, "its certificate cannot be verified"))
    except requests.exceptions.Timeout:
        report(problem=failed(host, NO_ANSWER))
    except requests.exceptions.ConnectionError:
        report(problem=failed(host, "it cannot be reached"))


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:4])
    except Exception as error:  # noqa: BLE001 - the parent process reports it
        report(problem=failed(sys.argv[3], first_line(error)))
