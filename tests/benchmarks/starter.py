"""How good a starter is: `python -m tests.benchmarks.starter FOLDER [--checkpoint PATH …] [--side PX]`.

FOLDER is that of `packaging/starter/build.py styles`: images in four styles, and those held out.
Three tables, for each checkpoint, with its recommended settings. Real images are compared at the size of the checkpoint's:
features of enlarged images differ from those of larger ones.

- Things and styles: the prompts of packaging/starter/four-styles-prompts.txt, each with four seeds. Thing: one of the five real
  images nearest to the drawn one, by features, shows the thing that was asked for. Style: of the real images of that
  thing, the nearest is in the style that was asked for. Held out: pairs of a thing and a style that were not trained on.
  Things of the real images are judged in the same way, each among all others.
- Distances: as many images as asked for, with captions of 3-D images, against the real 3-D ones. Real: one half of them
  against the other.
- Seeds: the mean distance between eight images of one prompt, in features, against that between images of any two things.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffstudio import paths
from diffstudio.evaluation.features.feature_network import FeatureNetwork, extract, imagenet_network, with_pixels
from diffstudio.evaluation.features.neighbours import nearest
from diffstudio.evaluation.interval import bootstrap_interval, share_interval
from diffstudio.evaluation.kernel_distance import kernel_distance
from diffstudio.evaluation.memorisation import copies
from diffstudio.evaluation.prdc import precision_recall_density_coverage
from diffstudio.models import loading
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory.devices import choose_device
from diffstudio.models.model import Model
from diffstudio.models.recommended import recommended_for
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.training.data.dataset import ImageDataset, build_dataset
from diffstudio.training.data.inspect_folder import finish_inspection
from diffstudio.training.recipe import DataRecipe

PROMPTS = Path(__file__).resolve().parents[2] / "packaging" / "starter" / "four-styles-prompts.txt"
STYLES = ("3d", "flat", "noto", "twemoji")
SEEDS, NEIGHBOURS, BATCH = 4, 5, 128
OF_ONE_PROMPT = 8


@dataclass(frozen=True, slots=True)
class Real:
    """The real images [N] of one size and what each shows; `views` are their features for copies."""

    side: int
    features: NDArray[np.float32]
    views: NDArray[np.float32]
    names: NDArray[np.str_]
    styles: NDArray[np.str_]
    held_out: NDArray[np.bool_]

    @property
    def solid(self) -> NDArray[np.bool_]:
        """Which are in 3-D."""
        solid: NDArray[np.bool_] = self.styles == "3d"
        return solid


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.starter", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=[paths.starter()])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--side", type=int, help="px of the images; 64 draws with the base of four-styles alone")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    network, copying = imagenet_network(device), with_pixels(imagenet_network(device))
    models = {path.stem: loading.load(read_checkpoint(path), device) for path in arguments.checkpoint}
    side_of = {name: arguments.side or model.default_size[0] for name, model in models.items()}
    reals = {
        side: real_images(images_of(arguments.folder, side), network, copying) for side in sorted(set(side_of.values()))
    }
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    print("| checkpoint | thing among five | seen | held out | style |\n| --- | --- | --- | --- | --- |")
    for side, real in reals.items():
        _, others = nearest(real.features, real.features, NEIGHBOURS, same=True)
        shares = share(with_thing(others, real, list(real.names)), real.held_out)
        print(f"| real images of {side} px | {shares} | |", flush=True)
    for name, model in models.items():
        real = reals[side_of[name]]
        print(f"| {name} | {things(model, prompts, arguments.seeds, real, network)} |", flush=True)
    print("\n| checkpoint | kernel distance x 1000 | precision | recall | coverage | copies |\n" + "| --- " * 6 + "|")
    for side, real in reals.items():
        half = np.flatnonzero(real.solid & ~real.held_out)[: 2 * arguments.images]
        halves = distances(real.features[half[::2]], real.features[half[1::2]])
        print(f"| real images of {side} px | {halves} | |", flush=True)
    for name, model in models.items():
        real = reals[side_of[name]]
        training, held_out = real.solid & ~real.held_out, real.solid & real.held_out
        captions = [f"{name}, 3d style" for name in real.names[training][: arguments.images]]
        images = draw(model, [known(model, caption) for caption in captions], range(len(captions)), real.side)
        found, copied = extract(network, images), extract(copying, images)
        copying_share = copies(copied, real.views[training], real.views[held_out]).share
        print(f"| {name} | {distances(real.features[training], found)} | {interval(copying_share)} |", flush=True)
    print("\n| checkpoint | distance between eight seeds | between things |\n| --- | --- | --- |")
    for name, model in models.items():
        print(f"| {name} | {seeds(model, prompts[:8], network, side_of[name])} |", flush=True)
    return 0


def images_of(folder: Path, side: int) -> ImageDataset:
    report = finish_inspection(folder, lambda _: None)
    return build_dataset(report, DataRecipe(size=side), paths.prepared_images())


def batches(dataset: ImageDataset) -> Iterable[Tensor]:
    return (dataset.batch(part) for part in np.array_split(np.arange(len(dataset)), -(-len(dataset) // BATCH)))


def real_images(dataset: ImageDataset, network: FeatureNetwork, copying: FeatureNetwork) -> Real:
    names = np.array([caption.split(",")[0] for caption in dataset.captions])
    styles = np.array([next(part for part in path.parts if part in STYLES) for path in dataset.paths])
    views = extract(copying, batches(dataset))
    return Real(dataset.size[0], extract(network, batches(dataset)), views, names, styles, dataset.held_out)


def known(model: Model, prompt: str) -> str:
    """The prompt for this model: without the style if it was trained on one style only."""
    checkpoint = model.checkpoint
    vocabulary = checkpoint.metadata.get("diffstudio.tokenizer", "") if checkpoint is not None else ""
    return prompt if "twemoji" in vocabulary else prompt.split(",")[0]


def draw(model: Model, prompts: Sequence[str], seeds: Sequence[int], side: int) -> list[Tensor]:
    """Batches of images [n,3,side,side] in [-1,1], with the checkpoint's recommended settings."""
    assert model.checkpoint is not None
    settings = recommended_for(model.checkpoint, fitted=True)
    assert settings is not None
    ladder = fitted_steps(model.checkpoint).of(settings.sampler, settings.steps)
    drawn = []
    for first in range(0, len(prompts), BATCH):
        part = slice(first, first + BATCH)
        options = SampleOptions(
            seeds=seeds[part],
            width=side,
            height=side,
            steps=settings.steps,
            sampler=settings.sampler,
            spacing="log_snr" if settings.spacing == "fitted" else settings.spacing,
            guidance=settings.guidance,
            times=ladder.times if ladder is not None and settings.spacing == "fitted" else (),
        )
        *_, last = sample(model, model.encode_prompt(list(prompts[part])), options)
        drawn.append(model.decode(last.x).clamp(-1, 1).float())
    return drawn


def with_thing(found: NDArray[np.intp], real: Real, names: Sequence[str]) -> NDArray[np.bool_]:
    """For each image, whether one of the nearest real images shows its thing."""
    return (real.names[found] == np.array(names)[:, None]).any(axis=1)


def in_style(features: NDArray[np.float32], real: Real, names: Sequence[str], styles: Sequence[str]) -> list[bool]:
    """For each image with a style, whether the nearest real image of its thing has that style."""
    right = []
    for image, name, style in zip(features, names, styles, strict=True):
        of_thing = np.flatnonzero(real.names == name)
        if style and len(of_thing):
            closest = np.linalg.norm(real.features[of_thing] - image, axis=1).argmin()
            right.append(bool(real.styles[of_thing[closest]] == style))
    return right


def things(model: Model, prompts: Sequence[str], count: int, real: Real, network: FeatureNetwork) -> str:
    asked = [prompt for prompt in prompts for _ in range(count)]
    seeds = list(range(len(asked)))
    features = extract(network, draw(model, [known(model, prompt) for prompt in asked], seeds, real.side))
    _, found = nearest(features, real.features, NEIGHBOURS)
    names = [prompt.split(",")[0] for prompt in asked]
    styles = [prompt.split(", ")[1].removesuffix(" style") if "," in prompt else "" for prompt in asked]
    pairs = {(name, style) for name, style in zip(real.names[real.held_out], real.styles[real.held_out], strict=True)}
    held_out = np.array([pair in pairs for pair in zip(names, styles, strict=True)])
    right = in_style(features, real, names, styles)
    return f"{share(with_thing(found, real, names), held_out)} | {of(right)}"


def share(thing: NDArray[np.bool_], held_out: NDArray[np.bool_]) -> str:
    return " | ".join(of(part) for part in (thing, thing[~held_out], thing[held_out]))


def of(right: Sequence[bool] | NDArray[np.bool_]) -> str:
    return interval(share_interval(int(np.sum(right)), len(right))) if len(right) else "none"


def interval(found: object) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*(getattr(found, name) for name in ("value", "low", "high")))


def distances(real: NDArray[np.float32], found: NDArray[np.float32]) -> str:
    kernel = bootstrap_interval(kernel_distance, real, found)
    measured = precision_recall_density_coverage(real, found)
    figures = (measured.precision, measured.recall, measured.coverage)
    scaled = [1000 * getattr(kernel, name) for name in ("value", "low", "high")]
    return "{:.2f} ({:.2f} to {:.2f}) | ".format(*scaled) + " | ".join(f"{figure:.3f}" for figure in figures)


def seeds(model: Model, prompts: Sequence[str], network: FeatureNetwork, side: int) -> str:
    asked = [known(model, prompt) for prompt in prompts for _ in range(OF_ONE_PROMPT)]
    features = extract(network, draw(model, asked, list(range(len(asked))), side))
    of_one = np.mean(
        [between(features[first : first + OF_ONE_PROMPT]) for first in range(0, len(asked), OF_ONE_PROMPT)]
    )
    return f"{of_one:.2f} | {between(features[::OF_ONE_PROMPT]):.2f}"


def between(features: NDArray[np.float32]) -> float:
    """The mean distance between two of them."""
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    return float(distances.sum() / (len(features) * (len(features) - 1)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
