"""AttentionRecording: attention maps of words by layer and step, recorded while an image is sampled.

recording = AttentionRecording(layers, steps_words, names, grid_side=…)
with recording.attached(model.network):
    for step in sample(model, prompt, options, wrap=recording.wrap):
        recording.next_step()

A denoiser calls its network with the subprompts of AND first, in order, and then the negative prompt, in one batch or in
several, so the rows before it identify a row. Only a batch of one image can be recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.evaluation.attention.maps import resized, token_grid
from diffstudio.models.inspection.layers import AttentionLayer, Reading, WantedRow

LARGEST_SIDE = 32  # cells of a map
MOST_VALUES = 16_000_000  # of all maps together, 64 MB; beyond this their resolution is reduced


@dataclass(frozen=True, slots=True)
class StepWords:
    """The words of the prompt in one step, with one entry for each subprompt."""

    subprompts: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]  # number of the word, positions of its tokens


class AttentionRecording:
    """Records attention maps [words, layers, steps, h, w], the means over a step's network calls; NaN for unread words."""

    def __init__(
        self, layers: Sequence[AttentionLayer], steps: Sequence[StepWords], words: int, state: tuple[int, int]
    ) -> None:
        """`state` is the height and width of the sampled state."""
        self._layers, self._steps, self._state = tuple(layers), tuple(steps), state
        self.grid = _grid(state, words * len(layers) * len(steps))
        self._sums = torch.zeros(words, len(layers), len(steps), *self.grid)
        self._counts = torch.zeros(words, len(layers), len(steps))
        self._step = 0
        self._rows_before = 0  # rows of earlier network calls in the same denoiser call
        self.other_grids: set[str] = set()  # layers whose tokens do not cover the state evenly

    @property
    def maps(self) -> Tensor:
        return self._sums / torch.where(self._counts > 0, self._counts, torch.nan)[..., None, None]

    def next_step(self) -> None:
        """Go to the next step; call it when the sampler has finished one."""
        self._step += 1

    @contextmanager
    def attached(self, network: nn.Module) -> Iterator[None]:
        """Record every call of the network inside the `with`."""
        with ExitStack() as handles:
            for number, layer in enumerate(self._layers):
                for handle in layer.attach(Reading(self._wanted, partial(self._found, number))):
                    handles.callback(handle.remove)
            handles.callback(network.register_forward_pre_hook(self._before_call, with_kwargs=True).remove)
            handles.callback(network.register_forward_hook(self._after_call).remove)
            yield

    def wrap(self, denoiser: Denoiser) -> Denoiser:
        """The same denoiser, with its calls reported to the recording."""
        return _Recorded(denoiser, self)

    def begin_call(self) -> None:
        self._rows_before = self._rows_now = 0

    def _before_call(self, network: nn.Module, args: tuple[object, ...], named: dict[str, object]) -> None:
        self._rows_now = 0

    def _after_call(self, network: nn.Module, args: object, output: object) -> None:
        self._rows_before += self._rows_now

    def _wanted(self, batch: int) -> Sequence[WantedRow]:
        self._rows_now = batch
        if self._step >= len(self._steps):
            return ()
        subprompts = self._steps[self._step].subprompts
        return [
            WantedRow(row, number, tuple(tokens for _, tokens in subprompts[number]))
            for row in range(batch)
            if (number := self._rows_before + row) < len(subprompts) and subprompts[number]
        ]

    def _found(self, layer: int, wanted: WantedRow, maps: Tensor) -> None:
        grid = token_grid(maps.shape[1], *self._state)
        if grid is None:
            self.other_grids.add(self._layers[layer].name)
            return
        small = resized(maps.reshape(len(maps), *grid), self.grid).cpu()
        numbers = [number for number, _ in self._steps[self._step].subprompts[wanted.number]]
        self._sums[numbers, layer, self._step] += small
        self._counts[numbers, layer, self._step] += 1


@dataclass(frozen=True, slots=True)
class _Recorded:
    denoiser: Denoiser
    recording: AttentionRecording

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.recording.begin_call()
        return self.denoiser(x_t, t)


def _grid(state: tuple[int, int], maps: int) -> tuple[int, int]:
    """The grid of all maps, with the aspect ratio of the state and as fine as their number allows."""
    factor = min(1.0, LARGEST_SIDE / max(state))
    while True:
        height, width = (max(1, round(side * factor)) for side in state)
        if maps * height * width <= MOST_VALUES or height * width == 1:
            return height, width
        factor /= 2
