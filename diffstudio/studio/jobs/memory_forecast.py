"""What a request will need of the memory there is, told before it runs. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.detection.types import Layout
from diffstudio.models.memory.estimate import Estimate, estimate, usual_dtype
from diffstudio.studio.requests import GenerateRequest

_COUNTED_ON = 0.9  # of the free memory
_DENSE = 0.5  # of it, up to which packed weights are unpacked at once
_MOST_AT_ONCE = 8  # pictures in a batch on an accelerator
_PIXELS_AT_ONCE = 16 * 64 * 64  # in a batch on the CPU
_WHOLE = 2  # times the trained side, up to which a picture is made whole


@dataclass(frozen=True, slots=True)
class Machine:
    """What pictures are computed on, and how much memory it has: free is what could be had if the models kept loaded went."""

    device: str  # cpu, cuda, mps
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked about."""

    request: GenerateRequest
    checkpoint: Checkpoint
    controls: tuple[Checkpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """In bytes; `plan` says in a sentence what will be done where it does not fit, and is empty where it does."""

    needed: int
    free: int
    plan: str

    @property
    def fits(self) -> bool:
        return not self.plan

    @property
    def negligible(self) -> bool:
        """So little that nobody wants to read of it."""
        return self.fits and self.needed < 0.02 * self.free


def needs(wanted: Wanted, machine: Machine) -> MemoryForecast:
    """As estimated from headers alone, for the largest batch and pass of the request."""
    dtype = usual_dtype(machine.device, wanted.checkpoint.parameters)
    width, height, tiled = _seen(wanted)
    needed = _of(wanted, width, height, 1, dtype, machine)
    for count in range(2, _at_once(wanted.request, width, height, machine) + 1):
        more = _of(wanted, width, height, count, dtype, machine)
        if machine.device != "cpu" and more.total > _COUNTED_ON * machine.free_bytes:
            break  # there a batch is only as large as fits
        needed = more
    plan = _plan(needed, machine, tiled)
    return MemoryForecast(needed.total, machine.free_bytes, plan)


def _of(wanted: Wanted, width: int, height: int, count: int, dtype: str, machine: Machine) -> Estimate:
    told = estimate(wanted.checkpoint, width, height, count, dtype, wanted.controls)
    checkpoint = wanted.checkpoint
    packed = checkpoint.layout is Layout.GGUF or checkpoint.dtype.startswith("F8")
    if packed and told.weights > _DENSE * machine.free_bytes:
        unpacked = estimate(checkpoint, 1, 1, 1, dtype).weights
        return Estimate(told.weights - unpacked + checkpoint.size_bytes, told.sampling, told.decoding)
    return told


def _seen(wanted: Wanted) -> tuple[int, int, bool]:
    """Width and height of the largest that the network looks at, and whether that is a window."""
    request, checkpoint = wanted.request, wanted.checkpoint
    family = family_of(checkpoint.family)
    side = max(checkpoint.width, checkpoint.height) or (family.side if family is not None else 0) or 512
    width, height = request.width or checkpoint.width or side, request.height or checkpoint.height or side
    if request.enlarge <= 1:
        return width, height, False
    larger = (round(request.enlarge * width), round(request.enlarge * height))
    if request.tiled or max(larger) > _WHOLE * side:
        return max(width, min(side, larger[0])), max(height, min(side, larger[1])), True
    return larger[0], larger[1], False


def _at_once(request: GenerateRequest, width: int, height: int, machine: Machine) -> int:
    most = max(1, _PIXELS_AT_ONCE // (width * height)) if machine.device == "cpu" else _MOST_AT_ONCE
    return min(most, request.count)


def _plan(needed: Estimate, machine: Machine, tiled: bool) -> str:
    room = _COUNTED_ON * machine.free_bytes
    if needed.total <= room:
        return ""
    steps = []
    if needed.decoding > needed.sampling and needed.weights + needed.sampling <= room:
        return "The picture will be decoded in tiles, because it does not fit into memory at once."
    if machine.device == "cpu":
        if needed.weights > room:
            return (
                "The checkpoint alone is larger than the memory that is free: the machine will become very slow, or the job will "
                "fail. Close other programs, or choose a smaller checkpoint."
            )
        steps.append("smaller pieces are tried")
    else:
        steps.append("its parts will come to the accelerator one after the other, which takes longer")
    if not tiled:
        steps.append("if that does not help, choose a smaller size")
    return f"It does not fit into the memory that is free: {'; '.join(steps)}."
