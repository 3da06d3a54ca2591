"""What a link to a model file stands for: the pages that sites show for a file become the address of the file itself.

Nothing here connects to anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit, urlunsplit

from diffstudio.errors import BadRequest

LONGEST_LINK = 4000  # characters
_HUGGING_FACE = ("huggingface.co", "hf.co")
_CIVITAI = ("civitai.com", "civitai.green", "civitai.red")
_COPY_FILE_LINK = "Open the file on that page and copy the link of its download button"


@dataclass(frozen=True, slots=True)
class FileLink:
    """The address of a file on the web."""

    url: str
    host: str  # that will be contacted, with the port if it is an unusual one

    @property
    def name(self) -> str:
        """The file's name in the address, or an empty string."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


def parse_link(text: str) -> FileLink:
    """The file that a link leads to. BadRequest for what is not an http(s) link, or is a page without a file."""
    text = "".join(text.splitlines()).strip()
    if text and "://" not in text and re.match(r"[\w-]+(\.[\w-]+)+/", text):
        text = f"https://{text}"  # copied without its beginning
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme.lower() not in ("http", "https") or not host or len(text) > LONGEST_LINK:
        raise BadRequest("This is not a link to a file on the web", remedy="Paste one that begins with https://")
    if parts.username is not None or parts.password is not None:
        raise BadRequest("The link contains a user name or a password", remedy="Paste the link without it")
    parts = parts._replace(scheme=parts.scheme.lower(), fragment="")
    site = host.removeprefix("www.")
    if site in _HUGGING_FACE:
        parts = _on_hugging_face(parts)
    elif site in _CIVITAI:
        parts = _on_civitai(parts)
    elif site == "github.com":
        parts = parts._replace(path=re.sub(r"^(/[^/]+/[^/]+)/blob/", r"\1/raw/", parts.path))
    elif site == "dropbox.com":
        parts = parts._replace(query=re.sub(r"\bdl=0\b", "dl=1", parts.query))
    if parts.path in ("", "/"):
        raise BadRequest(f"The link leads to the home page of {host}, not to a file", remedy=_COPY_FILE_LINK)
    url = urlunsplit(parts._replace(path=quote(unquote(parts.path), safe="/:@!$&'()*+,;=~-._")))
    return FileLink(url, f"{host}:{port}" if port is not None else host)


def _on_hugging_face(parts: SplitResult) -> SplitResult:
    """`…/blob/main/model.safetensors` and `…/raw/…` are pages and pointers; `…/resolve/…` is the file."""
    steps = parts.path.strip("/").split("/")
    for at, step in enumerate(steps):
        if step in ("blob", "raw", "resolve") and at >= 1 and len(steps) > at + 2:
            return parts._replace(path="/" + "/".join([*steps[:at], "resolve", *steps[at + 1 :]]), query="")
    raise BadRequest(
        "The link leads to a page of huggingface.co, not to a file",
        remedy="Open “Files and versions” there, and copy the link of a file",
    )


def _on_civitai(parts: SplitResult) -> SplitResult:
    """The download of a version: `/models/…?modelVersionId=7` and `/model-versions/7` are its pages."""
    if re.match(r"^/api/download/models/\d+/?$", parts.path):
        return parts
    version = parse_qs(parts.query).get("modelVersionId", [""])[0]
    if match := re.match(r"^/model-versions/(\d+)", parts.path):
        version = match[1]
    if parts.path.startswith(("/models/", "/model-versions/")) and version.isdecimal():
        return parts._replace(path=f"/api/download/models/{version}", query="")
    raise BadRequest(
        f"The link leads to a page of {parts.hostname} that names no version of a model",
        remedy="Choose a version on that page and copy the link of its Download button",
    )
