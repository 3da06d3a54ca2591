"""Processes that cannot become a team say why."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from diffstudio.errors import BadRequest, Interrupted, RunProblem
from diffstudio.training.distributed import cluster, meeting
from diffstudio.training.distributed.cluster import LOCAL, Address, Cluster, Place
from diffstudio.training.distributed.meeting import Guest, Host, use_device

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network but this machine's own, and quick refusals."""
    monkeypatch.setattr(cluster, "_NOWHERE", (LOCAL, 9))
    monkeypatch.setattr(meeting, "_TO_CONNECT", meeting.timedelta(seconds=1))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setattr(meeting, "use_interface_of", lambda address: None)


@pytest.fixture
def host() -> Iterator[Host]:
    with socket.socket() as free:
        free.bind((LOCAL, 0))
        port = free.getsockname()[1]
    waiting = Host(Cluster(machines=2, port=port), ())
    yield waiting
    waiting.abandon()


def ending_with(code: int) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({code})"])]


def test_a_port_in_use_is_named(host: Host) -> None:
    with pytest.raises(RunProblem, match=f"The port {host.port} cannot be opened: .*Choose another port"):
        Host(Cluster(machines=2, port=host.port), ())


def test_it_says_once_how_many_machines_are_missing_and_can_be_stopped(host: Host) -> None:
    said: list[int] = []
    looks = iter(range(3))

    def check() -> None:
        if next(looks) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        host.team(CPU, said.append, check)
    assert said == [1]


def test_a_process_that_does_not_start_ends_the_waiting(host: Host) -> None:
    host._children = ending_with(3)
    host.processes = 2
    with pytest.raises(RunProblem, match="process 2 of 2 on this machine: it ended with code 3"):
        host.team(CPU, lambda machines: None, lambda: None)


def test_a_process_that_joined_and_ended_is_not_waited_for(host: Host) -> None:
    host._children = ending_with(3)
    host.processes = 2
    host.cluster = Cluster(processes=2)
    Guest(Address(LOCAL, host.port), Place(1, 2))  # joins, and never answers
    with pytest.raises(RunProblem, match="process 2 of 2 on this machine: it ended with code 3"):
        host.team(CPU, lambda machines: None, lambda: None)


def test_who_joined_and_is_gone_is_missed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "_TO_ANSWER", 0.1)
    Guest(Address(LOCAL, host.port), Place())
    with pytest.raises(RunProblem, match="1 of the processes that had joined no longer answer"):
        host.team(CPU, lambda machines: None, lambda: None)


def test_another_machine_can_ask_for_the_end(host: Host) -> None:
    guest = Guest(Address(LOCAL, host.port), Place())
    assert not host.asked_to_stop()
    guest.ask_to_stop()
    assert host.asked_to_stop()


def test_another_version_is_turned_away(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "__version__", "99")
    with pytest.raises(RunProblem, match="it has diffstudio 99 with torch .*, and the first machine has diffstudio"):
        Guest(Address(LOCAL, host.port), Place())


def test_who_comes_late_is_turned_away(host: Host) -> None:
    host._store.set("world", "1 cpu")
    with pytest.raises(RunProblem, match="The run already has all its processes"):
        Guest(Address(LOCAL, host.port), Place()).team()


def test_who_joins_a_run_that_is_not_there_is_told() -> None:
    with pytest.raises(RunProblem, match=r"There is no run at 127\.0\.0\.1:1: nothing responds at this address"):
        Guest(Address(LOCAL, 1), Place())


def test_who_waits_for_a_run_that_ends_is_told(host: Host) -> None:
    guest = Guest(Address(LOCAL, host.port), Place())
    host._store = None  # its last reference: the port is closed, as at the end of its process
    with pytest.raises(RunProblem, match="The run ended before it began: its first process has ended"):
        guest.team()


def test_why_a_process_ended_is_what_it_said_or_how_it_did(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host._children, host.processes = ending_with(1), 2
    assert host.why_ended() == "process 2 of 2 on this machine: it ended with code 1"
    Guest(Address(LOCAL, host.port), Place()).fail("Out of memory during training: 3 GiB were asked for.")
    assert host.why_ended() == f"{socket.gethostname()}: Out of memory during training: 3 GiB were asked for"


def test_each_process_has_its_part_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    use_device(CPU, Place())
    use_device(CPU, Place(1, 2))
    use_device(CPU, Place(1, 20))
    assert threads == [3, 1]
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    use_device(torch.device("cuda"), Place(1, 2))
    assert chosen == [1] and meeting.processes_here(0) == 2 and meeting.processes_here(5) == 5
    with pytest.raises(BadRequest, match="3 processes are too many for this machine: it has 2 GPUs"):
        use_device(torch.device("cuda"), Place(0, 3))


def test_processes_of_this_machine_are_started_with_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], str]] = []

    class Started:
        def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
            started.append((command[2:], f"{env['LOCAL_RANK']} of {env['LOCAL_WORLD_SIZE']}"))

    monkeypatch.setattr(subprocess, "Popen", Started)
    meeting.start_processes(["train", "cats"], Address(LOCAL, 5), 3)
    command = ["diffstudio", "train", "cats", "--join", "127.0.0.1:5"]
    assert started == [(command, "1 of 3"), (command, "2 of 3")]
