"""AUROC of every detector of anomalies with one class left out: `python -m tests.benchmarks.anomalies digits|FOLDER`.

FOLDER has a subfolder for each class; `digits` are the 1,797 images of scikit-learn's digits in 8 px. For each class a
small unconditional network is trained on the others. What `diffstudio anomalies` does follows: the detectors learn from
the training part, are calibrated on the held-out part, and are weighted by defects that are drawn into it, never by the
class that was left out. Its images are then told from the held-out ones of the other classes.

A row for each detector: the AUROC of each class with its 95% bootstrap interval over images, and the mean over classes
with the interval of images resampled within each class. The row `decides` takes for each class the detector that was the
best on drawn defects. --json FILE keeps the scores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diffstudio.evaluation.anomalies.calibration import auroc, auroc_interval
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.anomalies.choice import choose, compare_detectors
from diffstudio.studio.evaluations.anomalies.detectors import Detectors
from diffstudio.studio.evaluations.anomalies.request import AUTO
from diffstudio.studio.evaluations.anomalies.result import COMBINED, COMBINED_LOCAL
from diffstudio.studio.evaluations.folders.reading import inspected, read_generated, read_real
from diffstudio.training.loop import train
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe, RunRecipe
from diffstudio.training.run.run_folder import RunFolder

HELD_OUT = 0.28
RESAMPLES = 500
MOST_SIDE = 64  # px, unless another is asked for
DECIDES = "decides"
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Found:
    """The scores by each detector of one class that was left out, and of held-out images of the others."""

    name: str
    anomalous: Scores
    normal: Scores
    chosen: str  # the detector that decides, by drawn defects

    def area(self, detector: str) -> float:
        return auroc(self.anomalous[detector], self.normal[detector])


def write_digits(folder: Path) -> Path:
    """Each image once, 8 x 8 px, in a subfolder for each digit."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        pixels = (
            (image * 255 / 16).round().astype("uint8").repeat(2, axis=0).repeat(2, axis=1)
        )  # 16 px: none is smaller
        Image.fromarray(pixels).save(folder / str(label) / f"{index:04d}.png")
    return folder


def recipe_of(side: int, steps: int, width: int, left_out: str, device: str, threads: int) -> Recipe:
    """A small unconditional network of images of `side` px, without the class that is left out."""
    return Recipe(
        name=f"all but {left_out}",
        data=DataRecipe(size=side, held_out=HELD_OUT, flips=0.0, exclude=(left_out,), augment_labels=False),
        network=NetworkRecipe(
            conditioning=Conditioning.NONE,
            patch=max(2, side // 16),
            margin=0,
            width=width,
            depth=4,
            heads=4,
            condition_width=width,
        ),
        optimiser=OptimiserRecipe(warm_up_steps=min(50, steps), ema=0.99),
        run=RunRecipe(
            steps=steps,
            batch=64,
            device=device,
            threads=threads,
            dtype="float32",
            sample_every=10 * steps,
            checkpoint_every=steps,
            held_out_every=max(1, steps // 4),
        ),
    )


def class_left_out(folder: Path, name: str, home: Path, recipe: Recipe, draws: int) -> Found:
    """Trains in `home`, or goes on with the finished run that lies there."""
    run = RunFolder(home / f"run-{name}")
    if not run.latest_checkpoint.is_file():
        recipe.write(home / f"{name}.toml")
        run = train(run.path, folder, recipe=str(home / f"{name}.toml"))
    device = torch.device(recipe.run.device)
    model = loading.load(read_checkpoint(run.latest_checkpoint), device, torch.float32)
    normals = read_real(folder, run.recipe().data, lambda *_: None, lambda: None)
    anomalies = read_generated(folder / name, normals, lambda *_: None, lambda: None).dataset
    held_out = normals.dataset.batch(normals.held_out, usual_size=True)
    detectors = Detectors.of(
        normals.dataset.batch(normals.training, usual_size=True),
        held_out,
        model,
        draws,
        0,
        normals.data.form.bits,
        device,
        lambda: None,
        lambda *_: None,
    )
    compared = compare_detectors(detectors, held_out, 0, lambda *_: None)
    chosen, _ = choose(compared.results, AUTO)
    images = anomalies.batch(np.arange(len(anomalies)), usual_size=True)
    scores, maps = detectors.score(images, lambda *_: None)
    names = [*detectors.names, COMBINED, COMBINED_LOCAL]
    both = [
        {one: compared.scores(one, scores, maps, images.numpy()) for one in names},
        {one: compared.scores_of_normals(one) for one in names},
    ]
    for found in both:
        found[DECIDES] = found[chosen]
    return Found(name, *both, chosen)


def mean_area(found: list[Found], detector: str) -> tuple[float, float, float]:
    """The mean AUROC over the classes, and its 95% interval: images of both kinds drawn anew within each class."""
    rng = np.random.default_rng(0)

    def drawn(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return rng.choice(scores, len(scores))

    areas = [
        np.mean([auroc(drawn(one.anomalous[detector]), drawn(one.normal[detector])) for one in found])
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(np.mean([one.area(detector) for one in found])), float(low), float(high)


def table(found: list[Found]) -> str:
    """In Markdown: the mean over the classes, then each class; what decided is said below."""
    lines = [f"| Detector | mean | {' | '.join(one.name for one in found)} |", "| --- " * (len(found) + 2) + "|"]
    for detector in found[0].anomalous:
        value, low, high = mean_area(found, detector)
        each = []
        for one in found:
            area = auroc_interval(list(one.anomalous[detector]), list(one.normal[detector]))
            each.append(f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})")
        lines.append(f"| `{detector}` | {value:.3f} ({low:.3f} to {high:.3f}) | {' | '.join(each)} |")
    lines += ["", "Decides: " + ", ".join(f"{one.name} {one.chosen}" for one in found)]
    return "\n".join(lines)


def measure(arguments: argparse.Namespace, home: Path) -> None:
    digits = arguments.folder == "digits"
    folder = home / "digits" if digits else Path(arguments.folder)
    if digits and not folder.is_dir():
        write_digits(folder)
    classes = arguments.classes or sorted(path.name for path in folder.iterdir() if path.is_dir())
    side = arguments.side or (
        8 if digits else min(MOST_SIDE, inspected(folder, lambda *_: None, lambda: None).sides[1])
    )
    found = []
    for name in classes:
        recipe = recipe_of(side, arguments.steps, arguments.width, name, arguments.device, arguments.threads)
        found.append(class_left_out(folder, name, home, recipe, arguments.draws))
        print(f"{name}: {', '.join(f'{one} {found[-1].area(one):.3f}' for one in found[-1].anomalous)}", flush=True)
    print(
        f"\n{folder.name}, {side} px, {arguments.steps:,} steps a class, {arguments.draws} draws, held out {HELD_OUT:.0%}"
    )
    print(table(found))
    if arguments.json:
        values = [
            {"class": one.name, "decides": one.chosen}
            | {kind: {key: list(map(float, row)) for key, row in scores.items()} for kind, scores in kinds.items()}
            for one in found
            for kinds in ({"anomalous": one.anomalous, "normal": one.normal},)
        ]
        arguments.json.write_text(json.dumps(values), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="digits|FOLDER")
    parser.add_argument("--classes", nargs="*", help="those that are left out in turn (default: each)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--side", type=int, help="px (default: 8 for digits, otherwise the usual one, at most 64)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--home", type=Path, help="a folder for the runs, which are used again")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = arguments.home or Path(scratch)
        home.mkdir(parents=True, exist_ok=True)
        os.environ["DIFFSTUDIO_HOME"] = str(home)
        measure(arguments, home)


if __name__ == "__main__":
    main()
