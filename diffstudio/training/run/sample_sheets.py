"""Sample sheets: the same prompts and seeds again and again, so that a run can be watched learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from diffstudio.atomic import atomic_write
from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.sampling import sample
from diffstudio.networks.caption_tokenizer import CaptionTokenizer
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.data.dataset import ImageDataset
from diffstudio.training.recipe import Recipe

COLUMNS = 8


@dataclass(frozen=True, slots=True)
class SampleSheetRenderer:
    """Draws a sheet with any network of the run's shape."""

    recipe: Recipe
    tokenizer: CaptionTokenizer | None
    classes: tuple[str, ...]
    device: torch.device
    prompts: tuple[str, ...]

    @property
    def columns(self) -> int:
        return min(COLUMNS, len(self.prompts))

    @property
    def rows(self) -> int:
        return -(-len(self.prompts) // self.columns)

    def draw(self, network: nn.Module, before_call: Callable[[], None]) -> Image.Image:
        """The sheet. `before_call` runs before every call of the network, and may raise to end it there."""
        run = self.recipe.run
        model = PixelModel(
            None,
            network.eval(),  # type: ignore[arg-type]
            self.tokenizer,
            self.classes,
            device=self.device,
            dtype=getattr(torch, run.dtype),
        )
        state = None
        for step in sample(
            model,
            prompts=self.prompts,
            seeds=[run.seed + index for index in range(len(self.prompts))],
            steps=run.sample_steps,
            sampler="heun",
            spacing="uniform",
            guidance=run.sample_guidance,
            wrap=lambda denoiser: _Watched(denoiser, before_call),
        ):
            state = step.x
        assert state is not None
        return sheet(model.decode(state), self.columns)


@dataclass(frozen=True, slots=True)
class _Watched:
    denoiser: Denoiser
    before_call: Callable[[], None]

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.before_call()
        return self.denoiser(x_t, t)


def sample_prompts(recipe: Recipe, dataset: ImageDataset) -> tuple[str, ...]:
    """What the sheets show: the recipe's prompts, or names from the folder, evenly spread; "" for a network told nothing."""
    count = max(1, recipe.run.sample_count)
    if recipe.run.prompts:
        return recipe.run.prompts
    match recipe.network.conditioning:
        case Conditioning.TEXT:
            named = [caption.split(",")[0].strip() for caption in dataset.captions if caption.strip()]
            return tuple(named[index * len(named) // count] for index in range(min(count, len(named)))) or ("",)
        case Conditioning.CLASS:
            return tuple(dataset.classes[index % len(dataset.classes)] for index in range(count))
        case Conditioning.NONE:
            return ("",) * count


def sheet(images: Tensor, columns: int) -> Image.Image:
    """images [N,3,S,S] in [-1,1] side by side in rows, RGB."""
    pixels = ((images.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    side = pixels.shape[1]
    whole = Image.new("RGB", (columns * side, -(-len(pixels) // columns) * side), "white")
    for index, picture in enumerate(pixels):
        whole.paste(Image.fromarray(picture), (index % columns * side, index // columns * side))
    return whole


def sheet_thumbnail(drawn: Image.Image, side: int) -> Image.Image:
    """The first four samples of a sheet of `side` px samples as one picture of at most 128 px."""
    corner = drawn.crop((0, 0, min(drawn.width, 2 * side), min(drawn.height, 2 * side)))
    corner.thumbnail((128, 128), Image.Resampling.LANCZOS)
    return corner


def write(drawn: Image.Image, path: Path) -> None:
    """Write a PNG file. StorageProblem when that fails."""
    with atomic_write(path, f"{path.name} could not be written") as file:
        drawn.save(file, "PNG")
