"""Power-function averages of weights, from which an average of any length is rebuilt after training.

Post-hoc EMA: Karras et al. 2023 (arXiv 2312.02696), section 3 and appendix C. At time t, in updates from 1, the average with
exponent gamma weights the parameters of time tau by p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1). Its length sigma_rel is
the standard deviation of this profile, divided by t. Averages of other lengths are linear combinations of
a few snapshots of two such averages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffstudio.atomic import write_bytes
from diffstudio.errors import RunProblem
from diffstudio.storage_errors import not_written

FORMAT = 1  # of snapshots
LENGTHS = (0.05, 0.10)  # of the averages that a run follows
SHORTEST, LONGEST = 0.005, 0.25  # that can be rebuilt


def gamma_of(length: float) -> float:
    """The exponent of the average with this sigma_rel: arXiv 2312.02696, eq. 126. ValueError unless 0 < length < 0.28."""
    if not 0 < length < 12**-0.5:  # that of gamma = 0, where all weights count alike
        raise ValueError(f"the length {length} is not between 0 and {12**-0.5:.3f}")
    roots = np.roots([1.0, 7.0, 16 - length**-2, 12 - length**-2])
    largest: float = roots.real.max().item()
    return largest


def length_of(gamma: float) -> float:
    """sigma_rel of an average with exponent gamma: the standard deviation of its profile over t."""
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


def decay(gamma: float, update: int) -> float:
    """beta of average <- beta * average + (1 - beta) * weights at update 1, 2, …: arXiv 2312.02696, eq. 127."""
    return math.pow(1 - 1 / update, gamma + 1)


@dataclass(frozen=True, slots=True)
class Profile:
    """A power-function average: its time in updates, and its exponent."""

    t: float
    gamma: float


def mixing(stored: Sequence[Profile], wanted: Profile) -> NDArray[np.float64]:
    """The factors [N] of `stored` averages whose sum has the profile closest to `wanted`, by least squares.

    arXiv 2312.02696, appendix C.3, with the sum of the factors constrained to 1, so that constant weights are reproduced.
    Averages of later times than the wanted one have the factor 0.
    """
    factors = np.zeros(len(stored))
    used = [index for index, one in enumerate(stored) if one.t <= wanted.t]
    t, gamma = (np.array([getattr(stored[index], name) for index in used]) for name in ("t", "gamma"))
    count = len(used)
    system = np.ones((count + 1, count + 1))  # of Lagrange: the last unknown is the multiplier
    system[:count, :count] = _inner(t[:, None], gamma[:, None], t[None], gamma[None]) * wanted.t
    system[count, count] = 0.0
    target = np.append(_inner(t, gamma, wanted.t, wanted.gamma) * wanted.t, 1.0)
    # Least squares rather than a solution, because neighbours are nearly the same where there are many.
    factors[used] = np.linalg.lstsq(system, target, rcond=1e-12)[0][:count]
    return factors


def _inner(
    t_a: NDArray[np.float64],
    gamma_a: NDArray[np.float64],
    t_b: NDArray[np.float64] | float,
    gamma_b: NDArray[np.float64] | float,
) -> NDArray[np.float64]:
    """The integral of the product of two profiles over tau: arXiv 2312.02696, eq. 135."""
    first, last = np.minimum(t_a, t_b), np.maximum(t_a, t_b)
    exponent = np.where(np.less(t_a, t_b), gamma_b, gamma_a)  # of the later one
    product: NDArray[np.float64] = (
        (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * (first / last) ** exponent / last
    )
    return product


class PowerAverages:
    """Follows the averages of LENGTHS of a network's parameters: float32, on their device."""

    def __init__(self, network: nn.Module) -> None:
        self._names = [name for name, _ in network.named_parameters()]
        self._gammas = [gamma_of(length) for length in LENGTHS]
        current = [parameter.detach() for parameter in network.parameters()]
        self._averages = [[tensor.clone() for tensor in current] for _ in LENGTHS]

    @torch.no_grad()
    def update(self, network: nn.Module, update: int) -> None:
        """Add the weights after `update` updates in all, from 1."""
        current = [parameter.detach() for parameter in network.parameters()]
        for gamma, average in zip(self._gammas, self._averages, strict=True):
            torch._foreach_lerp_(average, current, 1 - decay(gamma, update))

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The averages by their length and by the name of the parameter. The keys are a file format."""
        return {
            f"{length:g}": dict(zip(self._names, average, strict=True))
            for length, average in zip(LENGTHS, self._averages, strict=True)
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Load what `state` returned. KeyError or RuntimeError if it does not fit."""
        for length, average in zip(LENGTHS, self._averages, strict=True):
            for name, tensor in zip(self._names, average, strict=True):
                tensor.copy_(state[f"{length:g}"][name])

    @torch.no_grad()
    def restart(self, network: nn.Module) -> None:
        """Start with a network's weights, as if they had never changed."""
        for average in self._averages:
            for tensor, parameter in zip(average, network.parameters(), strict=True):
                tensor.copy_(parameter)


def save_snapshot(folder: Path, step: int, averages: PowerAverages) -> None:
    """Store the averages after `step` updates in half precision. StorageProblem when that fails."""
    path = folder / f"{step:08d}.safetensors"
    tensors = {
        f"{length}/{name}": tensor.to("cpu", torch.float16).contiguous()
        for length, of_length in averages.state().items()
        for name, tensor in of_length.items()
    }
    folder.mkdir(exist_ok=True)
    write_bytes(path, safetensors.torch.save(tensors, {"format": str(FORMAT)}), not_written(path))


def snapshot_steps(folder: Path) -> list[int]:
    """The steps of the snapshots in a folder, rising."""
    return sorted(int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdecimal())


def forget_after(folder: Path, step: int) -> None:
    """Delete the snapshots of later steps, which a run resumed from an earlier step may not repeat to the bit."""
    for later in snapshot_steps(folder):
        if later > step:
            (folder / f"{later:08d}.safetensors").unlink(missing_ok=True)


def rebuilt_weights(folder: Path, step: int, length: float) -> dict[str, Tensor]:
    """The average of this length at `step` from the snapshots up to it: float32, by the names of the parameters.

    RunProblem for a snapshot that cannot be read; ValueError for an impossible length or without a snapshot.
    """
    steps = [one for one in snapshot_steps(folder) if one <= step]
    if not steps:
        raise ValueError(f"there is no snapshot up to step {step}")
    profiles = [Profile(one, gamma_of(stored)) for one in steps for stored in LENGTHS]
    factors = mixing(profiles, Profile(step, gamma_of(length)))
    sums: dict[str, Tensor] = {}
    for index, one in enumerate(steps):
        for number, stored in enumerate(LENGTHS):
            factor = float(factors[len(LENGTHS) * index + number])
            path = folder / f"{one:08d}.safetensors"
            average = dict(_snapshot(path, f"{stored:g}/"))
            if not average or (sums and _shapes(average) != _shapes(sums)):
                raise _unreadable(path, "its tensors are not those of the run's network")
            for name, tensor in average.items():
                sums[name] = sums[name].add_(tensor, alpha=factor) if name in sums else factor * tensor
    return sums


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _snapshot(path: Path, prefix: str) -> Iterator[tuple[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get("format")
            if written != str(FORMAT):
                raise _unreadable(path, f"its format is {str(written)[:20]}, and this version reads format {FORMAT}")
            for key in file.keys():  # noqa: SIM118 - it is not a mapping
                if not key.startswith(prefix):
                    continue
                tensor = file.get_tensor(key).float()
                if not bool(tensor.isfinite().all()):
                    raise _unreadable(path, "it has values that are not finite")
                yield key.removeprefix(prefix), tensor
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, str(error)[:200]) from error


def _unreadable(path: Path, why: str) -> RunProblem:
    return RunProblem(f"The snapshot {path.name} of the run's averages cannot be read", why, "Delete it, and try again")
