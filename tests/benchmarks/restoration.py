"""PSNR of restored held-out images beside classical methods: `python -m tests.benchmarks.restoration emoji FOLDER|digits`.

`emoji` restores the held-out images of the starter's folder with the starter, `digits` those of scikit-learn's digits
with a small network that is trained first (`--steps`). Noise is added to values without cutting them off. Every method
knows the noise, the blur and the mask; the classical ones get the parameter that is best for the images themselves, which
favours them. A cell is the mean PSNR in dB, the last column the mean gain over the best classical method with its
standard error over images.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from diffstudio.diffusion.restoration.degradations import Blurred, Reduced, gaussian_kernel
from diffstudio.models import loading
from diffstudio.models.library.library import Library
from diffstudio.models.model import Model
from diffstudio.studio.evaluations.folders.reading import read_real
from diffstudio.studio.evaluations.restore.image_files import RestorableImage
from diffstudio.studio.evaluations.restore.request import RestoreRequest, RestoreTask
from diffstudio.studio.evaluations.restore.restorer import LEVEL, Restorer
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from diffstudio.training.loop import train
from diffstudio.training.run.run_folder import RunFolder
from tests.benchmarks.anomalies import recipe_of, write_digits

Images = NDArray[np.float64]  # [N,H,W,C] in [-1,1]
SMALL_NOISE = 2.0  # levels, of deblurring
BLUR, HOLE_SHARE, SEED = 1.5, 0.5, 0


@dataclass(frozen=True, slots=True)
class Case:
    title: str
    task: RestoreTask
    seen: Images
    classical: dict[str, Callable[[float], Images]]  # by name, given a parameter
    parameters: Sequence[float]
    options: dict[str, Any]
    unknown: NDArray[np.bool_] | None = None


def psnr(found: Images, clean: Images) -> NDArray[np.float64]:
    """Of each image, in dB of the range 2."""
    errors = ((found.clip(-1, 1) - clean) ** 2).mean(axis=(1, 2, 3))
    return 10 * np.log10(4 / errors)


def cases(clean: Images, training: Images, noises: Sequence[float], scale: int) -> list[Case]:
    rng = np.random.default_rng(SEED)
    height, width = clean.shape[1:3]

    def noisy(images: Images, level: float) -> Images:
        return images + level * LEVEL * rng.normal(size=images.shape)

    found = []
    for level in noises:
        seen = noisy(clean, level)
        methods = {
            "Gaussian filter": lambda p, seen=seen: ndimage.gaussian_filter(seen, (0, p, p, 0)),
            "median filter": lambda p, seen=seen: ndimage.median_filter(
                seen, (1, 2 * round(p) + 1, 2 * round(p) + 1, 1)
            ),
            "total variation": lambda p, seen=seen, level=level: total_variation(seen, p * level * LEVEL),
        }
        if width <= 16:
            methods["PCA"] = lambda p, seen=seen: components(seen, training, max(1, round(p * 20)))
        found.append(Case(f"noise {level:g} of 255", RestoreTask.DENOISE, seen, methods,
                          (0.4, 0.6, 0.8, 1, 1.2, 1.5, 2, 2.5), {"noise": level}))  # fmt: skip
    kernel = gaussian_kernel(BLUR)
    blurred = Blurred(kernel, margin=len(kernel))
    seen = noisy(channels_last(blurred.apply(channels_first(clean))), SMALL_NOISE)
    found.append(Case(f"blur of {BLUR:g} px, noise {SMALL_NOISE:g}", RestoreTask.DEBLUR, seen,
                      {"Wiener": lambda p, seen=seen: wiener(seen, blurred, p)},
                      tuple(10.0**power for power in np.arange(-5, 1.1, 0.5)),
                      {"noise": SMALL_NOISE, "blur": BLUR}))  # fmt: skip
    small = channels_last(Reduced(scale).apply(channels_first(clean)))
    filters = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}
    found.append(Case(f"{scale} times fewer px a side", RestoreTask.SUPER_RESOLUTION, small,
                      {name: lambda _, kind=kind: resized(small, (width, height), kind) for name, kind in filters.items()},
                      (1,), {"scale": scale}))  # fmt: skip
    box = np.zeros((height, width), np.bool_)
    box[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = True
    for title, unknown in (("a ninth in the middle missing", box),
                           ("half of all px missing", rng.random((height, width)) < HOLE_SHARE)):  # fmt: skip
        seen = np.where(unknown[None, ..., None], 0, clean)
        fills = {
            "mean of what is known": lambda _, seen=seen, unknown=unknown: mean_fill(seen, unknown),
            "harmonic": lambda _, seen=seen, unknown=unknown: harmonic(seen, unknown),
        }
        found.append(Case(title, RestoreTask.INPAINT, seen, fills, (1,), {}, unknown))
    return found


def channels_first(images: Images) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def channels_last(images: torch.Tensor) -> Images:
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())


def total_variation(seen: Images, weight: float, iterations: int = 120) -> Images:
    """Rudin, Osher & Fatemi's model by Chambolle's projection (2004), colours together."""
    dual = np.zeros((2, *seen.shape))

    def divergence() -> Images:
        down, across = dual
        return (np.diff(down, axis=1, prepend=0) * 1.0) + np.diff(across, axis=2, prepend=0)

    for _ in range(iterations):
        image = divergence() - seen / weight
        gradient = np.stack([np.diff(image, axis=1, append=image[:, -1:]),
                             np.diff(image, axis=2, append=image[:, :, -1:])])  # fmt: skip
        length = np.sqrt((gradient**2).sum(axis=(0, 4), keepdims=True))[0]
        dual = (dual + 0.25 * gradient) / (1 + 0.25 * length)
    return seen - weight * divergence()


def components(seen: Images, training: Images, count: int) -> Images:
    """Each image as the mean and the first principal components of the training images."""
    flat, mean = training.reshape(len(training), -1), training.mean(axis=0).reshape(-1)
    _, _, axes = np.linalg.svd(flat - mean, full_matrices=False)
    kept = (seen.reshape(len(seen), -1) - mean) @ axes[:count].T @ axes[:count]
    return (kept + mean).reshape(seen.shape)


def wiener(seen: Images, blurred: Blurred, strength: float) -> Images:
    """The Wiener filter for images whose power falls with the square of the frequency, which holds for most."""
    transfer = np.abs(np.fft.fft2(np.fft.ifftshift(padded_kernel(blurred, seen.shape[1:3]))))
    down, across = np.fft.fftfreq(seen.shape[1])[:, None], np.fft.fftfreq(seen.shape[2])[None]
    penalty = strength * (down**2 + across**2)
    gain = transfer / (transfer**2 + penalty)
    gain[0, 0] = 1
    return np.fft.ifft2(np.fft.fft2(seen, axes=(1, 2)) * gain[None, ..., None], axes=(1, 2)).real


def padded_kernel(blurred: Blurred, size: tuple[int, int]) -> NDArray[np.float64]:
    whole = torch.zeros(1, 1, *size, dtype=torch.float64)
    whole[..., size[0] // 2, size[1] // 2] = 1
    return Blurred(blurred.kernel).apply(whole)[0, 0].numpy()


def resized(images: Images, size: tuple[int, int], kind: Image.Resampling) -> Images:
    def one(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, kind), np.float64)

    planes = [[one(image[..., index]) for index in range(image.shape[2])] for image in images]
    return np.stack([np.stack(colours, axis=-1) for colours in planes])


def mean_fill(seen: Images, unknown: NDArray[np.bool_]) -> Images:
    means = seen[:, ~unknown].mean(axis=1)
    return np.where(unknown[None, ..., None], means[:, None, None], seen)


def harmonic(seen: Images, unknown: NDArray[np.bool_], iterations: int = 2000) -> Images:
    """The solution of Laplace's equation in what is missing, by relaxation."""
    found = mean_fill(seen, unknown)
    for _ in range(iterations):
        wide = np.pad(found, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        means = (wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]) / 4
        found = np.where(unknown[None, ..., None], means, seen)
    return found


def with_model(model: Model, case: Case, draws: int) -> tuple[Images, Images]:
    """The posterior mean and a sample of each image."""
    request = RestoreRequest("", Path(), case.task, Path(), draws=draws, seed=SEED, **case.options)
    means, samples = [], []
    for number, values in enumerate(case.seen):
        picture = RestorableImage(Path(), str(number), values.astype(np.float32), None, 8)
        restored = Restorer(model, request, lambda: None).restore(picture, case.unknown)
        assert restored is not None and restored.sample is not None
        means.append(restored.mean)
        samples.append(restored.sample)
    return np.stack(means).astype(np.float64), np.stack(samples).astype(np.float64)


def report(model: Model, clean: Images, found: Sequence[Case], draws: int) -> None:
    print(f"{len(clean):,} held-out images of {clean.shape[2]} px\n")
    print("| | not restored | best classical | posterior mean | sample | gain |")
    print("|---|---|---|---|---|---|")
    for case in found:
        start = time.perf_counter()
        mean, sample = (psnr(images, clean) for images in with_model(model, case, draws))
        results = {
            name: max((psnr(method(p), clean) for p in case.parameters), key=lambda each: float(each.mean()))
            for name, method in case.classical.items()
        }
        best = max(results, key=lambda name: float(results[name].mean()))
        before = f"{psnr(case.seen, clean).mean():.1f}" if case.seen.shape == clean.shape else "–"
        gains = mean - results[best]
        error = gains.std(ddof=1) / math.sqrt(len(gains))
        others = ", ".join(f"{name} {value.mean():.1f}" for name, value in results.items())
        print(f"| {case.title} | {before} | {best} {results[best].mean():.1f} | {mean.mean():.1f} | {sample.mean():.1f} "
              f"| {gains.mean():+.1f} ± {error:.1f} |", flush=True)  # fmt: skip
        print(f"<!-- {others}; {time.perf_counter() - start:.0f} s -->", flush=True)


def held_out(folder: Path, subject: CheckpointSubject) -> tuple[Images, Images]:
    real = read_real(folder, subject.recipe.data, lambda *_: None, lambda: None)
    return tuple(  # type: ignore[return-value]
        channels_last(real.dataset.batch(part).double()) for part in (real.held_out, real.training)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("emoji", "digits"))
    parser.add_argument("folder", type=Path, nargs="?", help="of `emoji`: the folder that the starter was trained on")
    parser.add_argument("--count", type=int, default=100, help="images, at most")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600, help="of training, for `digits`")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        if arguments.what == "emoji":
            (subject,) = find_subjects(("starter",), Library())
            folder, noises, scale = arguments.folder, (25.0, 50.0, 100.0), 4
        else:
            folder, noises, scale = write_digits(home / "digits"), (32.0, 64.0), 2
            recipe_of(8, arguments.steps, 64, "none", "cpu", torch.get_num_threads()).write(home / "digits.toml")
            start = time.perf_counter()
            run: RunFolder = train(home / "run", folder, recipe=str(home / "digits.toml"))
            print(f"trained in {time.perf_counter() - start:.0f} s")
            (subject,) = find_subjects((str(run.path),), Library())
        assert isinstance(subject, CheckpointSubject)
        clean, training = held_out(folder, subject)
        model = loading.load(subject.checkpoint, torch.device("cpu"), torch.float32)
        clean = clean[: arguments.count]
        report(model, clean, cases(clean, training, noises, scale), arguments.draws)


if __name__ == "__main__":
    main()
