"""Folders of images and models that something is wrong with, and jobs of the Lab that run in the thread that starts them."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from diffstudio.cli import main
from diffstudio.models.families import pixel_file
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.gan import Generator
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.studio.runs.process import Launch, write_launch
from diffstudio.training.objectives.gan import gan_config
from diffstudio.training.recipe import ObjectiveRecipe, OptimiserRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from tests.studio.evaluations.likelihood.test_autoencoder import write_vae
from tests.studio.evaluations.small_models import COLOURS, RECIPE, write_checkpoint, write_images
from tests.studio.generation.test_enlarge import write_upscaler

FAR_AWAY = "ünï 日本 📷"  # a name that is not ASCII
LONG = 240 * "l"


class JobsInThread(LabJobs):
    """Jobs whose verbs run at once, in this process, which has imported torch already."""

    def _launch(self, job: JobFolder) -> None:
        request, log = job.request(), io.StringIO()
        write_launch(job.path, Launch(os.getpid(), request.created, 0, 0, {}))
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(log),
            contextlib.suppress(SystemExit),
        ):
            main([request.verb, *request.arguments, "--out", str(job.path)])
        (job.path / "log.txt").write_text(log.getvalue())


def write_inputs(place: Path) -> dict[str, Path]:
    """Each input by its name."""
    return {name: make(place / name) for name, make in _FOLDERS.items()} | {
        name: make(place / "models" / f"{name}.safetensors") for name, make in _MODELS.items()
    }


def _filled(fill: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        fill(folder)
        return folder

    return make


def _hollow(folder: Path) -> None:
    (folder / "inside" / "deeper").mkdir(parents=True)


def _equal(folder: Path) -> None:
    for number in range(40):
        Image.new("RGB", (16, 16), (90, 90, 90)).save(folder / f"{number}.png")


def _flat(folder: Path) -> None:
    for number in range(40):
        Image.new("RGB", (16, 16), (6 * number, 250 - 6 * number, 37 * number % 255)).save(folder / f"{number}.png")


def _broken(folder: Path) -> None:
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"no image")


def _mixed(folder: Path) -> None:
    """Images of many sizes and kinds: grey, RGBA, 16 bit, one bit, CMYK, with a palette."""
    kinds = (
        ("L", (9, 40)),
        ("RGBA", (30, 16)),
        ("I;16", (16, 16)),
        ("1", (50, 12)),
        ("CMYK", (20, 20)),
        ("P", (16, 17)),
    )
    rng = np.random.default_rng(3)
    for number in range(8):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    for mode, size in kinds:
        Image.new(mode, size, 100).save(folder / f"{mode.replace(';', '')}.{'tiff' if mode == 'CMYK' else 'png'}")


def _squares(count: int, seed: int, *, classes: bool = False) -> Callable[[Path], Path]:
    return lambda folder: write_images(folder, count, seed, classes=classes)


def _one_class(folder: Path) -> Path:
    squares = write_images(folder, 40, 6)
    shutil.rmtree(squares / "blue")
    return squares


def _gan(path: Path) -> Path:
    network = replace(RECIPE.network, patch=4, width=8, latent=8, condition_width=8)
    of_gan = ObjectiveRecipe(kind=ObjectiveName.GAN)
    recipe = replace(RECIPE, network=network, objective=of_gan, optimiser=OptimiserRecipe(OptimiserName.ADAM))
    torch.manual_seed(0)
    generator = Generator(gan_config(recipe, len(COLOURS), 0))
    pixel_file.save(path, generator, title=path.stem, classes=tuple(sorted(COLOURS)), recipe=recipe.to_json())
    return path


def _file(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def _unknown(path: Path) -> Path:
    save_file({"a": torch.zeros(2)}, path)
    return path


_FOLDERS: dict[str, Callable[[Path], Path]] = {
    "good": _squares(80, 0, classes=True),
    "made": _squares(40, 5),
    "one": _squares(1, 7),
    "one class": _one_class,
    "empty": _filled(lambda folder: None),
    "hollow": _filled(_hollow),
    "texts": _filled(lambda folder: (folder / "a.txt").write_text("a")),
    "equal": _filled(_equal),
    "flat": _filled(_flat),
    "broken": _filled(_broken),
    "mixed": _filled(_mixed),
    FAR_AWAY: _squares(24, 8),
    LONG: _squares(24, 9),
    "gone": _squares(24, 10),
}
_MODELS: dict[str, Callable[[Path], Path]] = {
    "diffusion": write_checkpoint,
    "plain": lambda path: write_checkpoint(path, Conditioning.NONE),
    "spoiled": lambda path: write_checkpoint(path, Conditioning.NONE, spoil=True),
    "vae": write_vae,
    "gan": _gan,
    "upscaler": write_upscaler,
    "damaged": _file(b"\x10\0\0\0\0\0\0\0nothing"),
    "unknown": _unknown,
    "lost": write_checkpoint,
}
VANISHING = ("gone", "lost")  # what is deleted once it was chosen
