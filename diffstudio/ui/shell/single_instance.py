"""One window for each data folder: a second start brings the first window to the front."""

from __future__ import annotations

import getpass
import hashlib
import time
from pathlib import Path

from PySide6.QtCore import QLockFile, QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

PATIENCE_SECONDS = 20.0  # for an instance that is just opening or closing
_CONNECT_MS = 500
_POLL_SECONDS = 0.05
_MESSAGE = b"come forward\n"


def name_for(data: Path) -> str:
    """The socket name that instances with the same data folder share."""
    digest = hashlib.sha256(f"{getpass.getuser()}|{data.resolve()}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"diffstudio-{digest[:24]}"


class SingleInstance(QObject):
    """Call `activate_running_instance`, and `listen` when it returns False.

    A lock file in the data folder decides who is first. The socket cannot: a second server silently takes over the name
    (Qt renames its socket onto it).
    """

    activation_requested = Signal()

    def __init__(self, data: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__()
        self._name, self._patience_seconds = name_for(data), patience_seconds
        self._server: QLocalServer | None = None
        self._data = data
        self._lock = QLockFile(str(data / "window.lock"))
        self._lock.setStaleLockTime(0)  # never stale by age, only when its process is gone

    def activate_running_instance(self) -> bool:
        """True when another instance is open and was brought to the front.

        Waits for one that is just opening or closing, and gives up on one that does not answer.
        """
        give_up_at = time.monotonic() + self._patience_seconds
        while not self._activate():
            if self._is_first() or time.monotonic() >= give_up_at:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def listen(self) -> bool:
        """Let later instances find this one. False when the system does not allow it: then several may be open."""
        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        if not server.listen(self._name):
            QLocalServer.removeServer(self._name)  # left behind by an instance that crashed
            if not server.listen(self._name):
                return False
        server.newConnection.connect(self._answer)
        self._server = server
        return True

    def stop_listening(self) -> None:
        """The window is closing: an instance started now waits until `close`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        self.stop_listening()
        self._lock.unlock()

    def _activate(self) -> bool:
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if not socket.waitForConnected(_CONNECT_MS):
            return False
        socket.write(_MESSAGE)
        socket.waitForBytesWritten(_CONNECT_MS)
        socket.disconnectFromServer()
        return True

    def _is_first(self) -> bool:
        """Also True where no lock is possible: the window reports an unwritable data folder later."""
        try:
            self._data.mkdir(parents=True, exist_ok=True)
        except OSError:
            return True
        return self._lock.tryLock(0) or self._lock.error() is not QLockFile.LockError.LockFailedError

    def _answer(self) -> None:
        if self._server is None:
            return
        while (socket := self._server.nextPendingConnection()) is not None:
            socket.disconnected.connect(socket.deleteLater)
            self.activation_requested.emit()
