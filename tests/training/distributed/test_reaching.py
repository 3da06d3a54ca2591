"""Addresses where no run is: a sentence in a bounded time, whatever is there instead."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from diffstudio.errors import RunProblem
from diffstudio.training.distributed import meeting
from diffstudio.training.distributed.cluster import LOCAL, Address, Place
from diffstudio.training.distributed.meeting import Guest
from diffstudio.training.distributed.reaching import wait_for_port, within


def test_it_waits_until_something_listens() -> None:
    listening = socket.socket()
    listening.bind((LOCAL, 0))
    port = listening.getsockname()[1]
    began = time.monotonic()
    threading.Timer(0.3, listening.listen).start()
    wait_for_port(Address(LOCAL, port), 10)
    assert 0.25 < time.monotonic() - began < 5
    listening.close()
    with pytest.raises(RunProblem, match="nothing responds at this address"):
        wait_for_port(Address(LOCAL, port), 0.3)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_an_unknown_name_is_named_at_once(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if ".." not in host:  # no network in tests

        def unknown(*arguments: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    began = time.monotonic()
    with pytest.raises(RunProblem, match=f"There is no run at {host}:29500: the name of the host is unknown"):
        wait_for_port(Address(host, 29_500), 30)
    assert time.monotonic() - began < 10


def test_what_takes_long_or_fails_is_no_run() -> None:
    address = Address(LOCAL, 1)
    assert within(5, lambda: 3, address) == 3

    def fail() -> None:
        raise RuntimeError("no store")

    for connect in (fail, lambda: time.sleep(0.6)):
        with pytest.raises(RunProblem, match=r"no run at 127\.0\.0\.1:1: another program listens at this address"):
            within(0.2, connect, address)


def test_a_program_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "_TO_CONNECT", meeting.timedelta(seconds=0.5))
    with socket.create_server((LOCAL, 0)) as silent:
        began = time.monotonic()
        with pytest.raises(RunProblem, match="another program listens"):
            Guest(Address(LOCAL, silent.getsockname()[1]), Place())
        assert time.monotonic() - began < 10
