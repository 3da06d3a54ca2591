"""Pieces that a person asks for come from a server like the hub's, on this machine: whole, checked, resumed, stopped."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest, CheckpointMissing, Interrupted
from diffstudio.models.components import download
from diffstudio.models.components.download import DOWNLOAD_SOURCES, download_component, downloadable
from diffstudio.models.components.requirements import COMPONENT_KINDS

WEIGHTS = bytes(range(256)) * 98_304  # 24 MiB: the library writes ten million bytes at a time


class Hub:
    """What huggingface.co answers to a request for a file; `broken_after` bytes the connection ends, once."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []  # method, path, range
        self.broken_after: int | None = None
        self.wrong = False
        self.slow = threading.Event()
        self.files: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
                data = hub.files.get(self.path)
                if data is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = (
                    int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
                    if self.headers.get("Range") and body
                    else 0
                )
                self.send_response(206 if start else 200)
                digest = hashlib.sha256(data if not hub.wrong else b"another").hexdigest()
                for name, value in (
                    ("ETag", f'"{digest}"'),
                    ("X-Linked-Etag", f'"{digest}"'),
                    ("X-Linked-Size", str(len(data))),
                    ("X-Repo-Commit", "0" * 40),
                    ("Content-Length", str(len(data) - start)),
                    ("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}"),
                    ("Accept-Ranges", "bytes"),
                ):
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    self.send(data[start:])

            def send(self, data: bytes) -> None:
                if hub.broken_after is not None:
                    data, hub.broken_after = data[: hub.broken_after], None
                    self.wfile.write(data)
                    self.wfile.flush()
                    hub.slow.wait(30)
                    self.close_connection = True
                    return
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                """Not onto the screen."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.slow.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for piece in ("vae-flux", "tokenizer-qwen"):
        for origin in DOWNLOAD_SOURCES[piece]:
            hub.files[f"/{origin.repository}/resolve/main/{origin.file}"] = WEIGHTS if piece == "vae-flux" else b"{}"
    yield hub
    hub.close()


def test_a_piece_comes_into_its_folder(hub: Hub, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    assert download_component("vae-flux", tmp_path, lambda done, of: heard.append((done, of))) == [
        tmp_path / "vae" / "ae.safetensors"
    ]
    assert (tmp_path / "vae" / "ae.safetensors").read_bytes() == WEIGHTS
    assert not (tmp_path / ".fetching").exists() and all(done <= of == len(WEIGHTS) for done, of in heard)
    assert download_component("tokenizer-qwen", tmp_path) == [
        tmp_path / "tokenizers" / "qwen" / name for name in ("tokenizer.json", "tokenizer_config.json")
    ]
    asked = len(hub.asked)
    download_component("vae-flux", tmp_path)
    assert len(hub.asked) == asked  # what is there is not asked for again


def test_whoever_stops_goes_on_from_there(hub: Hub, tmp_path: Path) -> None:
    hub.broken_after = 12_000_000
    seen: list[int] = []

    def cancelled() -> bool:
        return bool(seen) and seen[-1] >= 10_000_000

    with pytest.raises(Interrupted, match="resumes where this one stopped"):
        download_component("vae-flux", tmp_path, lambda done, of: seen.append(done), cancelled)
    hub.slow.set()
    assert not (tmp_path / "vae" / "ae.safetensors").exists()
    download_component("vae-flux", tmp_path)
    assert (tmp_path / "vae" / "ae.safetensors").read_bytes() == WEIGHTS
    ranges = [
        int(asked.removeprefix("bytes=").rstrip("-")) for method, _, asked in hub.asked if method == "GET" and asked
    ]
    assert any(begin >= 10_000_000 for begin in ranges)  # what was there did not come again


def test_what_is_not_what_it_says_or_is_not_there_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.wrong = True
    with pytest.raises(CheckpointMissing, match="the file is corrupt"):
        download_component("vae-flux", tmp_path)
    assert not (tmp_path / "vae" / "ae.safetensors").exists()
    with pytest.raises(CheckpointMissing, match="CLIP-L text encoder could not be downloaded.*NotFound"):
        download_component("clip_l", tmp_path)
    with pytest.raises(BadRequest, match="Stable Diffusion 3 VAE cannot be downloaded"):
        download_component("vae-sd3", tmp_path)
    with pytest.raises(BadRequest, match="'nonsense' cannot be downloaded"):
        download_component("nonsense", tmp_path)


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    output = download._ChildOutput("vae-flux", tmp_path, lambda done, of: None)
    output.read('{"full": 335304388}')
    assert "not enough disk space for the FLUX.1 VAE: it takes 335 MB" in str(output.problem)


def test_a_disk_that_fills_up_during_the_download_is_reported_as_full(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants, file_download

    def full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", full)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    source = DOWNLOAD_SOURCES["vae-flux"][0]
    monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda *names: "unused")
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *args, **named: Metadata())
    monkeypatch.setattr("huggingface_hub.utils.build_hf_headers", lambda **named: {})  # else it asks the hub for a list
    download._main(source.repository, source.file, str(tmp_path))
    assert capsys.readouterr().out == '{"full": 1000}\n'


class Metadata:
    size, etag, location = 1000, '"abc"', "unused"


def test_the_command_line_gets_what_it_is_told_and_says_what_there_is(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffstudio import paths
    from diffstudio.cli import main

    assert main(["models", "fetch", "vae-flux"]) == 0
    path = paths.checkpoints() / "vae" / "ae.safetensors"
    assert path.read_bytes() == WEIGHTS and capsys.readouterr().out.strip() == str(path)
    asked = len(hub.asked)
    assert main(["models", "fetch"]) == 0 and main(["models", "fetch", "vae-sd3"]) == 2
    message = capsys.readouterr()
    assert (
        "vae-flux" in message.out and "Comfy-Org/z_image_turbo" in message.out and "cannot be downloaded" in message.err
    )
    assert len(hub.asked) == asked  # saying what there is asks nobody


def test_the_table_names_pieces_that_there_are() -> None:
    assert set(DOWNLOAD_SOURCES) <= set(COMPONENT_KINDS)
    assert downloadable(("clip_l", "vae-sd3")) == ("clip_l",)
    for piece, origins in DOWNLOAD_SOURCES.items():
        assert all(origin.file.endswith((".safetensors", ".json")) and origin.about_bytes > 0 for origin in origins), (
            piece
        )
