"""Sharded weights with FSDP2: each process holds a part of the weights, EMA weights and optimiser state.

For networks that do not fit into the memory of one device with all of these. `torch.distributed.fsdp.fully_shard` gathers
the weights of a block when it is computed. Checkpoints and samples need whole weights: `gathered`, called by all processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diffstudio.networks.cascade import CascadedTransformer
from diffstudio.networks.unet import PixelNetwork

PARAMETERS = 1_000_000_000  # larger networks are sharded


def shard(network: PixelNetwork, device: torch.device) -> None:
    """Shard each of the network's blocks, then the rest, over all processes; gradients are summed, not averaged.

    Parameters are replaced, so build optimisers afterwards.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    upper = network.upper.blocks if isinstance(network, CascadedTransformer) else ()
    for module in (*network.blocks, *upper, network):
        fully_shard(module, mesh=mesh)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # the only reduction that gloo supports


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, which has the method `full_tensor`."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered from all processes, which must all call this; other tensors are returned as they are."""
    if not is_sharded(tensor):
        return tensor
    sharded: Any = tensor  # a DTensor, whose module takes a second to import
    gathered_tensor: Tensor = sharded.full_tensor()
    return gathered_tensor


def number(tensor: Tensor) -> float:
    """The value of a tensor with one element, which may be sharded."""
    return float(whole(tensor))


def gathered(value: Any) -> Any:
    """A state with every sharded tensor in it gathered. All processes must call this on the same state."""
    if isinstance(value, Tensor):
        return whole(value)
    if isinstance(value, Mapping):
        return {key: gathered(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(gathered(each) for each in value)
    return value


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor sharded like `other`; unchanged if `other` is whole."""
    if not is_sharded(other):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


@torch.no_grad()
def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of whole weights into a sharded network. KeyError or RuntimeError if they do not fit."""
    for name, mine in network.state_dict().items():
        mine.copy_(like(weights[name], mine))


def shard_optimiser_state(optimisers: Iterable[Optimizer]) -> None:
    """Shard the newly loaded, whole optimiser state like the parameters it belongs to."""
    for optimiser in optimisers:
        for parameter, state in optimiser.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim:
                    state[name] = like(value, parameter)
