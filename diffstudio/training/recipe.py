"""Recipe: everything that decides what a training run does, complete and frozen; read from and written as TOML.

A named recipe in `resources/recipes/` may leave things out; the `recipe.toml` of a run has every value written out, so
that a resumed run is the same run whatever the defaults of a later program are.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import tomli_w

from diffstudio.errors import RunProblem
from diffstudio.models.checkpoint import Conditioning
from diffstudio.training.whole import write_whole

FORMAT = 1

_T = TypeVar("_T")


class OptimiserName(StrEnum):
    MUON = "muon"          # Muon on the blocks' matrices, AdamW on the rest
    ADAMW = "adamw"
    ADAM = "adam"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class NoiseLevelsName(StrEnum):
    UNIFORM = "uniform"
    LOG_NORMAL = "log_normal"
    LOGIT_NORMAL = "logit_normal"
    COSINE = "cosine"


class DecayName(StrEnum):
    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class DataRecipe:
    size: int = 64                        # px a side
    background: str = "#ffffff"           # what transparency is laid on
    fit: str = "pad"                      # `pad`: the whole picture on the background; `crop`: the centre square
    held_out: float = 0.02                # the fraction of pictures kept for the held-out loss
    exclude: tuple[str, ...] = ()         # sub-folders left out
    flips: float = 0.3                    # the probability of a mirrored picture
    rotation_degrees: float = 0.0         # at most this far either way
    translation: float = 0.0              # at most this fraction of the side either way
    tell_augmentation: bool = True        # tell the network how a picture was moved; sampling says `not at all` (EDM, app. F.2)


@dataclass(frozen=True, slots=True)
class NetworkRecipe:
    conditioning: Conditioning = Conditioning.TEXT
    patch: int = 8                        # px a side
    margin: int = 4                       # px that a patch reaches over its edges, so that no seams show
    bottleneck: int = 128                 # width between a patch and the transformer's own
    width: int = 256
    depth: int = 6
    heads: int = 4
    condition_width: int = 256            # of the vector that modulates the blocks
    vocabulary: int = 4096                # words of the caption tokenizer, at most
    text_tokens: int = 16                 # in context
    drop_condition: float = 0.1           # how often the network is told nothing, so that guidance has its other half
    name_share: float = 0.5               # captions given as their first part alone
    tags_share: float = 0.1               # captions given as some of their other parts alone


@dataclass(frozen=True, slots=True)
class ObjectiveRecipe:
    noise_levels: NoiseLevelsName = NoiseLevelsName.LOGIT_NORMAL
    mean: float = 0.6                     # of logit t (t = 1 is noise) or of log sigma
    deviation: float = 0.9
    sigma_floor: float = 0.05             # in the division that makes a velocity of a clean-image estimate


@dataclass(frozen=True, slots=True)
class OptimiserRecipe:
    name: OptimiserName = OptimiserName.MUON
    learning_rate: float = 6e-4           # of AdamW and its kin
    muon_learning_rate: float = 0.02
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95                # of Muon, RMSprop and SGD
    warm_up_steps: int = 200
    decay: DecayName = DecayName.LINEAR
    decay_share: float = 0.3              # the last part of the run over which the rate falls to 0
    clip_norm: float = 2.0
    ema: float = 0.9995


@dataclass(frozen=True, slots=True)
class RunRecipe:
    steps: int = 6000
    minutes: float = 0.0                  # 0: `steps` counts; otherwise resolved into steps once, when the run starts
    batch: int = 64
    seed: int = 0
    dtype: str = "auto"                   # `float32`, `bfloat16`, or `auto`: the one that measures faster, resolved once
    device: str = "auto"
    threads: int = 0                      # 0: as many as there are cores
    sample_every: int = 500               # steps
    sample_count: int = 16
    checkpoint_every: int = 500
    held_out_every: int = 250
    prompts: tuple[str, ...] = ()         # of the sample sheets; none: captions of the folder
    sample_steps: int = 20
    sample_guidance: float = 3.0


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str = "from scratch"
    description: str = ""
    data: DataRecipe = field(default_factory=DataRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT} | dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """Missing values take their defaults. RunProblem for a name that is not known or a value of the wrong kind."""
        values = dict(values)
        written = values.pop("format", FORMAT)
        if not isinstance(written, int) or written > FORMAT:
            raise RunProblem(f"The recipe is of format {written!r}", f"this program reads up to {FORMAT}", "Update diffstudio")
        return _build(cls, values, "recipe")

    def write(self, path: Path) -> None:
        """Every value, defaults included; whole or not at all. StorageProblem when the place cannot be written to."""
        write_whole(path, tomli_w.dumps(self.to_json()))


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file. RunProblem when it cannot be read or says something that is not known."""
    try:
        return Recipe.from_json(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RunProblem(f"The recipe {path} cannot be read", str(error), "Check the path and the file") from error


def _build(cls: type[_T], values: dict[str, Any], where: str) -> _T:
    hints = get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise RunProblem(f"The {where} says {name!r}, which is not known", f"it may say {', '.join(hints)}")
        arguments[name] = _converted(hints[name], value, f"{where}.{name}")
    return cls(**arguments)


def _converted(hint: Any, value: Any, where: str) -> Any:
    try:
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return _build(hint, dict(value), where)
        if hint in (int, float, str, bool):
            if isinstance(value, bool) != (hint is bool) or (hint is str) != isinstance(value, str):
                raise TypeError
            if hint is int and value != int(value):
                raise TypeError
            return hint(value)
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            return hint(value)
        return tuple(value)  # tuple[str, ...] and tuple[float, float]
    except (TypeError, ValueError):
        raise RunProblem(f"The {where} is {value!r}", f"a {getattr(hint, '__name__', hint)} is needed") from None
