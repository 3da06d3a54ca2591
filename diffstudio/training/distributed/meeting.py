"""Rendezvous of the processes of a run: the first one listens on a port, and the others join it to form a team.

Under torchrun, torchrun does this. The store and process groups of torch.distributed have no authentication, so the
network must be trusted.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch

from diffstudio import __version__
from diffstudio.errors import BadRequest, RunProblem
from diffstudio.plurals import by_number, count_of
from diffstudio.training.distributed.cluster import (
    ALL_DEVICES,
    LOCAL,
    Address,
    Cluster,
    Place,
    interface_of,
    own_address,
)
from diffstudio.training.distributed.reaching import wait_for_port, within
from diffstudio.training.distributed.team import Processes

_GRADIENTS = timedelta(minutes=30)  # until a process that does not respond counts as ended
_ORDERS = timedelta(minutes=10)  # likewise; at least one order is sent every 20 seconds
_TO_CONNECT = timedelta(seconds=60)
_stores: Any = torch.distributed  # its stores are not declared in the type stubs
_LOOK = 0.05  # seconds
_TO_ANSWER = 60.0  # seconds that those who joined have to say that they are still there
_TO_END = 20.0  # seconds for processes to end after the last order
# Keys of the store, which processes of one version share.
_PROCESSES, _MACHINES, _JOINED, _PRESENT = "processes", "machines", "joined", "present"
_WORLD, _VERSION, _FAILED, _STOP = "world", "version", "failed", "stop"


class Host:
    """The side of the first process: opens the port, starts the other processes of this machine, and waits for all."""

    def __init__(self, cluster: Cluster, arguments: Sequence[str]) -> None:
        """`arguments` of `diffstudio` for the other processes of this machine, without `--join`. RunProblem."""
        self.cluster = cluster
        several = cluster.machines > 1
        host = own_address() if several else LOCAL
        listening = _listening(cluster.port if several else 0, public=several)
        self.port = int(listening.getsockname()[1])
        use_interface_of(host)
        self._store = _stores.TCPStore(
            host,
            self.port,
            is_master=True,
            wait_for_workers=False,
            timeout=_TO_CONNECT,
            master_listen_fd=listening.detach(),
        )
        self._store.set(_VERSION, _versions())
        self.processes = processes_here(cluster.processes)
        self._children = start_processes(arguments, Address(host, self.port), self.processes)

    def team(self, device: torch.device, waiting: Callable[[int], None], check: Callable[[], None]) -> Processes:
        """Wait for all processes. `waiting(machines)` is called once with the number of missing machines.

        `check()` is called often and may raise. RunProblem if a process of this machine ends instead of joining.
        """
        use_device(device, Place(0, self.processes))
        told = False
        while (missing := self._missing()) is not None:
            check()
            self._require_children()
            if missing and not told:
                told = True
                waiting(missing)
            time.sleep(_LOOK)
        world = 1 + self._count(_JOINED)
        self._store.set(_WORLD, f"{world} {device.type}")
        self._call(world, check)
        team = connected(self._store, 0, world, device, self.why_ended, self.asked_to_stop)
        team.on_end(self.close, self.abandon)
        return team

    def _call(self, world: int, check: Callable[[], None]) -> None:
        """Wait for an answer of each process: one may have left while the images were prepared. RunProblem."""
        deadline = time.monotonic() + _TO_ANSWER
        while (present := self._count(_PRESENT)) < world - 1:
            check()
            self._require_children()
            if time.monotonic() > deadline:
                raise RunProblem(
                    "The run cannot begin",
                    f"{world - 1 - present} of the processes that had joined no longer answer",
                    "Resume it, and have the other machines join again",
                )
            time.sleep(_LOOK)

    def _require_children(self) -> None:
        """RunProblem if a process of this machine has ended before the run began."""
        if (ended := self._ended()) is not None:
            raise RunProblem("A process of the run could not be started", ended, "See the lines above this one")

    def asked_to_stop(self) -> bool:
        """Whether Ctrl+C was pressed on another machine."""
        with suppress(RuntimeError):
            return bool(self._store.check([_STOP]))
        return False

    def why_ended(self) -> str:
        """The error that a process reported before it ended, or how a local process ended; empty if unknown."""
        with suppress(RuntimeError):
            if self._store.check([_FAILED]):
                return str(self._store.get(_FAILED).decode("utf-8", "replace"))
        deadline = time.monotonic() + 1  # its exit may be noticed later than the lost connection
        while time.monotonic() < deadline:
            if (ended := self._ended()) is not None:
                return ended
            time.sleep(_LOOK)
        return ""

    def close(self) -> None:
        deadline = time.monotonic() + _TO_END
        for child in self._children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def abandon(self) -> None:
        """End the processes of this machine before they have formed a team."""
        for child in self._children:
            child.terminate()
        self.close()

    def _missing(self) -> int | None:
        """The number of machines that have not joined; 0 if only processes are missing; None if all have joined."""
        machines = self.cluster.machines - 1 - self._count(_MACHINES)
        if machines > 0:
            return machines
        return 0 if self._count(_JOINED) < self.processes - 1 + self._count(_PROCESSES) else None

    def _count(self, key: str) -> int:
        return int(self._store.add(key, 0))

    def _ended(self) -> str | None:
        for index, child in enumerate(self._children, start=2):
            if (code := child.poll()) is not None:
                how = f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
                return f"process {index} of {self.processes} on this machine: {how}"
        return None


class Guest:
    """The side of every other process: joins the first one and gets a rank."""

    def __init__(self, address: Address, place: Place) -> None:
        """Connect to a run. RunProblem if it is not there, or has another version."""
        self._store, theirs = _joined_store(address)
        if theirs != _versions():
            raise RunProblem(
                "This machine cannot join the run",
                f"it has {_versions()}, and the first machine has {theirs}",
                "Install the same versions on both",
            )
        if place.index == 0:
            use_interface_of(own_address(address.host))
            self._store.add(_PROCESSES, place.processes)
            self._store.add(_MACHINES, 1)
        self.rank = int(self._store.add(_JOINED, 1))

    def team(self) -> Processes:
        """Wait until the run begins. RunProblem if its first process ends before that."""
        try:
            while not self._store.check([_WORLD]):  # its images are being prepared
                time.sleep(_LOOK)
            found, device = self._store.get(_WORLD).decode("ascii").split()
        except RuntimeError as error:
            raise RunProblem(
                "The run ended before it began", "its first process has ended", "See its run folder for the reason"
            ) from error
        world = int(found)
        if self.rank >= world:
            raise RunProblem(
                "The run already has all its processes", remedy="Stop it, and resume it with more machines"
            )
        self._store.add(_PRESENT, 1)
        return connected(self._store, self.rank, world, torch.device(device))

    def ask_to_stop(self) -> None:
        """Have the first process stop the run after its step, with a checkpoint."""
        self._tell(_STOP, "1")

    def fail(self, sentence: str) -> None:
        """Report to the first process why this one ends."""
        self._tell(_FAILED, f"{socket.gethostname()}: {sentence}".rstrip("."))

    def _tell(self, key: str, value: str) -> None:
        """Set a key and return once the first process has it. It may have ended."""
        with suppress(RuntimeError):
            self._store.set(key, value)  # does not wait for an answer
            self._store.check([key])  # is answered after it, on the same connection


class TorchrunHost:
    """The first process under torchrun, which has started and connected all processes."""

    port = 0

    def __init__(self) -> None:
        self._team = from_torchrun()

    def team(self, device: torch.device, waiting: Callable[[int], None], check: Callable[[], None]) -> Processes:
        return self._team

    def abandon(self) -> None:
        """Nothing to do: torchrun ends the other processes."""


def from_torchrun() -> Processes:
    """The team of all processes that torchrun has started."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.init_process_group(_backend(device), timeout=_GRADIENTS)
    return _processes(torch.distributed.get_rank(), torch.distributed.get_world_size())


def connected(
    store: Any,
    rank: int,
    world: int,
    device: torch.device,
    why: Callable[[], str] = lambda: "",
    stop: Callable[[], bool] = lambda: False,
) -> Processes:
    try:
        torch.distributed.init_process_group(
            _backend(device), store=_stores.PrefixStore("group", store), rank=rank, world_size=world, timeout=_GRADIENTS
        )
        return _processes(rank, world, why, stop)
    except RuntimeError as error:
        raise RunProblem(
            "The processes of the run cannot reach each other",
            why() or (str(error).splitlines() or [""])[0][:200],
            "Check the firewalls of the machines; set GLOO_SOCKET_IFNAME to choose the network interface",
        ) from error


def _processes(
    rank: int, world: int, why: Callable[[], str] = lambda: "", stop: Callable[[], bool] = lambda: False
) -> Processes:
    orders = torch.distributed.new_group(backend="gloo", timeout=_ORDERS)
    team = Processes(rank, world, torch.distributed.group.WORLD, orders, why, stop)
    team.on_end(torch.distributed.destroy_process_group, _break_off)
    return team


def _break_off() -> None:
    """Leave the process groups to the end of this process, because NCCL may wait for one that has ended."""
    if "nccl" not in torch.distributed.get_backend_config():
        torch.distributed.destroy_process_group()


def _backend(device: torch.device) -> str:
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def use_device(device: torch.device, place: Place) -> None:
    """Assign this process its GPU, or its share of the CPU threads. BadRequest if there are too few GPUs."""
    if device.type == "cuda":
        if place.processes > torch.cuda.device_count():
            raise BadRequest(
                f"{count_of(place.processes, 'process', 'processes')} "
                f"{by_number(place.processes, 'is', 'are')} too many for this machine",
                f"it has {count_of(torch.cuda.device_count(), 'GPU')}, and each process needs one",
                "Use fewer processes",
            )
        torch.cuda.set_device(place.index)
    elif place.processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // place.processes))


def processes_here(asked: int) -> int:
    return asked if asked != ALL_DEVICES else max(1, torch.cuda.device_count())


def start_processes(arguments: Sequence[str], address: Address, processes: int) -> list[subprocess.Popen[bytes]]:
    """Start all processes of this machine except the first one; they do not read standard input."""
    command = [sys.executable, "-m", "diffstudio", *arguments, "--join", str(address)]
    none = subprocess.DEVNULL
    places = [Place(index, processes) for index in range(1, processes)]
    return [
        subprocess.Popen(command, stdin=none, stdout=none, env=os.environ | place.as_environment()) for place in places
    ]


def use_interface_of(address: str) -> None:
    """Make gloo use the network of this address; by default it uses that of the host name, often the loopback."""
    name = interface_of(address)
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _listening(port: int, *, public: bool) -> socket.socket:
    """Open the port; unless `public`, other machines cannot reach it."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("" if public else LOCAL, port))
        found.listen()
    except OSError as error:
        found.close()
        raise RunProblem(
            f"The port {port} cannot be opened", error.strerror or str(error), "Choose another port"
        ) from error
    return found


def _joined_store(address: Address) -> tuple[Any, str]:
    """The store of the run at an address, and the versions of its first process. RunProblem if there is no run."""
    seconds = _TO_CONNECT.total_seconds()
    wait_for_port(address, seconds)

    def connect() -> tuple[Any, str]:
        store = _stores.TCPStore(
            address.host, address.port, is_master=False, wait_for_workers=False, timeout=_TO_CONNECT
        )
        return store, store.get(_VERSION).decode("utf-8", "replace")

    return within(seconds, connect, address)


def _versions() -> str:
    return f"diffstudio {__version__} with torch {torch.__version__.split('+')[0]}"
