"""Sample sheets: grids of images from the same prompts and seeds at different steps of a run, to see it learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from diffstudio.atomic import atomic_write
from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.evaluation.even_spacing import evenly_spaced
from diffstudio.imaging.colour import srgb_chunks
from diffstudio.imaging.limits import LARGEST_PIXELS
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.model import Model
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.storage_errors import not_written
from diffstudio.training.data.captions.dropout import short_prompt
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.objectives.objective import Objective
from diffstudio.training.recipe import Recipe
from diffstudio.training.run.events import channel_sheet

COLUMNS = 8
MOST_PROMPTS = 64


@dataclass(frozen=True, slots=True)
class SampleSheetRenderer:
    """Draws a sheet with any network of the recipe's shape."""

    recipe: Recipe
    objective: Objective
    tokenizer: CaptionTokenizer | None
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    size: tuple[int, int]  # of one image, px
    first_seed: int = 0  # added to the run's seed
    min_timestep: float | None = None  # None: the recipe's

    @property
    def columns(self) -> int:
        return min(COLUMNS, len(self.prompts))

    @property
    def rows(self) -> int:
        return -(-len(self.prompts) // self.columns)

    def render(self, network: nn.Module, before_call: Callable[[], None]) -> SampleSheet:
        """One image per prompt, with that prompt's seed: the run's seed plus its index."""
        return self.sheet(network, self.draw(network, before_call))

    def sheet(self, network: nn.Module, images: Tensor) -> SampleSheet:
        """What `draw` returned, side by side."""
        model = self._model(network)
        output, whole = model.output, image_grid(model.decode(images), self.columns)
        if output.is_image:
            return SampleSheet(whole)
        channels = (image_grid(output.to_rgb(images, [index]), self.columns) for index in range(output.channels))
        return SampleSheet(whole, tuple(channels))

    def singly(self, network: nn.Module, images: Tensor) -> list[Image.Image]:
        """What `draw` returned, as one RGB image each."""
        decoded = self._model(network).decode(images)
        return [image_grid(decoded[index : index + 1], 1) for index in range(len(decoded))]

    def draw(self, network: nn.Module, before_call: Callable[[], None]) -> Tensor:
        """One image per prompt, [N,C,H,W]. `before_call` runs before every call of the network; what it raises ends it."""
        run = self.recipe.run
        model = self._model(network)
        state = None
        options = SampleOptions(
            seeds=[run.seed + self.first_seed + index for index in range(len(self.prompts))],
            width=self.size[0],
            height=self.size[1],
            steps=run.sample_steps,
            sampler=run.sample_sampler,
            spacing=run.sample_spacing,
            guidance=run.sample_guidance,
        )
        prompt = model.encode_prompt(self.prompts)
        for step in sample(model, prompt, options, wrap=lambda denoiser: _InterruptibleDenoiser(denoiser, before_call)):
            state = step.x
        assert state is not None
        return state

    def _model(self, network: nn.Module) -> Model:
        model = self.objective.model(network, self.tokenizer, self.classes)
        if self.min_timestep is not None and isinstance(model, PixelModel):
            model.min_timestep = self.min_timestep
        return model


@dataclass(frozen=True, slots=True)
class SampleSheet:
    """The images of one network, side by side."""

    whole: Image.Image  # RGB
    channels: tuple[Image.Image, ...] = ()  # of arrays: each channel, as grey

    def write(self, path: Path) -> None:
        """Write PNG files, one for each channel beside it. StorageProblem when that fails."""
        write_sheet(self.whole, path)
        for number, channel in enumerate(self.channels, 1):
            write_sheet(channel, channel_sheet(path, number))


@dataclass(frozen=True, slots=True)
class _InterruptibleDenoiser:
    denoiser: Denoiser
    before_call: Callable[[], None]

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.before_call()
        return self.denoiser(x_t, t)


def sample_prompts(recipe: Recipe, dataset: ImageDataset) -> tuple[str, ...]:
    """The recipe's prompts, or names from captions or classes, evenly spread; "" for an unconditional network."""
    return recipe.run.prompts or prompts_of_folder(recipe, dataset)


def usable_prompts(prompts: Sequence[str], recipe: Recipe, classes: Sequence[str]) -> tuple[str, ...]:
    """Those of a person's prompts that the network can follow: all, names of classes, or none; at most MOST_PROMPTS."""
    match recipe.network.conditioning:
        case Conditioning.TEXT:
            return tuple(prompts[:MOST_PROMPTS])
        case Conditioning.CLASS:
            known = {name.casefold() for name in classes}
            return tuple(prompt for prompt in prompts if prompt.strip().casefold() in known)[:MOST_PROMPTS]
        case Conditioning.NONE:
            return ()


def prompts_of_folder(recipe: Recipe, dataset: ImageDataset) -> tuple[str, ...]:
    """Names from captions or classes, evenly spread over the images; "" for an unconditional network."""
    count = max(1, recipe.run.sample_count)
    match recipe.network.conditioning:
        case Conditioning.TEXT:
            names = [short_prompt(caption) for caption in dataset.captions if caption.strip()]
            return tuple(names[index] for index in evenly_spaced(len(names), count)) or ("",)
        case Conditioning.CLASS:
            return tuple(dataset.classes[index % len(dataset.classes)] for index in range(count))
        case Conditioning.NONE:
            return ("",) * count


def image_grid(images: Tensor, columns: int) -> Image.Image:
    """Images [N,3,H,W] in [-1,1] side by side in rows of squares, RGB; reduced where the whole would be too large to read."""
    pixels = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    rows = -(-len(pixels) // columns)
    largest = max(pixels.shape[1:3])
    side = min(largest, math.isqrt(LARGEST_PIXELS // (columns * rows)))
    grid = Image.new("RGB", (columns * side, rows * side), "white")
    for index, image in enumerate(pixels):
        cell = Image.fromarray(image)
        if side < largest:
            smaller = (max(1, round(length * side / largest)) for length in cell.size)
            cell = cell.resize((next(smaller), next(smaller)), Image.Resampling.LANCZOS)
        left, top = (side - cell.width) // 2, (side - cell.height) // 2
        grid.paste(cell, (index % columns * side + left, index // columns * side + top))
    return grid


def sheet_thumbnail(sheet: Image.Image, side: int) -> Image.Image:
    """The first four samples, of `side` px each, as one image of at most 128 px."""
    corner = sheet.crop((0, 0, min(sheet.width, 2 * side), min(sheet.height, 2 * side)))
    corner.thumbnail((128, 128), Image.Resampling.LANCZOS)
    return corner


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a PNG file. StorageProblem when that fails."""
    with atomic_write(path, not_written(path)) as file:
        sheet.save(file, "PNG", pnginfo=srgb_chunks())
