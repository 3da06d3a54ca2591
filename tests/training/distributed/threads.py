"""Teams whose processes are threads of this one: the same groups over the loopback network, started in no time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch

from diffstudio.training.distributed.team import Processes

distributed: Any = torch.distributed
PATIENCE = timedelta(seconds=30)
T = TypeVar("T")


def together(world: int, act: Callable[[Processes], T], beat: float = 20.0) -> list[T]:
    """What `act` returns for each member of a team of so many, which run at the same time; an error of one is raised."""
    store, results, errors = distributed.HashStore(), [None] * world, []

    def member(rank: int) -> None:
        team = None
        try:
            groups = [
                distributed.ProcessGroupGloo(distributed.PrefixStore(name, store), rank, world, PATIENCE)
                for name in ("gradients", "orders")
            ]
            team = Processes(rank, world, *groups, beat=beat)
            groups.clear()
            results[rank] = act(team)  # type: ignore[call-overload]
        except BaseException as error:
            errors.append(error)  # before the others notice: theirs come after it
        finally:
            if team is not None:
                team.abandon()
                team._gradients = team._orders = None  # closes the connections, as the end of a process does

    threads = [threading.Thread(target=member, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results  # type: ignore[return-value]
