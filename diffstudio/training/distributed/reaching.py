"""Reaches the first process of a run within a time limit: torch's own store retries for minutes and prints stack traces."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from diffstudio.errors import RunProblem
from diffstudio.training.distributed.cluster import Address

_T = TypeVar("_T")
_LOOK = 0.2  # seconds between two attempts


def wait_for_port(address: Address, seconds: float) -> None:
    """Wait until something listens at the address. RunProblem if nothing does, or the host name is unknown."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            socket.create_connection((address.host, address.port), left).close()
        except (socket.gaierror, UnicodeError):
            raise _no_run(address, "the name of the host is unknown") from None
        except OSError:
            time.sleep(_LOOK)
        else:
            return
    raise _no_run(address, "nothing responds at this address")


def within(seconds: float, connect: Callable[[], _T], address: Address) -> _T:
    """What `connect()` returns. RunProblem if it raises RuntimeError, or takes longer: another program listens there."""
    found: list[_T] = []

    def run() -> None:
        try:
            found.append(connect())
        except RuntimeError:  # explained below
            return

    thread = threading.Thread(target=run, name="joining", daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise _no_run(address, "another program listens at this address")
    return found[0]


def _no_run(address: Address, why: str) -> RunProblem:
    return RunProblem(
        f"There is no run at {address}", why, "Start it first with --machines, and check the address and the firewall"
    )
