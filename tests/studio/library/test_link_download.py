"""A model file comes from a server on this machine: looked up, whole, resumed, stopped, checked."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from diffstudio.errors import BadRequest, CheckpointMissing, DiffstudioError, Interrupted, StorageProblem
from diffstudio.models.components import download_process
from diffstudio.models.components.download_process import PARTIAL_FOLDER
from diffstudio.studio.library import importing, link_download, link_receiver
from diffstudio.studio.library.link_download import RemoteFile, discard, fetch, look_up, safe_name, unfinished
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


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', json.dumps({"format": 1, "name": "../x"})])
def test_a_damaged_record_of_a_download_is_removed(folder: Path, text: str) -> None:
    place = folder / PARTIAL_FOLDER / "links" / "0123456789abcdef"
    place.mkdir(parents=True)
    (place / "link.json").write_text(text)
    assert unfinished(folder) == [] and not place.exists()


def test_names_are_made_safe() -> None:
    names = {
        "": "model",
        "..": "model",
        "a\\b.ckpt": "b.ckpt",
        "part": "model",
        "LOCK": "model",
        ".x.gguf": "x.gguf",
        "aux": "_aux",
        "CON.safetensors": "_CON.safetensors",
        "com1.v2.ckpt": "_com1.v2.ckpt",
    }
    assert {name: safe_name(name) for name in names} == names


@pytest.mark.parametrize(
    "name",
    [
        "n" * 400 + ".safetensors",
        "水" * 100 + ".safetensors",
        "水" * 100,
        "é." * 200 + "ckpt",
        "con" + " " * 300 + "x.safetensors",
        "_" * 146 + "aux. .  .ckpt",
        "a" * 140 + " " * 30 + ".b" * 40,
        "x." + "水" * 80,
    ],
)
def test_a_long_name_fits_a_file_system_and_stays_as_it_is(name: str, tmp_path: Path) -> None:
    safe = safe_name(name)
    assert len(safe.encode()) <= 150 and safe == safe_name(safe) == safe.strip(" .")
    assert not name.endswith(".safetensors") or safe.endswith(".safetensors")
    (tmp_path / safe).touch()


@pytest.fixture
def started(server: FileServer, lora: bytes, folder: Path) -> RemoteFile:
    """A download of which two megabytes have come."""
    server.files["/ink.safetensors"] = lora
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    server.stops_after = 2_000_000
    server.released.set()
    with pytest.raises(CheckpointMissing):
        fetch(remote, folder)
    return remote


def test_what_cannot_be_imported_now_stays_and_is_not_downloaded_again(
    server: FileServer, lora: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/ink.safetensors"] = lora
    for size in (len(lora), 0):
        server.sends_size = bool(size)
        remote = look_up(parse_link(server.link("/ink.safetensors")))
        assert remote.size_bytes == size
        with monkeypatch.context() as patch:
            patch.setattr(link_download, "import_file", refusing_import)
            with pytest.raises(StorageProblem, match="the disk is full"):
                fetch(remote, folder)
        assert unfinished(folder)[0].done_bytes == len(lora)
        server.files["/ink.safetensors"] = lora
        before = len(server.asked)
        assert fetch(remote, folder).read_bytes() == lora
        assert all(asked for _, asked in server.asked[before:]) and not unfinished(folder)


def refusing_import(path: Path, folder: Path, *, move: bool) -> Iterator[float]:
    yield 0.5
    raise StorageProblem("It cannot be imported", "the disk is full")


def test_importing_is_cancelled_and_what_was_downloaded_is_kept(
    server: FileServer, lora: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/ink.safetensors"] = lora
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    begun = threading.Event()

    def slow_import(path: Path, folder: Path, *, move: bool) -> Iterator[float]:
        begun.set()
        while True:
            yield 0.5

    monkeypatch.setattr(link_download, "import_file", slow_import)
    with pytest.raises(Interrupted):
        fetch(remote, folder, cancelled=begun.is_set)
    assert unfinished(folder)[0].done_bytes == len(lora)


def test_a_program_that_was_killed_while_importing_goes_on_there(
    server: FileServer, lora: bytes, folder: Path, started: RemoteFile
) -> None:
    place = next((folder / PARTIAL_FOLDER / "links").iterdir())
    (place / "part").unlink()
    (place / started.name).write_bytes(lora[:100])  # of something else
    assert fetch(started, folder).read_bytes() == lora
    place.mkdir(parents=True)
    (place / started.name).write_bytes(lora)
    before = len(server.asked)
    assert fetch(started, folder).read_bytes() == lora and len(server.asked) == before


def test_the_file_is_moved_where_there_are_no_links(
    server: FileServer, lora: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_copy(path: Path, target: Path) -> Iterator[float]:
        raise AssertionError("copied")

    server.files["/ink.safetensors"] = lora
    monkeypatch.setattr(importing, "link", lambda *_: False)
    monkeypatch.setattr(importing, "_copied", no_copy)
    assert fetch(look_up(parse_link(server.link("/ink.safetensors"))), folder).read_bytes() == lora


def test_two_do_not_write_one_file(lora: bytes, folder: Path, started: RemoteFile) -> None:
    """As when the program was killed, started again, and the other download still goes on."""
    place = next((folder / PARTIAL_FOLDER / "links").iterdir())
    with download_process.only_writer(place) as alone:
        assert alone
        with pytest.raises(CheckpointMissing, match="being downloaded already"):
            fetch(started, folder)
    assert fetch(started, folder).read_bytes() == lora


def test_a_download_ends_when_the_program_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "from diffstudio.models.components.download_process import reported_size\n"
        "with reported_size(pathlib.Path('none'), 1): time.sleep(30)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline()
        child.stdout.close()  # as when the reader dies
        assert child.wait(10) == 1


def test_no_passwords_are_sent(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\nmachine localhost login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    server.files["/there.ckpt"] = b"12345"
    port = server.host.rpartition(":")[2]
    server.status["/here"] = (302, f"http://localhost:{port}/there.ckpt")
    server.status["/user"] = (302, f"http://me:secret@localhost:{port}/there.ckpt")
    for path in ("/here", "/user"):
        assert look_up(parse_link(server.link(path))).size_bytes == 5
        with link_receiver._session() as session:  # also where the environment names the file
            assert session.get(server.link(path)).status_code == 200
    assert server.passwords == []


def test_looking_up_is_cancelled_while_the_server_is_silent(server: FileServer) -> None:
    server.silent.add("/a.ckpt")
    with pytest.raises(Interrupted):
        look_up(parse_link(server.link("/a.ckpt")), lambda: bool(server.asked))


def test_looking_up_takes_a_limited_time(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_download, "_LOOK_UP_SECONDS", 0.3)
    server.silent.add("/a.ckpt")
    with pytest.raises(CheckpointMissing, match="does not answer"):
        look_up(parse_link(server.link("/a.ckpt")))


def test_more_than_the_server_said_is_not_written(server: FileServer, lora: bytes, folder: Path) -> None:
    server.files["/ink.safetensors"] = lora
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    server.files["/ink.safetensors"], server.sends_size = lora + b"x" * 3_000_000, False
    with pytest.raises(CheckpointMissing, match="has changed"):
        fetch(remote, folder)
    assert unfinished(folder)[0].done_bytes <= len(lora)


def test_a_file_of_unknown_size_leaves_space_free(
    server: FileServer, lora: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/ink.safetensors"], server.sends_size = lora, False
    remote = look_up(parse_link(server.link("/ink.safetensors")))
    free = iter([2 << 30, 1 << 29])
    usage = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=next(free)))
    monkeypatch.setattr(link_receiver, "shutil", usage)
    monkeypatch.setattr(link_receiver, "_CHECKED_BYTES", 1 << 21)
    with link_receiver._session() as session:
        assert not link_receiver._receive(session, remote, folder / "part", 0)
    assert capsys.readouterr().out == '{"full": 0}\n' and 0 < (folder / "part").stat().st_size < len(lora)
    output = link_download._Output(server.host)
    output.read('{"full": 0}')
    assert "less than 1 GiB is free" in str(output.problem)


def test_another_part_of_the_file_than_asked_for_is_reported(
    server: FileServer, lora: bytes, folder: Path, started: RemoteFile
) -> None:
    server.headers["/ink.safetensors"] = {"Content-Range": f"bytes 7-{len(lora) - 1}/{len(lora)}"}
    before = unfinished(folder)
    with pytest.raises(CheckpointMissing, match="another part of the file"):
        fetch(started, folder)
    assert unfinished(folder) == before


def test_what_cannot_be_read_now_or_is_newer_is_kept(
    folder: Path, started: RemoteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = next(folder.rglob("link.json"))

    def fails(self: Path, encoding: str) -> str:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", fails)
        assert unfinished(folder) == []
    assert len(unfinished(folder)) == 1
    stored = json.loads(about.read_text())
    about.write_text(json.dumps(stored | {"format": 2, "mirrors": []}))
    assert unfinished(folder) == [] and about.with_name("part").exists()
    about.write_text(json.dumps(stored | {"name": "水" * 100 + ".ckpt"}))  # as an older version kept it
    assert unfinished(folder)[0].remote.name == safe_name("水" * 100 + ".ckpt")


def test_modules_in_the_current_folder_are_not_imported(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("requests.py", "json.py", "diffstudio.py"):
        (tmp_path / name).write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep)  # empty entries stand for the current folder
    server.files["/a.ckpt"] = b"12345"
    assert look_up(parse_link(server.link("/a.ckpt"))).size_bytes == 5
