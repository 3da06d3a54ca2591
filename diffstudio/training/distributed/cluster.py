"""Cluster: the number of processes and machines of a run, and the command that joins another machine. No torch."""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest, must_be_between

PORT = 29_500  # the default port for other machines, the same as torchrun's
ALL_DEVICES = 0  # as a number of processes: one per GPU
MOST_PROCESSES = MOST_MACHINES = 1024
LOCAL = "127.0.0.1"
_NOWHERE = ("192.0.2.1", 9)  # reserved for documentation (RFC 5737); nothing is sent there
_ADDRESS = re.compile(r"\[?([0-9A-Za-z._:-]+?)\]?:(\d{1,5})$")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The settings of a run on its first machine."""

    processes: int = 1  # on this machine; ALL_DEVICES: one per GPU, or a single one without GPUs
    machines: int = 1
    port: int = PORT

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("number of processes", self.processes, ALL_DEVICES, MOST_PROCESSES),
            ("number of machines", self.machines, 1, MOST_MACHINES),
            ("port", self.port, 1, 65_535),
        ):
            if not least <= value <= most:
                raise BadRequest(f"The {name} is {str(value)[:20]}", must_be_between(least, most))

    @property
    def is_one_process(self) -> bool:
        return self.processes == 1 and self.machines == 1


@dataclass(frozen=True, slots=True)
class Address:
    """The network address of a run's first process."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `host:port`. BadRequest for anything else."""
        match = _ADDRESS.match(text)
        if match is None or not 0 < int(match[2]) < 65_536:
            raise BadRequest(
                f"{text[:80]!r} is not the address of a run", remedy=f"Give host and port, as in 192.168.1.5:{PORT}"
            )
        return cls(match[1], int(match[2]))


def join_command(folder: Path | None, port: int) -> str:
    """The command to enter on another machine, which may have the images in another folder."""
    images = shlex.quote(str(folder)) if folder is not None else "FOLDER"
    return f"diffstudio train {images} --join {Address(own_address(), port)}"


def own_address(towards: str | None = None) -> str:
    """The address of this machine in the network of another one, or by default in that of the default route."""
    target = (towards, _NOWHERE[1]) if towards is not None else _NOWHERE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(target)  # chooses a route, without a packet
        except OSError:
            return LOCAL
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    """The name of the network interface with this address; None if there is none."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    return None


@dataclass(frozen=True, slots=True)
class Place:
    """The local rank of a process and the number of processes of its machine: LOCAL_RANK and LOCAL_WORLD_SIZE."""

    index: int = 0
    processes: int = 1

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Place:
        return cls(int(environment.get("LOCAL_RANK", 0)), int(environment.get("LOCAL_WORLD_SIZE", 1)))

    def as_environment(self) -> dict[str, str]:
        return {"LOCAL_RANK": str(self.index), "LOCAL_WORLD_SIZE": str(self.processes)}


def torchrun_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """The rank of a process started by torchrun or a similar program; None otherwise."""
    if int(environment.get("WORLD_SIZE", 1)) < 2 or "MASTER_ADDR" not in environment:
        return None
    return int(environment.get("RANK", 0))
