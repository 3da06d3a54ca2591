"""Images that are drawn: shapes to train on and to judge, and previews of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw_shapes(folder: Path, count: int, seed: int, colours: int) -> None:
    """Circles and squares of so many colours, in any size and place; the same for the same seed."""
    import random

    from PIL import Image, ImageDraw

    folder.mkdir(exist_ok=True)
    for number in range(count):
        dice = random.Random(seed + number)
        image = Image.new("RGB", (64, 64), "white")
        side, left, top = dice.randint(16, 36), dice.randint(2, 26), dice.randint(2, 26)
        hue = 360 * dice.randrange(colours) // 12
        draw = ImageDraw.Draw(image)
        shape = dice.choice((draw.ellipse, draw.rectangle))
        shape((left, top, left + side, top + side), fill=f"hsl({hue}, 70%, {dice.randint(40, 60)}%)")
        image.save(folder / f"{number:03d}.png")


def scratch(paths: Sequence[Path]) -> None:
    """Draw a thin dark line across each of these images."""
    import random

    from PIL import Image, ImageDraw

    for number, path in enumerate(paths):
        dice = random.Random(number)
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        ends = (dice.randint(6, 26), dice.randint(6, 58), dice.randint(38, 58), dice.randint(6, 58))
        ImageDraw.Draw(image).line(ends, fill="#303030", width=2)
        image.save(path)


def draw_classes(folder: Path, count: int) -> None:
    """Circles and squares in a subfolder each, alike in colours, sizes and places."""
    import random

    from PIL import Image, ImageDraw

    for number in range(count):
        dice = random.Random(number)
        image = Image.new("RGB", (64, 64), "white")
        side, left, top = dice.randint(16, 30), dice.randint(2, 30), dice.randint(2, 30)
        draw = ImageDraw.Draw(image)
        name, shape = (("circles", draw.ellipse), ("squares", draw.rectangle))[number % 2]
        shape((left, top, left + side, top + side), fill=f"hsl({dice.randrange(360)}, 70%, {dice.randint(40, 60)}%)")
        (folder / name).mkdir(parents=True, exist_ok=True)
        image.save(folder / name / f"{number:03d}.png")


def add_noise(sheet: Path, target: Path) -> None:
    """The first image of a sheet of twice the size, with noise of 30 levels."""
    import numpy as np
    from PIL import Image

    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB").crop((0, 0, 128, 128)).resize((64, 64)), np.float64)
    noisy = pixels + 30 * np.random.default_rng(0).normal(size=pixels.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(target)


def landscape(path: Path, colours: tuple[str, str, str], side: int = 256) -> None:
    """A preview image: ridges of mountains, from the colour of the sky through that of the mist to the nearest."""
    from math import sin

    from PIL import Image, ImageColor, ImageDraw

    sky, mist, near = (ImageColor.getrgb(colour) for colour in colours)
    image = Image.new("RGB", (side, side), sky)
    draw = ImageDraw.Draw(image)
    ridges = 5
    for ridge in range(ridges):
        share = ridge / (ridges - 1)
        colour = tuple(round(a + (b - a) * share) for a, b in zip(mist, near, strict=True))
        level = side * (0.38 + 0.13 * ridge)
        heights = [
            level - side * 0.09 * (sin(x / 29 + 2.3 * ridge) + 0.5 * sin(x / 11 + 5 * ridge) + 0.2 * sin(x / 5 + ridge))
            for x in range(side + 1)
        ]
        draw.polygon([(0, side), *enumerate(heights), (side, side)], fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
