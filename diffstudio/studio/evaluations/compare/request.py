"""CompareRequest: the models to train on a folder, for how long, and other subjects to compare with. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffstudio.errors import BadRequest, must_be_between
from diffstudio.evaluation.report import FEWEST
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.request import AUTO, MOST_IMAGES

DIFFUSION = "diffusion"
MODELS = (DIFFUSION, "vae", "gan")
TITLES = {DIFFUSION: "Diffusion", "vae": "VAE", "gan": "GAN"}  # of MODELS in the window
LEAST_MINUTES, MOST_MINUTES = 0.05, 10_000.0  # of training, of each model and seed
MOST_SEEDS = 20


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Train each of `models` on `folder` with each seed, every run for `minutes`, and compare all of them."""

    folder: Path
    minutes: float  # of each model and seed
    models: tuple[str, ...] = MODELS  # or the names and files of recipes
    seeds: int = 3
    subjects: tuple[str, ...] = ()  # checkpoints and folders of generated images to add to the table
    count: int | None = None  # images generated with each checkpoint; None: as many as were held out, from 100 to 1,000
    seed: int = 0  # of the first image; image i has seed + i
    features: str = AUTO
    device: str = AUTO
    out: Path | None = None  # the folder for runs, images and the page; None for a new one

    def __post_init__(self) -> None:
        if not LEAST_MINUTES <= self.minutes <= MOST_MINUTES:
            raise BadRequest(
                f"The time for each model and seed is {self.minutes:g} minutes",
                must_be_between(f"{LEAST_MINUTES:g}", f"{MOST_MINUTES:,.0f}"),
            )
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise BadRequest(f"The number of seeds is {self.seeds}", must_be_between(1, MOST_SEEDS))
        if not self.models and not self.subjects:
            raise BadRequest("There is nothing to compare", remedy=f"Name some of the models {', '.join(MODELS)}")
        if twice := next((name for name in self.models if self.models.count(name) > 1), None):
            raise BadRequest(f"The model {twice} was named twice", remedy="Name each model once")
        if self.count is not None and not FEWEST <= self.count <= MOST_IMAGES:
            raise BadRequest(
                f"{count_of(self.count, 'image')} of each model", must_be_between(FEWEST, f"{MOST_IMAGES:,}")
            )
        if not 0 <= self.seed <= 2**63 - 1 - MOST_IMAGES:
            raise BadRequest(f"The seed of the images is {self.seed}", must_be_between(0, 2**63 - 1 - MOST_IMAGES))

    @property
    def training_minutes(self) -> float:
        """The training time of all runs together."""
        return len(self.models) * self.seeds * self.minutes
