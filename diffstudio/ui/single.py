"""One window for one person's data: a second start brings the first forward."""

from __future__ import annotations

import getpass
import hashlib
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

_CONNECT_MS = 500
_WORD = b"come forward\n"


def name_for(data: Path) -> str:
    """The name that programs with the same data folder meet under."""
    digest = hashlib.sha256(f"{getpass.getuser()}|{data.resolve()}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"diffstudio-{digest[:24]}"


class SingleInstance(QObject):
    """`hand_over` is True where another one is open, which has then been asked to come forward. Otherwise `listen`."""

    called = Signal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._server: QLocalServer | None = None

    def hand_over(self) -> bool:
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if not socket.waitForConnected(_CONNECT_MS):
            return False
        socket.write(_WORD)
        socket.waitForBytesWritten(_CONNECT_MS)
        socket.disconnectFromServer()
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

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _answer(self) -> None:
        if self._server is None:
            return
        while (socket := self._server.nextPendingConnection()) is not None:
            socket.disconnected.connect(socket.deleteLater)
            self.called.emit()
