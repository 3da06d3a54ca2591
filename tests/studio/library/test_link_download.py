"""A model file comes from a server on this machine: looked up, whole, resumed, stopped, checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest, CheckpointMissing, DiffstudioError, Interrupted, StorageProblem
from diffstudio.models.components.download_process import PARTIAL_FOLDER
from diffstudio.studio.library import link_download
from diffstudio.studio.library.link_download import RemoteFile, discard, fetch, look_up, unfinished
from diffstudio.studio.library.links import parse_link
from tests.models.headers import write_header
from tests.studio.library.file_server import FileServer

LAYER = "lora_unet_mid_block_attentions_0_proj_in"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A models folder."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A LoRA of three megabytes: the download comes in chunks of one."""
    tensors = {f"{LAYER}.lora_down.weight": (4, 1280), f"{LAYER}.lora_up.weight": (1280, 4)}
    path = write_header(tmp_path_factory.mktemp("lora") / "ink.safetensors", tensors, metadata={"pad": "x" * 3_000_000})
    return path.read_bytes()


def test_a_link_is_looked_up_fetched_and_imported_to_the_folder_of_its_kind(
    server: FileServer, lora: bytes, folder: Path
) -> None:
    server.files["/models/ink.safetensors"] = lora
    remote = look_up(parse_link(server.link("/models/ink.safetensors")))
    assert (remote.host, remote.name, remote.size_bytes) == (server.host, "ink.safetensors", len(lora))
    assert not list(folder.iterdir()), "looking up keeps nothing"
    path = fetch(remote, folder)
    assert path == folder / "loras" / "ink.safetensors" and path.read_bytes() == lora
    assert [each.name for each in folder.iterdir()] == ["loras"] and not unfinished(folder)


def test_a_stopped_download_is_listed_and_resumes(server: FileServer, lora: bytes, folder: Path) -> None:
    server.files["/ink.safetensors"] = lora
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    server.stops_after = 2_000_000
    seen: list[tuple[int, int]] = []
    with pytest.raises(Interrupted):
        fetch(remote, folder, lambda *now: seen.append(now), lambda: bool(seen) and seen[-1][0] > 0)
    server.released.set()
    (left,) = unfinished(folder)
    assert left.remote == remote and 0 < left.done_bytes < len(lora)
    assert not list(folder.rglob("*.safetensors")), "what is incomplete is not seen by the library"
    assert fetch(left.remote, folder).read_bytes() == lora
    assert server.asked[-1] == ("/ink.safetensors", f"bytes={left.done_bytes}-")
    assert not (folder / PARTIAL_FOLDER).exists()


def test_a_lost_connection_is_reported_and_a_server_that_cannot_resume_sends_all(
    server: FileServer, lora: bytes, folder: Path
) -> None:
    server.files["/ink.safetensors"] = lora
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    server.stops_after, server.resumes = 2_000_000, False
    server.released.set()
    with pytest.raises(CheckpointMissing, match="could not be downloaded from 127.0.0.1") as caught:
        fetch(remote, folder)
    assert "try again" in caught.value.remedy and unfinished(folder)[0].done_bytes
    assert fetch(remote, folder).read_bytes() == lora


def test_discarding_leaves_nothing(server: FileServer, lora: bytes, folder: Path) -> None:
    server.files["/ink.safetensors"] = lora
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    server.stops_after = 2_000_000
    server.released.set()
    with pytest.raises(CheckpointMissing):
        fetch(remote, folder)
    discard(remote, folder)
    assert not list(folder.iterdir())


def test_what_is_not_a_model_is_deleted_with_the_importers_reason(server: FileServer, folder: Path) -> None:
    server.files["/odd.safetensors"] = b"nothing of the kind"
    remote = look_up(parse_link(server.link("/odd.safetensors")))
    with pytest.raises(DiffstudioError, match="odd.safetensors"):
        fetch(remote, folder)
    assert not list(folder.iterdir())


def test_the_servers_answers_are_explained(server: FileServer) -> None:
    server.status |= {"/secret.ckpt": (401, ""), "/terms.ckpt": (403, ""), "/busy.ckpt": (503, "")}
    server.files["/page"], server.headers["/page"] = b"<html>", {"Content-Type": "text/html; charset=utf-8"}
    for path, error, text in (
        ("/none.ckpt", CheckpointMissing, "has no file at this link"),
        ("/secret.ckpt", CheckpointMissing, "needs an account"),
        ("/terms.ckpt", CheckpointMissing, "Download it in a web browser"),
        ("/busy.ckpt", CheckpointMissing, "answers 503"),
        ("/page", BadRequest, "a web page, not"),
    ):
        with pytest.raises(error, match=text):
            look_up(parse_link(server.link(path)))
    with pytest.raises(CheckpointMissing, match="cannot be reached"):
        look_up(parse_link("http://127.0.0.1:9/a.ckpt"))


def test_the_name_is_the_one_that_the_server_gives(server: FileServer) -> None:
    for path, headers, name in (
        ("/api/download/models/42", {"Content-Disposition": 'attachment; filename="My Ink_v2.safetensors"'}, "My Ink_v2.safetensors"),
        ("/b", {"Content-Disposition": "attachment; filename*=UTF-8''t%C3%A9t%C3%A9.ckpt; filename=x"}, "tété.ckpt"),
        ("/c", {"Content-Disposition": 'attachment; filename="../../.bashrc"'}, "bashrc"),
        ("/d%3Fe.gguf", {}, "d_e.gguf"),
    ):  # fmt: skip
        server.files[path], server.headers[path] = b"x", headers
        assert look_up(parse_link(server.link(path))).name == name


def test_redirects_are_followed_to_the_web_only_and_named(server: FileServer) -> None:
    server.files["/there.ckpt"] = b"12345"
    server.status["/here"] = (302, f"http://localhost:{server.host.rpartition(':')[2]}/there.ckpt")
    server.headers["/here"] = {"X-Linked-Etag": f'"{hashlib.sha256(b"12345").hexdigest()}"'}
    remote = look_up(parse_link(server.link("/here")))
    assert (remote.served_by, remote.name, remote.size_bytes) == ("localhost", "there.ckpt", 5)
    assert remote.sha256 == hashlib.sha256(b"12345").hexdigest()
    server.status["/file"] = (302, "file:///etc/passwd")
    with pytest.raises(CheckpointMissing, match="could not be downloaded"):
        look_up(parse_link(server.link("/file")))


def test_a_file_with_another_hash_than_stated_is_not_imported(server: FileServer, lora: bytes, folder: Path) -> None:
    server.files["/ink.safetensors"] = lora
    server.headers["/ink.safetensors"] = {"X-Linked-Etag": f'"{"0" * 64}"'}
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    with pytest.raises(CheckpointMissing, match="SHA-256"):
        fetch(remote, folder)
    assert not list(folder.rglob("*.safetensors"))


def test_a_file_that_has_changed_meanwhile_is_not_mixed_with_the_old_one(
    server: FileServer, lora: bytes, folder: Path
) -> None:
    server.files["/ink.safetensors"] = lora
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    server.stops_after = 2_000_000
    server.released.set()
    with pytest.raises(CheckpointMissing):
        fetch(remote, folder)
    server.files["/ink.safetensors"], server.version = lora + b"more", '"2"'
    with pytest.raises(CheckpointMissing, match="has changed"):
        fetch(remote, folder)


def test_a_file_that_does_not_fit_is_not_begun(folder: Path) -> None:
    remote = RemoteFile("http://127.0.0.1:9/a.ckpt", "127.0.0.1:9", "a.ckpt", size_bytes=10**18)
    with pytest.raises(StorageProblem, match="not enough disk space"):
        fetch(remote, folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9}', json.dumps({"format": 1, "name": "../x"})])
def test_a_damaged_record_of_a_download_is_removed(folder: Path, text: str) -> None:
    place = folder / PARTIAL_FOLDER / "links" / "0123456789abcdef"
    place.mkdir(parents=True)
    (place / "link.json").write_text(text)
    assert unfinished(folder) == [] and not place.exists()


def test_names_are_made_safe() -> None:
    safe = link_download._safe_name
    names = {"": "model", "..": "model", "a\\b.ckpt": "b.ckpt", "part": "model", ".x.gguf": "x.gguf"}
    assert {name: safe(name) for name in names} == names
    assert safe("n" * 400 + ".safetensors").endswith("n.safetensors") and len(safe("n" * 400 + ".safetensors")) <= 150
