"""Which checkpoint of a run to generate with, and how, by the images of each: a pure function of what they showed.

The held-out loss of a diffusion model does not tell which is best. It is often lowest when the learning rate begins to fall.
From then on that loss may rise while the images still get nearer to held-out ones, without being copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffstudio.evaluation.interval import share_interval

COPIED_SHARE = 0.05  # of the samples, by the lower bound of its interval


def is_copying(copied: int, samples: int) -> bool:
    """Whether clearly more of the samples than COPIED_SHARE are copies of training images."""
    return samples > 0 and share_interval(copied, samples).low > COPIED_SHARE


@dataclass(frozen=True, slots=True)
class JudgedCheckpoint:
    """A checkpoint and what its images showed."""

    step: int
    distance: float  # energy distance of its images to the held-out images
    copied: int  # of its images
    min_timestep: float = 0.0  # with which they were sampled


@dataclass(frozen=True, slots=True)
class CheckpointChoice:
    """The checkpoints that were compared, and the one to generate with."""

    judged: tuple[JudgedCheckpoint, ...]  # by step
    images: int  # of each
    lowest_loss: int  # step of the lowest held-out loss
    chosen: int  # its step
    min_timestep: float = 0.0  # to generate with

    @classmethod
    def by_images(cls, judged: Sequence[JudgedCheckpoint], images: int, lowest_loss: int) -> CheckpointChoice:
        """The nearest to the held-out images of those that do not copy; where all do, the one with the fewest copies."""
        honest = [one for one in judged if not is_copying(one.copied, images)]
        chosen = min(honest, key=_distance) if honest else min(judged, key=lambda one: (one.copied, one.distance))
        in_order = tuple(sorted(judged, key=lambda one: (one.step, one.min_timestep)))
        return cls(in_order, images, lowest_loss, chosen.step, chosen.min_timestep)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CheckpointChoice:
        return cls(**{**values, "judged": tuple(JudgedCheckpoint(**one) for one in values["judged"])})

    @property
    def kept(self) -> JudgedCheckpoint:
        return next(one for one in self.judged if (one.step, one.min_timestep) == (self.chosen, self.min_timestep))

    @property
    def by_copies(self) -> bool:
        """Whether nearer images were not chosen, because they are copies."""
        return min(map(_distance, self.judged)) < self.kept.distance

    @property
    def reason(self) -> str:
        """A clause that says why the chosen one is kept."""
        if self.by_copies:
            return "other images are nearer to the held-out ones, but more of them are copies of training images"
        if sum(one.distance == self.kept.distance for one in self.judged) > 1:
            return "no images are nearer to the held-out ones"
        return f"its images are {'nearer' if len(self.judged) == 2 else 'nearest'} to the held-out ones"

    @property
    def between_steps(self) -> bool:
        """Whether checkpoints were compared, and not only two ways to sample one."""
        return len({one.step for one in self.judged}) > 1

    def was_made_at(self, step: int) -> bool:
        """Whether it was made after this step, and not before the run was continued."""
        return self.judged[-1].step == step

    @property
    def sentence(self) -> str:
        """What was chosen, why, and the numbers of each checkpoint."""
        compared = "; ".join(self._numbers(one) for one in self.judged)
        kept = f"The checkpoint of step {self.chosen:,} is kept{self._sampled(self.kept)}: {self.reason}."
        return f"{kept} With {self.images:,} images each, {compared}."

    def _sampled(self, one: JudgedCheckpoint) -> str:
        """How its images were sampled, if that was compared too."""
        if not any(each.min_timestep for each in self.judged):
            return ""
        return f" with a minimum timestep of {one.min_timestep:g}"

    def _numbers(self, one: JudgedCheckpoint) -> str:
        where = f"step {one.step:,}" + (" (lowest held-out loss)" if one.step == self.lowest_loss else "")
        where += self._sampled(one)
        copies = "no copies" if not one.copied else f"{one.copied:,} near-cop{'y' if one.copied == 1 else 'ies'}"
        return f"{where} has an energy distance of {one.distance:.4f} and {copies}"


def _distance(one: JudgedCheckpoint) -> float:
    return one.distance
