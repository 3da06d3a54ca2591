"""The events of a training run, one JSON object a line in its events.jsonl. Their names and keys are a file format.

Every line has `format`, `event` (a name of the table below), `at` (seconds since the epoch) and `step`, and the fields of
its class. Fields with a default came later than the others: lines written before have none of them.

    preparing   done, pictures
    started     steps, pid, parameters, pictures, held_out, device, dtype, threads, why; minutes, folder, starter,
                objective, splits
    step        steps, pictures_seen, loss, gradient_norm, learning_rate, pictures_per_second, elapsed_seconds,
                left_seconds; progress, generator_loss, upper_loss, splits
    held_out    loss; levels, level_losses, training_loss, training_level_losses, best, upper_loss, splits, low, high
    cross_validated  splits, pictures, best_step, length, loss, low, high, steps, losses, why; baseline
    samples     ema, raw, columns, rows, size, prompts; nearest, ratios, copied, channels
    diversity   spread, vendi, real_vendi; samples, precision, real_precision, coverage, real_coverage, recall, real_recall
    verdict     outcome, sentence, evidence; best_step, copied, nearest
    checkpoint  path; held_out_loss, best
    rolled_back from_step, rate_scale, why
    early_decay best_step, why
    early_stop  best_step, why
    comparing   done, pictures
    checkpoint_chosen  chosen, why, steps, distances, copied, pictures
    waiting     holder; machines, join_command
    paused, resumed, stopped
    finished    checkpoint, learned, verdict; outcome, evidence, best_step
    failed      why
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, get_args, get_origin, get_type_hints

FORMAT = 1


class Outcome(StrEnum):
    """What a run has learned, as it is judged. Events hold the values, and may hold those of newer versions."""

    LEARNING = "learning"
    READY = "ready"  # the best checkpoint is behind
    COPYING = "copying"
    COLLAPSED = "collapsed"
    TOO_LITTLE = "too_little"  # data or time to say


@dataclass(frozen=True, slots=True)
class RunPreparing:
    """Images are being decoded: about twice a second before RunStarted, never when the image cache is used."""

    event: ClassVar[str] = "preparing"
    step: int  # 0, or about the step at which it resumes
    done: int
    images: int


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Once for every process that trains the run; `step` is 0, or the step at which it resumes."""

    event: ClassVar[str] = "started"
    step: int
    steps: int  # estimated if the budget is a time; 0 before the first estimate
    pid: int
    parameters: int
    images: int
    held_out: int
    device: str
    dtype: str
    threads: int
    why: str  # the choices made for the folder and this machine, in sentences
    minutes: float = 0.0  # of training, where the budget is a time; otherwise 0
    folder: str = ""  # of the images
    starter: str = ""  # the name of the checkpoint whose weights the run started from
    objective: str = "diffusion"  # a value of recipe.ObjectiveName, which determines the losses
    splits: int = 0  # folds of the cross-validation that chooses its steps; 0 without one


@dataclass(frozen=True, slots=True)
class RunStep:
    """About once a second: means over the steps since the last of these events."""

    event: ClassVar[str] = "step"
    step: int
    steps: int  # an estimate where the budget is a time
    images_seen: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    elapsed_seconds: float  # of all processes of the run, without the time it was paused or waited
    left_seconds: float
    progress: float | None = None  # the share of the run that is done, 0 to 1, by its steps or its time
    generator_loss: float | None = None  # of a GAN, whose `loss` is the discriminator's
    upper_loss: float | None = None  # of the upper level of a cascade, whose `loss` is the base's
    splits: int = 0  # networks of a cross-validation that each did this step; 0: it is the run's own


@dataclass(frozen=True, slots=True)
class RunHeldOut:
    """The held-out measure of the EMA weights, on the held-out images and as many training images, with fixed noise.

    For diffusion models a loss at fixed noise levels, for VAEs the negative ELBO in bits per dimension, and for GANs,
    which have no such loss, the energy distance between generated and held-out images. In a cross-validation the mean
    over all images, each held out by one of its networks.
    """

    event: ClassVar[str] = "held_out"
    step: int
    loss: float  # on the held-out images
    levels: tuple[float, ...] = ()  # noise levels t, rising; 1 is pure noise
    level_losses: tuple[float, ...] = ()  # on the held-out images at each of these
    training_loss: float | None = None  # on as many training images
    training_level_losses: tuple[float, ...] = ()
    best: bool = False  # the lowest loss so far
    learned_levels: tuple[float, ...] = ()  # with learned variance or adaptive noise levels: t, rising
    learned_losses: tuple[float, ...] = ()  # the loss of training batches at each, as the run followed it
    drawn: tuple[float, ...] = ()  # density of adaptive noise levels at each
    upper_loss: float | None = None  # of the upper level of a cascade, whose `loss` is the base's
    splits: int = 0  # folds of a cross-validation; 0: it is the run's own
    low: float | None = None  # the 95% interval of the loss of a cross-validation
    high: float | None = None


@dataclass(frozen=True, slots=True)
class RunCrossValidated:
    """A cross-validation has chosen the steps of the run, which starts now on all images."""

    event: ClassVar[str] = "cross_validated"
    step: int  # of the run
    splits: int
    images: int  # held out by one of them
    best_step: int
    length: int  # steps of the schedule that it is a part of
    loss: float  # at that step: the mean over these images
    low: float  # its 95% interval
    high: float
    steps: tuple[int, ...]  # of all measurements, rising
    losses: tuple[float, ...]
    why: str
    baseline: float | None = None  # the loss of Gaussian models of the folds


@dataclass(frozen=True, slots=True)
class RunSamples:
    event: ClassVar[str] = "samples"
    step: int
    ema: str  # paths relative to the run folder
    raw: str
    columns: int
    rows: int
    size: int  # px, width and height of one sample
    prompts: tuple[str, ...]
    nearest: tuple[str, ...] = ()  # the training image nearest to each EMA sample, relative to the image folder
    ratios: tuple[float, ...] = ()  # distance to it over the mean distance to the next 49: near 0 for a copy
    copied: tuple[int, ...] = ()  # indices of the samples that are called copies
    channels: int = 0  # of an array: each has a sheet of its own, see `channel_sheet`


def channel_sheet(sheet: Path, number: int) -> Path:
    """The sample sheet of one channel, counted from 1, beside the sheet of all; that itself for 0."""
    return sheet.with_name(f"{sheet.stem}-channel-{number}{sheet.suffix}") if number else sheet


@dataclass(frozen=True, slots=True)
class RunDiversity:
    """The diversity of samples of the EMA weights compared with as many training images, measured before each verdict.

    Precision, coverage and recall compare with held-out images; None if there are too few of them.
    """

    event: ClassVar[str] = "diversity"
    step: int
    spread: float  # mean distance between two samples / between two training images
    vendi: float
    real_vendi: float
    samples: int = 0  # number of samples for the measures below
    precision: float | None = None
    real_precision: float | None = None
    coverage: float | None = None
    real_coverage: float | None = None
    recall: float | None = None
    real_recall: float | None = None


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What was learned so far, judged by held-out loss, copies and diversity together."""

    event: ClassVar[str] = "verdict"
    step: int
    outcome: str  # a value of Outcome
    sentence: str
    evidence: tuple[str, ...]  # in sentences
    best_step: int | None = None  # of the lowest held-out loss, or of the checkpoint that was chosen at the end
    copied: tuple[str, ...] = ()  # training images that samples are copies of, relative to the image folder


@dataclass(frozen=True, slots=True)
class RunCheckpoint:
    event: ClassVar[str] = "checkpoint"
    step: int
    path: str  # relative to the run folder
    held_out_loss: float | None = None
    best: bool = False  # the lowest held-out loss so far: latest.safetensors is a copy of it until the end of the run


@dataclass(frozen=True, slots=True)
class RunRolledBack:
    """The training diverged at `from_step` and goes on from `step` with a lower learning rate."""

    event: ClassVar[str] = "rolled_back"
    step: int
    from_step: int
    rate_scale: float  # factor of the recipe's learning rates from now on
    why: str


@dataclass(frozen=True, slots=True)
class RunEarlyStop:
    """The held-out loss has stopped falling: the run ends before its time."""

    event: ClassVar[str] = "early_stop"
    step: int
    best_step: int
    why: str


@dataclass(frozen=True, slots=True)
class RunEarlyDecay:
    """The held-out loss has stopped falling: the learning rate falls from now on, and the run ends once it is 0."""

    event: ClassVar[str] = "early_decay"
    step: int
    best_step: int
    why: str


@dataclass(frozen=True, slots=True)
class RunComparing:
    """After the last step, images of the checkpoints are being drawn, to choose one; before them and after each batch."""

    event: ClassVar[str] = "comparing"
    step: int
    done: int
    images: int  # of all that are compared


@dataclass(frozen=True, slots=True)
class RunCheckpointChosen:
    """The checkpoint to generate with was chosen at the end of the run, by images of each that is named."""

    event: ClassVar[str] = "checkpoint_chosen"
    step: int
    chosen: int  # its step: latest.safetensors is now a copy of it
    why: str
    steps: tuple[int, ...]  # of the checkpoints that were compared, rising; twice if sampled in two ways
    distances: tuple[float, ...]  # energy distance of the images of each to the held-out images
    copied: tuple[int, ...]  # how many images of each are called copies of training images
    images: int  # of each
    min_timesteps: tuple[float, ...] = ()  # with which those of each were sampled; empty: 0
    min_timestep: float = 0.0  # to generate with


@dataclass(frozen=True, slots=True)
class RunPaused:
    event: ClassVar[str] = "paused"
    step: int


@dataclass(frozen=True, slots=True)
class RunResumed:
    """After RunPaused or RunWaiting, in the same process."""

    event: ClassVar[str] = "resumed"
    step: int


@dataclass(frozen=True, slots=True)
class RunWaiting:
    """The accelerator is lent to image generation, or not available yet; or other machines have not joined."""

    event: ClassVar[str] = "waiting"
    step: int
    holder: str = ""  # what has the accelerator: `generating images`, `training NAME`
    machines: int = 0  # that have not joined yet
    join_command: str = ""  # to enter on each of them


@dataclass(frozen=True, slots=True)
class RunStopped:
    event: ClassVar[str] = "stopped"
    step: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    event: ClassVar[str] = "finished"
    step: int
    checkpoint: str
    learned: bool  # the outcome is `learning` or `ready`
    verdict: str  # the sentence to show
    outcome: str = ""  # a value of Outcome; "" in earlier runs
    evidence: tuple[str, ...] = ()
    best_step: int | None = None  # of the checkpoint to generate with


@dataclass(frozen=True, slots=True)
class RunFailed:
    event: ClassVar[str] = "failed"
    step: int
    why: str


RunEvent: TypeAlias = (
    RunPreparing
    | RunStarted
    | RunStep
    | RunHeldOut
    | RunCrossValidated
    | RunSamples
    | RunDiversity
    | RunVerdict
    | RunCheckpoint
    | RunRolledBack
    | RunEarlyDecay
    | RunEarlyStop
    | RunComparing
    | RunCheckpointChosen
    | RunPaused
    | RunResumed
    | RunWaiting
    | RunStopped
    | RunFinished
    | RunFailed
)
_KINDS: dict[str, type[RunEvent]] = {kind.event: kind for kind in get_args(RunEvent)}
# Keys of events.jsonl where they differ from the names of the fields
_JSON_KEYS = {"images": "pictures", "images_seen": "pictures_seen", "images_per_second": "pictures_per_second"}


def event_line(event: RunEvent) -> str:
    """The event as a line of events.jsonl, without its end."""
    values = {_JSON_KEYS.get(name, name): value for name, value in asdict(event).items()}
    return json.dumps({"format": FORMAT, "event": event.event, "at": time.time()} | values, ensure_ascii=False)


def parse_events(lines: bytes) -> Iterator[RunEvent]:
    """The events in these lines. Damaged lines and unknown events are skipped."""
    for line in lines.splitlines():
        try:
            values = json.loads(line)
            kind = _KINDS[values["event"]]
            if values["format"] > FORMAT:
                continue
            yield kind(
                **{
                    name: _checked_value(hint, values[key])
                    for name, (key, hint, optional) in _fields(kind.event).items()
                    if key in values or not optional
                }
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue


@cache
def _fields(event: str) -> dict[str, tuple[str, Any, bool]]:
    """The key, the type and whether it may be missing, of each of an event's fields by name."""
    hints = get_type_hints(_KINDS[event])
    return {
        field.name: (_JSON_KEYS.get(field.name, field.name), hints[field.name], field.default is not MISSING)
        for field in fields(_KINDS[event])
    }


def _checked_value(hint: object, value: Any) -> Any:
    """A JSON value as the type of the field. TypeError when it has another type."""
    if value is None and type(None) in get_args(hint):
        return None
    kinds = [kind for kind in get_args(hint) if kind not in (type(None), Ellipsis)]
    if get_origin(hint) is tuple:
        if isinstance(value, list):
            return tuple(_checked_value(kinds[0], item) for item in value)
    elif kinds:
        return _checked_value(kinds[0], value)
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    raise TypeError(f"{value!r} is not {hint}")
