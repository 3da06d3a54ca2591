"""A web server on this machine that hands out files, as the tests want it to: slowly, in part, renamed, or not at all."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Answers GET for `files`. With `stops_after` bytes, the next answer stops there until `released` is set."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}  # by path, in addition
        self.status: dict[str, tuple[int, str]] = {}  # by path: the code, and the Location of a redirect
        self.asked: list[tuple[str, str]] = []  # path, range
        self.resumes = True
        self.version = '"1"'
        self.sends_size = True
        self.silent: set[str] = set()  # paths that are not answered until `released` is set
        self.passwords: list[str] = []  # Authorization headers
        self.stops_after: int | None = None
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                asked = self.headers.get("Range", "")
                outer.asked.append((self.path, asked))
                outer.passwords += self.headers.get_all("Authorization", [])
                if path in outer.silent:
                    outer.released.wait(30)
                code, location = outer.status.get(path, (200 if path in outer.files else 404, ""))
                data = outer.files.get(path, b"")
                start = 0
                if asked and outer.resumes and self.headers.get("If-Range") == outer.version:
                    start, code = int(asked.removeprefix("bytes=").rstrip("-")), 206
                if start and start >= len(data):
                    code, data = 416, data[:start]
                self.send_response(code)
                headers = {"ETag": outer.version, "Content-Length": str(len(data) - start)}
                if code == 206:
                    headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                if code == 416:
                    headers["Content-Range"] = f"bytes */{len(data)}"
                if not outer.sends_size and code == 200:
                    del headers["Content-Length"]
                    self.close_connection = True
                if location:
                    headers["Location"] = location
                for name, value in (headers | outer.headers.get(path, {})).items():
                    self.send_header(name, value)
                self.end_headers()
                data = data[start:]
                if outer.stops_after is not None and len(data) > outer.stops_after:
                    data, outer.stops_after = data[: outer.stops_after], None
                    self.wfile.write(data)
                    self.wfile.flush()
                    outer.released.wait(30)
                    self.close_connection = True
                    return
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                """Not onto the screen."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that goes away before the end of an answer is what some tests do."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def link(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
