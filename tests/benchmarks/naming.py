"""Whether the drawn images of a checkpoint can be named as well as real ones, by somebody who does not know the prompts.

    python -m tests.benchmarks.naming FOLDER OUT                       # writes pages of numbered images, and key.tsv
    python -m tests.benchmarks.naming FOLDER OUT --names names.tsv     # prints how many were named right

FOLDER is that of `packaging/starter/build.py styles`. The 60 prompts of packaging/starter/four-styles-prompts.txt are drawn by
`four-styles` as on its sheet, and mixed at random with the real images of the same things in the same styles. Whoever names them
sees only the pages, and writes a line for each image: its number, a name, a second guess or nothing, and the style that it
looks like, with tabs between. A name is right if its last word is that of the thing; other names are listed, and
`--right` takes the numbers of those that mean the same. An image is named right by the first guess.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from diffstudio import paths
from diffstudio.evaluation.interval import share_interval
from diffstudio.models import loading
from diffstudio.models.library.records import read_checkpoint
from tests.benchmarks.starter import PROMPTS, draw, images_of

COLUMNS, ROWS, CELL, LINE = 5, 4, 192, 26  # of a page; px
CHECKPOINT = paths.starter().with_name("four-styles.safetensors")
_SEED = 7
_HELD_OUT = 15  # the last prompts: pairs of a thing and a style that were not trained on


@dataclass(frozen=True, slots=True)
class Tile:
    """One numbered image."""

    prompt: str
    kind: str  # `drawn` or `real`
    image: Image.Image

    @property
    def thing(self) -> str:
        return self.prompt.split(",")[0].strip()

    @property
    def style(self) -> str:
        """Of four, in one word; empty where none was asked for."""
        return self.prompt.partition(",")[2].replace("style", "").strip()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--names", type=Path)
    parser.add_argument("--right", type=int, nargs="+", default=[], help="numbers whose names mean the same")
    asked = parser.parse_args(argv)
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    tiles = mixed(asked.folder, prompts)
    if asked.names is None:
        write(tiles, asked.out)
    else:
        judge(tiles, asked.names, set(asked.right), set(prompts[-_HELD_OUT:]))
    return 0


def mixed(folder: Path, prompts: Sequence[str]) -> list[Tile]:
    """The drawn images and the real ones that have the same caption, in an order that says nothing."""
    model = loading.load(read_checkpoint(CHECKPOINT), torch.device("cpu"))
    side = model.default_size[0]
    drawn = torch.cat(draw(model, prompts, range(len(prompts)), side))
    tiles = [Tile(prompt, "drawn", as_image(image)) for prompt, image in zip(prompts, drawn, strict=True)]
    dataset = images_of(folder, side)
    where = {caption: index for index, caption in enumerate(dataset.captions)}
    real = [(prompt, where[prompt]) for prompt in prompts if prompt in where]
    tiles += [Tile(prompt, "real", as_image(dataset.batch([index])[0])) for prompt, index in real]
    random.Random(_SEED).shuffle(tiles)
    return tiles


def as_image(values: torch.Tensor) -> Image.Image:
    """[3,S,S] in [-1,1] as an image."""
    return Image.fromarray(((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy())


def write(tiles: Sequence[Tile], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(tiles), COLUMNS * ROWS):
        page = Image.new("RGB", (COLUMNS * (CELL + LINE), ROWS * (CELL + LINE)), "white")
        text = ImageDraw.Draw(page)
        for place, tile in enumerate(tiles[first : first + COLUMNS * ROWS]):
            left, top = place % COLUMNS * (CELL + LINE), place // COLUMNS * (CELL + LINE)
            text.text((left, top + LINE // 4), f"no. {first + place + 1}", fill="black")
            page.paste(tile.image.resize((CELL, CELL), Image.Resampling.BICUBIC), (left, top + LINE))
        page.save(out / f"page{first // (COLUMNS * ROWS) + 1}.png")
    lines = [f"{number}\t{tile.kind}\t{tile.prompt}\n" for number, tile in enumerate(tiles, 1)]
    (out / "key.tsv").write_text("".join(lines), encoding="utf-8")


def judge(tiles: Sequence[Tile], names: Path, accepted: set[int], held_out: set[str]) -> None:
    with names.open(encoding="utf-8", newline="") as file:
        given = {int(row[0]): row for row in csv.reader(file, delimiter="\t") if row}
    right = {number: is_right(tile.thing, given[number][1]) for number, tile in enumerate(tiles, 1)}
    for number in sorted(number for number, found in right.items() if not found and number not in accepted):
        print(f"{number}: {given[number][1]!r} for {tiles[number - 1].prompt!r}", file=sys.stderr)
    print("| images | named right | style |\n| --- | --- | --- |")
    for name, kind, only in (("real", "real", None), ("drawn", "drawn", None), ("drawn, held out", "drawn", held_out)):
        chosen = [
            (number, tile)
            for number, tile in enumerate(tiles, 1)
            if tile.kind == kind and (only is None or tile.prompt in only)
        ]
        named = [right[number] or number in accepted for number, _ in chosen]
        styles = [given[number][3].strip() == tile.style for number, tile in chosen if tile.style]
        print(f"| {name} | {shown(named)} | {shown(styles)} |")


def is_right(thing: str, name: str) -> bool:
    return last_word(thing) in name.lower().split()


def last_word(thing: str) -> str:
    """The word that names the kind: `owl` for `owl`, `fish` for `tropical fish`, `dog` for `dog face`."""
    words = [word for word in thing.lower().split() if word != "face"]
    return words[-1]


def shown(right: Sequence[bool]) -> str:
    found = share_interval(sum(right), len(right))
    return f"{sum(right)} of {len(right)} ({found.low:.3f} to {found.high:.3f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
