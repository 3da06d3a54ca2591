"""What a person enters to train on several processes and machines."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest
from diffstudio.studio.runs.status import waiting_text
from diffstudio.training.distributed import cluster
from diffstudio.training.distributed.cluster import (
    LOCAL,
    Address,
    Cluster,
    Place,
    interface_of,
    join_command,
    own_address,
    torchrun_rank,
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_NOWHERE", (LOCAL, 9))


@pytest.mark.parametrize("text", ["192.168.1.5:29500", "gpu-2.local:1", "[fe80::1]:65535"])
def test_an_address_is_read_as_it_is_shown(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "gpu-2", "gpu-2:", ":29500", "gpu-2:0", "gpu-2:65536", "gpu 2:29500", "a:b:"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadRequest, match=r"Give host and port, as in 192\.168\.1\.5:29500"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"processes": -1}, "The number of processes is -1: it must be between 0 and 1024."),
        ({"machines": 0}, "The number of machines is 0"),
        ({"port": 70_000}, "The port is 70000: it must be between 1 and 65535."),
    ],
)
def test_impossible_numbers_are_refused(values: dict[str, int], says: str) -> None:
    with pytest.raises(BadRequest) as error:
        Cluster(**values)
    assert says in str(error.value)


def test_one_process_on_one_machine_needs_nothing() -> None:
    assert Cluster().is_one_process
    assert not Cluster(processes=2).is_one_process and not Cluster(machines=2).is_one_process
    assert not Cluster(processes=0).is_one_process  # as many as there are GPUs


def test_the_command_for_another_machine_can_be_pasted_into_a_shell() -> None:
    command = join_command(Path("/home/me/my cats"), 29_511)
    assert command == "diffstudio train '/home/me/my cats' --join 127.0.0.1:29511"
    assert join_command(None, 29_511).startswith("diffstudio train FOLDER --join ")
    assert (waiting_text("", 1), waiting_text("", 2)) == ("waiting for 1 more machine", "waiting for 2 more machines")


def test_the_address_and_its_network_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_address(LOCAL) == own_address() == LOCAL
    assert (interface_of(LOCAL) or "").startswith(("lo", "Loopback"))
    assert interface_of("203.0.113.9") is None

    def unreachable(*_: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    assert own_address() == LOCAL


def test_torchrun_is_recognised_by_what_it_sets() -> None:
    started = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "gpu-1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert torchrun_rank(started) == 3 and Place.here(started) == Place(1, 2)
    assert torchrun_rank({}) is None and torchrun_rank(started | {"WORLD_SIZE": "1"}) is None
    assert Place.here({}) == Place() and Place.here(Place(2, 3).as_environment()) == Place(2, 3)
