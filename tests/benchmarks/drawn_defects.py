"""Where defects are found in a folder's own images: `python -m tests.benchmarks.drawn_defects FOLDER [--checkpoint NAME]`.

The detectors learn from the training part, and are calibrated and weighted on the held-out part, as `diffstudio
anomalies` does it. Then each kind of defect is drawn into those that no weight was chosen on: every
second of at most `--count` held-out images.
A row for each detector: the AUROC of images and of pixels with their 95% bootstrap intervals over images (all defects
of an image stay together), and the AUROC of pixels of each kind of defect. --seed draws the defects at other places;
a second table has kinds that no weight was chosen on.

With --rate, only how fast denoising errors are: images a second, draw and level over those of the network alone, by
processor time, each measured in turn. Aim: a ratio of 0.9.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from diffstudio.evaluation.anomalies.calibration import auroc, auroc_interval
from diffstudio.evaluation.anomalies.defects import KINDS, with_defect
from diffstudio.evaluation.anomalies.denoising import denoising_errors
from diffstudio.evaluation.even_spacing import spread
from diffstudio.evaluation.interval import Interval
from diffstudio.models import loading
from diffstudio.models.conditioning.prompt_schedule import StepTexts
from diffstudio.models.library.library import Library
from diffstudio.studio.evaluations.anomalies.choice import Compared, compare_detectors
from diffstudio.studio.evaluations.anomalies.detectors import Detectors
from diffstudio.studio.evaluations.anomalies.result import COMBINED, COMBINED_LOCAL
from diffstudio.studio.evaluations.folders.reading import read_real
from diffstudio.studio.evaluations.folders.stored_split import with_split_of_run
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from tests.benchmarks.other_defects import OTHER_KINDS, with_other_defect

_FIRST_SEED = 1  # that of the weights is 0
Defects = tuple[list[np.ndarray], list[np.ndarray]]  # images and masks


def shown(area: Interval) -> str:
    return f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})"


def fitted(folder: Path, checkpoint: str | None, count: int, draws: int) -> tuple[Detectors, torch.Tensor]:
    """The detectors, and the held-out images [N,C,H,W]."""
    subject, model, device = None, None, torch.device("cpu")
    if checkpoint is not None:
        (subject,) = find_subjects((checkpoint,), Library())
        assert isinstance(subject, CheckpointSubject)
        model = loading.load(subject.checkpoint, device, torch.float32)
    data = subject.recipe.data if subject is not None else None
    real, _ = with_split_of_run(
        read_real(folder, data, lambda *_: None, lambda: None),
        [subject] if subject is not None else [],
        lambda *_: None,
        lambda: None,
    )
    held_out = real.held_out[spread(len(real.held_out), min(count, len(real.held_out)))]
    training, normals = (real.dataset.batch(part, usual_size=True) for part in (real.training, held_out))
    print(f"{folder.name}: {len(training):,} training and {len(normals):,} held-out images, {draws} draws", flush=True)
    bits = real.data.form.bits
    return Detectors.of(training, normals, model, draws, 0, bits, device, lambda: None, lambda *_: None), normals


def drawn(originals: list[np.ndarray], seed: int) -> Defects:
    """All images with the first kind of defect, then with the second …"""
    rng, found = np.random.default_rng(seed), []
    for kind in KINDS:
        for number, image in enumerate(originals):
            other = originals[(number + 1 + int(rng.integers(len(originals) - 1))) % len(originals)]
            found.append(with_defect(image, other, kind, rng))
    return [image for image, _ in found], [mask for _, mask in found]


def others_drawn(originals: list[np.ndarray], seed: int) -> Defects:
    rng = np.random.default_rng(seed)
    found = [with_other_defect(image, kind, rng) for kind in OTHER_KINDS for image in originals]
    return [image for image, _ in found], [mask for _, mask in found]


def table(compared: Compared, kinds: list[str], defects: Defects) -> str:
    """In Markdown."""
    images, masks = np.stack(defects[0]), np.stack(defects[1])
    scores, maps = compared.detectors.score(torch.from_numpy(images), lambda *_: None)
    count = len(images) // len(kinds)
    lines = [f"| Detector | images | pixels | {' | '.join(kinds)} |", "| --- " * (len(kinds) + 3) + "|"]
    for one in compared.results:
        found = compared.scores(one.name, scores, maps, images).reshape(len(kinds), count)
        cells = [shown(auroc_interval(list(found.T), list(compared.scores_of_normals(one.name))))]
        if one.name in maps or one.name == COMBINED:
            heat = compared.maps(one.name, maps, images)
            of_image = [slice(number, None, count) for number in range(count)]
            high, low = ([heat[part][seen[part]] for part in of_image] for seen in (masks, ~masks))
            cells.append(shown(auroc_interval(high, low)))
            for number in range(len(kinds)):
                part = slice(number * count, (number + 1) * count)
                cells.append(f"{auroc(heat[part][masks[part]], heat[part][~masks[part]]):.3f}")
        cells += ["as `combined`"] * (one.name == COMBINED_LOCAL)
        lines.append(f"| `{one.name}` | {' | '.join(cells + ['–'] * (len(kinds) + 2 - len(cells)))} |")
    return "\n".join(lines)


def rate(checkpoint: str, rounds: int = 8, batch: int = 16, draws: int = 4) -> str:
    """Of random images, on one processor core."""
    (subject,) = find_subjects((checkpoint,), Library())
    assert isinstance(subject, CheckpointSubject)
    model = loading.load(subject.checkpoint, torch.device("cpu"), torch.float32)
    size = subject.recipe.data.size
    images = torch.rand(batch, subject.recipe.data.form.channels, size, size) * 2 - 1
    prompt = model.prompt_encoder(None)(StepTexts.plain([""] * batch, [""] * batch))
    denoiser, times = model.denoiser(prompt, 1.0), torch.full((batch,), 0.4)
    seconds = {"alone": 0.0, "errors": 0.0}
    for _ in range(rounds):
        started = time.process_time()
        with torch.no_grad():
            for _ in range(draws):
                denoiser(images, times)
        between = time.process_time()
        denoising_errors(denoiser, model.schedule, images, (0.4,), draws)
        seconds["alone"] += between - started
        seconds["errors"] += time.process_time() - between
    calls = rounds * draws * batch
    shown = ", ".join(f"{name} {calls / value:.1f}" for name, value in seconds.items())
    return f"Images a second, draw and level: {shown}; ratio {seconds['alone'] / seconds['errors']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--checkpoint", help="a checkpoint of normal images (default: distances alone)")
    parser.add_argument("--count", type=int, default=40, help="held-out images (default 40)")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--seed", type=int, nargs="+", default=[_FIRST_SEED])
    parser.add_argument("--rate", action="store_true", help="measure only the rate, with --checkpoint (starter)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.rate:
        print(rate(arguments.checkpoint or "starter"))
        return
    if arguments.folder is None:
        parser.error("a folder is needed")
    detectors, held_out = fitted(arguments.folder, arguments.checkpoint, arguments.count, arguments.draws)
    compared, originals = compare_detectors(detectors, held_out, 0, lambda *_: None), list(held_out[1::2].numpy())
    for seed in arguments.seed:
        print(f"\nSeed {seed}\n\n{table(compared, list(KINDS), drawn(originals, seed))}", flush=True)
    print(f"\nOther kinds\n\n{table(compared, list(OTHER_KINDS), others_drawn(originals, arguments.seed[0]))}")


if __name__ == "__main__":
    main()
