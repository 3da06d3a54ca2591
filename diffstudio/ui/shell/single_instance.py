"""One window for one person's data: a second start brings the first forward."""

from __future__ import annotations

import getpass
import hashlib
import time
from pathlib import Path

from PySide6.QtCore import QLockFile, QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

PATIENCE_SECONDS = 20.0  # with one that is just opening or closing
_CONNECT_MS = 500
_POLL_SECONDS = 0.05
_WORD = b"come forward\n"


def name_for(data: Path) -> str:
    """The name that programs with the same data folder meet under."""
    digest = hashlib.sha256(f"{getpass.getuser()}|{data.resolve()}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"diffstudio-{digest[:24]}"


class SingleInstance(QObject):
    """`hand_over` is True where another one is open, which has then been asked to come forward. Otherwise `listen`.

    A lock file in the data folder says who is the first; the socket alone would not, because a second server takes the
    name over without a word (Qt renames its socket onto it).
    """

    called = Signal()

    def __init__(self, data: Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__()
        self._name, self._patience_seconds = name_for(data), patience_seconds
        self._server: QLocalServer | None = None
        self._data = data
        self._lock = QLockFile(str(data / "window.lock"))
        self._lock.setStaleLockTime(0)  # however old: stale is the one whose process is gone

    def hand_over(self) -> bool:
        """Waits for one that is just opening or closing; opens beside one that does neither."""
        give_up_at = time.monotonic() + self._patience_seconds
        while not self._call():
            if self._is_first() or time.monotonic() >= give_up_at:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def listen(self) -> bool:
        """From now on others find this one. False when the system does not allow it: then several may be open."""
        server = QLocalServer(self)
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        if not server.listen(self._name):
            QLocalServer.removeServer(self._name)  # left behind by one that crashed: nobody answered there
            if not server.listen(self._name):
                return False
        server.newConnection.connect(self._answer)
        self._server = server
        return True

    def stop_listening(self) -> None:
        """The window goes. Whoever starts now waits until `close`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        self.stop_listening()
        self._lock.unlock()

    def _call(self) -> bool:
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if not socket.waitForConnected(_CONNECT_MS):
            return False
        socket.write(_WORD)
        socket.waitForBytesWritten(_CONNECT_MS)
        socket.disconnectFromServer()
        return True

    def _is_first(self) -> bool:
        """Also where no lock can be had: a folder that cannot be written to is said later, in the window."""
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
            self.called.emit()
