"""One window for each data folder: a second start brings the first window to the front."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import time
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from filelock import FileLock, Timeout
from PySide6.QtCore import QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

from diffstudio.atomic import write_text
from diffstudio.errors import StorageProblem

PATIENCE_SECONDS = 20.0  # for an instance that is just opening or closing
_CONNECT_MS = 500
_ANSWER_MS = 2000
_POLL_SECONDS = 0.05
_MESSAGE, _ANSWER = b"come forward\n", b"here\n"


class Claim(Enum):
    """What a start of the program found."""

    FIRST = auto()  # no other instance is open: this one may open its window
    ACTIVATED = auto()  # another one was brought to the front
    UNRESPONSIVE = auto()  # another one holds the data folder and does not answer


def name_for(data: Path) -> str:
    """The socket name that instances with the same data folder share."""
    digest = hashlib.sha256(f"{getpass.getuser()}|{data.resolve()}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"diffstudio-{digest[:24]}"


class SingleInstance(QObject):
    """Call `claim`, and `listen` when it returns FIRST.

    A lock on a file in the data folder decides who is first; the operating system releases it when a process dies. The
    socket cannot decide: a second server silently takes over its name (Qt renames its socket onto it), and its folder
    depends on TMPDIR. So its full address is written into the data folder.
    """

    activation_requested = Signal()

    def __init__(self, data: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__()
        self._data, self._patience_seconds = data, patience_seconds
        self._server: QLocalServer | None = None
        self._lock = FileLock(data / "window.lock", thread_local=False)
        self._address_file = data / "window.json"

    def claim(self) -> Claim:
        """Become the first instance, or bring the first one to the front.

        Waits for one that is just opening or closing.
        """
        give_up_at = time.monotonic() + self._patience_seconds
        while not self._is_first():
            if self._activate():
                return Claim.ACTIVATED
            if time.monotonic() >= give_up_at:
                return Claim.UNRESPONSIVE
            time.sleep(_POLL_SECONDS)
        return Claim.FIRST

    def listen(self) -> bool:
        """Let later instances find this one. False when the system does not allow it: then they cannot activate it."""
        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        name = name_for(self._data)
        if not server.listen(name):
            QLocalServer.removeServer(name)  # left behind by an instance that crashed
            if not server.listen(name):
                return False
        server.newConnection.connect(self._answer)
        self._server = server
        with suppress(StorageProblem):  # later instances will report that this one does not respond
            write_text(self._address_file, json.dumps({"socket": server.fullServerName(), "pid": os.getpid()}))
        return True

    def holder_pid(self) -> int | None:
        """The process id of the instance that is open, as it wrote it; None if unknown."""
        pid = self._address().get("pid")
        return pid if isinstance(pid, int) else None

    def stop_listening(self) -> None:
        """The window is closing: an instance started now waits until `close`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        self.stop_listening()
        if self._lock.is_locked:
            self._address_file.unlink(missing_ok=True)
        self._lock.release()

    def _address(self) -> dict[str, object]:
        try:
            address = json.loads(self._address_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return address if isinstance(address, dict) else {}

    def _activate(self) -> bool:
        """Ask the first instance to come forward; True once it has answered. A hung one accepts but never answers."""
        address = self._address().get("socket")
        socket = QLocalSocket()
        socket.connectToServer(address if isinstance(address, str) else name_for(self._data))
        if not socket.waitForConnected(_CONNECT_MS):
            return False
        socket.write(_MESSAGE)
        socket.waitForBytesWritten(_CONNECT_MS)
        answered = socket.bytesAvailable() > 0 or socket.waitForReadyRead(_ANSWER_MS)
        socket.disconnectFromServer()
        return answered

    def _is_first(self) -> bool:
        """Also True where no lock is possible: the window reports an unwritable data folder later."""
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except (OSError, NotImplementedError):
            return True
        return True

    def _answer(self) -> None:
        if self._server is None:
            return
        while (socket := self._server.nextPendingConnection()) is not None:
            socket.disconnected.connect(socket.deleteLater)
            socket.write(_ANSWER)
            socket.flush()
            self.activation_requested.emit()
