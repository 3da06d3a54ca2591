"""What guidance does to diversity: `python -m tests.benchmarks.diversity starter`, or `digits [FOLDER]`.

starter: 12 prompts with 6 seeds each, with the starter's own sampler. Vendi: that of the 6 images of a prompt, by
EfficientNet-Lite0, mean over the prompts. Agreement: the share of images whose nearest of the 12 prompts is their own, a
prompt being the mean feature of 6 images with other seeds at CFG scale 3.

digits: step 750 of a class-conditional run of 1,200 on scikit-learn's digits, enlarged to 16 px, guided by its own
checkpoint of step 150. 300 images against the held-out ones, by a network trained on the training part, the real row
first. FOLDER keeps the run, and is used again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffstudio import paths
from diffstudio.diffusion.guidance import ConditionAnnealing
from diffstudio.evaluation.features.feature_network import FeatureNetwork, imagenet_network
from diffstudio.evaluation.features.folder_network import folder_network
from diffstudio.evaluation.report import GeneratedImages, RealImages, Row, real_row, row
from diffstudio.evaluation.vendi import vendi_score
from diffstudio.models import loading
from diffstudio.models.guidance_options import GuidanceOptions, WeakModel
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.folders.reading import read_real
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.training.loop import train
from diffstudio.training.recipe import read_recipe
from tests.benchmarks.samplers import PROMPTS

COUNT, SEEDS = 12, 6
LENGTH, STEPS, EARLY = 1200, 750, 150
DIGITS = 300  # images of each row
RECIPE = """format = 1
name = "digits"
[data]
size = 16
flips = 0.0
held_out = 0.3
[network]
width = 64
depth = 3
patch = 4
conditioning = "class"
[run]
steps = 1200
batch = 64
checkpoint_every = 150
sample_every = 100000
held_out_every = 150
"""


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    guidance: float = 3.0
    interval: tuple[float, float] | None = None
    cads: float = 0.0
    autoguidance: float = 0.0

    def options(self, weak: Model | None, prompts: Sequence[str]) -> GuidanceOptions:
        annealing = ConditionAnnealing(self.cads) if self.cads else None
        guide = None
        if weak is not None and self.autoguidance:
            guide = WeakModel(weak, weak.encode_prompt(prompts), self.autoguidance)
        return GuidanceOptions(self.interval, guide, annealing)


PLAIN = (Setting("CFG 1", 1.0), Setting("CFG 3"), Setting("CFG 7", 7.0))
OF_STARTER = (
    *PLAIN,
    Setting("CFG 3, interval 0.1 to 0.8", interval=(0.1, 0.8)),
    Setting("CFG 7, interval 0.1 to 0.8", 7.0, interval=(0.1, 0.8)),
    Setting("CFG 3, CADS 0.1", cads=0.1),
    Setting("CFG 3, CADS 0.25", cads=0.25),
    Setting("CFG 3, CADS 0.5", cads=0.5),
    Setting("CFG 7, CADS 0.25", 7.0, cads=0.25),
)
OF_DIGITS = (
    *PLAIN,
    Setting("autoguidance 2", 1.0, autoguidance=2.0),
    Setting("CFG 3, interval 0.1 to 0.8", interval=(0.1, 0.8)),
    Setting("CFG 3, CADS 0.25", cads=0.25),
    Setting("autoguidance 3", 1.0, autoguidance=3.0),
    Setting("CFG 3, autoguidance 2", autoguidance=2.0),
)


def draw(
    model: Model, prompts: Sequence[str], first_seed: int, setting: Setting, weak: Model | None = None
) -> Iterator[Tensor]:
    """Batches [b,C,H,W] in [-1,1], image i of all with `first_seed` + i."""
    usual = model.family
    for first in range(0, len(prompts), 64):
        part = prompts[first : first + 64]
        options = SampleOptions(
            seeds=[first_seed + first + index for index in range(len(part))],
            steps=usual.steps,
            sampler=usual.sampler,
            spacing=usual.spacing,
            guidance=setting.guidance,
            guidance_options=setting.options(weak, part),
        )
        *_, last = sample(model, model.encode_prompt(part), options)
        yield last.x


def features(network: FeatureNetwork, batches: Iterator[Tensor]) -> np.ndarray:
    return np.concatenate([network.features(batch).numpy() for batch in batches])


def of_starter() -> None:
    model, network = loading.load(read_checkpoint(paths.starter()), torch.device("cpu")), imagenet_network()
    prompts = PROMPTS.read_text(encoding="utf-8").split("\n")[:COUNT]
    each = [prompt for prompt in prompts for _ in range(SEEDS)]
    known = features(network, draw(model, each, 10_000, Setting("reference"))).reshape(COUNT, SEEDS, -1).mean(axis=1)
    print("| | Vendi of 6 images of a prompt | agreement with the prompt |\n| --- | --- | --- |")
    for setting in OF_STARTER:
        found = features(network, draw(model, each, 0, setting)).astype(np.float64)
        vendi = np.mean([vendi_score(part) for part in found.reshape(COUNT, SEEDS, -1)])
        nearest = np.linalg.norm(found[:, None] - known[None], axis=-1).argmin(axis=1)
        right = np.mean(nearest == np.repeat(np.arange(COUNT), SEEDS))
        print(f"| {setting.name} | {vendi:.2f} | {right:.2f} |", flush=True)


def write_digits(folder: Path) -> Path:
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((16, 16), Image.Resampling.BICUBIC)
        image.save(folder / str(label) / f"{number:04d}.png")
    return folder


def of_digits(work: Path) -> None:
    folder, run = work / "digits", work / "run"
    (work / "digits.toml").write_text(RECIPE)
    if not run.exists():
        train(run, write_digits(folder), recipe=str(work / "digits.toml"), steps=LENGTH)
    model, weak = (
        loading.load(read_checkpoint(run / "checkpoints" / f"{step:08}.safetensors"), torch.device("cpu"))
        for step in (STEPS, EARLY)
    )
    recipe = read_recipe(run / "recipe.toml")  # with what the folder's images are made of
    real = read_real(folder, recipe.data, lambda *_: None, lambda: None)
    network = of_folder(real)
    shown = RealImages(
        features(network, iter([real.dataset.batch(real.training)])),
        features(network, iter([real.dataset.batch(real.held_out)])),
        real.labels(Conditioning.CLASS, real.training),
        real.labels(Conditioning.CLASS, real.held_out),
    )
    print("| | FD | precision | recall | coverage | Vendi in a class | agreement |\n| --- " + "| --- " * 6 + "|")
    print(line(real_row(shown, 4, DIGITS)))
    asked = [str(index % 10) for index in range(DIGITS)]
    print(
        line(
            row(
                GeneratedImages(f"step {EARLY}, CFG 1", features(network, draw(weak, asked, 0, PLAIN[0])), asked),
                shown,
                4,
            )
        )
    )
    for setting in OF_DIGITS:
        found = features(network, draw(model, asked, 0, setting, weak))
        print(line(row(GeneratedImages(setting.name, found, asked), shown, 4, DIGITS)), flush=True)


def of_folder(real: RealFolder) -> FeatureNetwork:
    labels = real.dataset.labels[real.training].tolist()
    return folder_network(lambda indices: real.dataset.batch(real.training[indices]), len(real.training), labels)


def line(found: Row) -> str:
    names = ("frechet_distance", "precision", "recall", "coverage", "class_vendi", "agreement")
    cells = [f"{found.figures[name].value:.{1 if name == 'frechet_distance' else 3}f}" for name in names]
    return f"| {found.name} | {' | '.join(cells)} |"


def main(what: str, folder: str = "") -> None:
    if what == "starter":
        of_starter()
    elif folder:
        of_digits(Path(folder))
    else:
        with tempfile.TemporaryDirectory() as work:
            of_digits(Path(work))


if __name__ == "__main__":
    main(*sys.argv[1:])
