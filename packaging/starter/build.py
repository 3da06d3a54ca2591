"""Build the checkpoints that ship with the program: the starter and `four-styles`.

    python packaging/starter/build.py train FOLDER RUN     trains or resumes the starter's RUN (two hours on two cores)
    python packaging/starter/build.py styles 3D OTHERS OUT
                                                           arranges images in four styles for four-styles.toml in OUT, for
                                                           diffstudio train OUT --recipe packaging/starter/four-styles.toml
    python packaging/starter/build.py ship NAME RUN        writes NAME's files to resources/starter/ from RUN's latest
                                                           checkpoint: the checkpoint and its sheet of prompts
    python packaging/starter/build.py sheet NAME           draws the sheet again with the checkpoint that ships
    python packaging/starter/build.py captions FOLDER      writes the words of the starter's captions, captions.json
FOLDER and 3D hold Fluent Emoji with captions (see NOTICE): images of 128 px, each with a `.txt` of `name, tag, tag, ...`.
OTHERS has the folders flat, noto and twemoji of the same things. In OUT, some pairs of a thing and a style are held out.
NAME is `starter` or `four-styles`. Steps are fitted to RUN's checkpoint by `diffstudio models fit-steps`, and ship with it; the
figures in resources/starter/README.md are from the runs' events and from tests/benchmarks/starter.py.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.caption_words import caption_words, count_words
from diffstudio.models.families import pixel_file
from diffstudio.models.fitted_steps.ladders import SPACING
from diffstudio.models.fitted_steps.stored import KEY, fitted_steps, rewrite_metadata
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import recommended_for
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.training.loop import train
from diffstudio.training.recipe import read_recipe
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.run.sample_sheets import COLUMNS, image_grid

HERE = Path(__file__).resolve().parent
SHEET_CELL = 128  # px of an image on a sheet
HELD_OUT_PROMPTS, HELD_OUT_PAIRS, SPLIT_SEED = 15, 105, 20261126


@dataclass(frozen=True, slots=True)
class Included:
    """A checkpoint that ships with the program: its title, its sheet, and what its header says of its data."""

    name: str
    title: str
    prompts: str  # of the sheet: a file beside this one
    most_prompts: int
    sheet: str  # its file, beside the checkpoint
    thumbnail: tuple[str, str, str, str]  # prompts of the sheet
    licence: str
    description: str = ""  # empty: the recipe's

    @property
    def path(self) -> Path:
        return paths.starter().with_name(f"{self.name}.safetensors")

    def sheet_prompts(self) -> tuple[str, ...]:
        return tuple((HERE / self.prompts).read_text(encoding="utf-8").splitlines()[: self.most_prompts])


STARTER = Included(
    name="starter",
    title="Starter · emoji 64",
    prompts="prompts.txt",
    most_prompts=40,
    sheet="sheet.png",
    thumbnail=("red apple", "grinning face", "purple heart", "ghost"),
    licence="Apache-2.0; trained on Fluent Emoji (MIT) with captions of emojibase (MIT) and Unicode CLDR (Unicode v3)",
)
FOUR_STYLES = Included(
    name="four-styles",
    title="Four styles · emoji 128",
    prompts="four-styles-prompts.txt",
    most_prompts=60,
    sheet="four-styles.png",
    thumbnail=("red apple, 3d style", "rocket, noto style", "dog face, flat style", "sunflower, twemoji style"),
    licence="Apache-2.0; trained on Fluent Emoji 3D and Flat (MIT), Noto Emoji (Apache-2.0) and Twemoji (CC BY 4.0) with "
    "captions of emojibase (MIT) and Unicode CLDR (Unicode v3)",
    description="Things, animals, food, faces and symbols by name, in four styles that are words of the prompt: 3d style, "
    "flat style, noto style, twemoji style. Images of 64 px, which its upper level enlarges to 128 px.",
)
INCLUDED = {one.name: one for one in (STARTER, FOUR_STYLES)}


def main(arguments: list[str]) -> int:
    match arguments:
        case ["train", folder, run]:
            train_starter(Path(folder), Path(run))
        case ["sheet", name] if name in INCLUDED:
            draw_sheet(INCLUDED[name])
        case ["captions", folder]:
            write_captions(Path(folder))
        case ["styles", solid, others, out]:
            arrange_styles(Path(solid), Path(others), Path(out))
        case ["ship", name, run] if name in INCLUDED:
            ship(INCLUDED[name], RunFolder.open(Path(run)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def train_starter(folder: Path, run: Path) -> None:
    resume = (run / "recipe.toml").exists()
    train(run, folder, recipe=str(HERE / "starter.toml"), resume=resume, on_event=print)


def draw_sheet(included: Included) -> None:
    """The sheet with today's defaults: sampler, spacing and steps may not be those of the recipe in the header."""
    prompts = included.sheet_prompts()
    whole, side = sheet_of(included.path, prompts)
    labelled(whole, prompts, side).save(included.path.with_name(included.sheet), optimize=True)


def sheet_of(path: Path, prompts: Sequence[str]) -> tuple[Image.Image, int]:
    """One image for each prompt with its index as the seed, at the recommended settings, and the side of one in px."""
    checkpoint = read_checkpoint(path)
    model, settings = loading.load(checkpoint, torch.device("cpu")), recommended_for(checkpoint, fitted=True)
    assert settings is not None
    ladder = fitted_steps(checkpoint).of(settings.sampler, settings.steps) if settings.spacing == SPACING else None
    options = SampleOptions(
        seeds=range(len(prompts)),
        steps=settings.steps,
        sampler=settings.sampler,
        spacing=settings.spacing if ladder is None else "log_snr",
        guidance=settings.guidance,
        times=() if ladder is None else ladder.times,
    )
    *_, last = sample(model, model.encode_prompt(list(prompts)), options)
    return image_grid(model.decode(last.x), COLUMNS), model.default_size[0]


def arrange_styles(solid: Path, others: Path, out: Path) -> None:
    """OUT/train and OUT/val with the folders 3d, flat, noto and twemoji; captions of two lines, without and with tags.

    Held out are the pairs of four-styles-prompts.txt's last HELD_OUT_PROMPTS lines and HELD_OUT_PAIRS others at random, whose
    things are trained on in the other styles.
    """
    sources = {"3d": solid} | {style: others / style for style in ("flat", "noto", "twemoji")}
    left_out = read_recipe(HERE / "starter.toml").data.exclude
    images = {
        style: {image.relative_to(folder): image for image in sorted(folder.rglob("*.webp"))}
        for style, folder in sources.items()
    }
    for style, found in images.items():
        images[style] = {path: image for path, image in found.items() if path.parts[0] not in left_out}
    in_all = sorted(set.intersection(*(set(found) for found in images.values())))
    lines = (HERE / "four-styles-prompts.txt").read_text(encoding="utf-8").splitlines()[-HELD_OUT_PROMPTS:]
    held_out = {tuple(line.removesuffix(" style").split(", ")) for line in lines}
    rest = [path for path in in_all if path.stem.replace("-", " ") not in {name for name, _ in held_out}]
    random.Random(SPLIT_SEED).shuffle(rest)
    pairs = {(path, style) for path in in_all for style in sources if (path.stem.replace("-", " "), style) in held_out}
    pairs |= {(path, list(sources)[index % len(sources)]) for index, path in enumerate(rest[:HELD_OUT_PAIRS])}
    for style, found in images.items():
        for path, image in found.items():
            target = out / ("val" if (path, style) in pairs else "train") / style / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image, target)
            parts = [part.strip() for part in image.with_suffix(".txt").read_text(encoding="utf-8").split(",")]
            tags = [part for part in parts[1:] if not part.endswith(" style")]
            short = f"{parts[0]}, {style} style"
            captions = [short] if (path, style) in pairs or not tags else [short, ", ".join([short, *tags])]
            target.with_suffix(".txt").write_text("\n".join(captions) + "\n", encoding="utf-8")


def write_captions(folder: Path) -> None:
    """The words of all captions that starter.toml trains on, and the sheet's prompts as examples."""
    left_out = read_recipe(HERE / "starter.toml").data.exclude
    files = (file for file in sorted(folder.rglob("*.txt")) if file.relative_to(folder).parts[0] not in left_out)
    known = count_words((file.read_text(encoding="utf-8") for file in files), STARTER.sheet_prompts())
    text = json.dumps(known.to_json(), ensure_ascii=False, separators=(",", ":"))
    (paths.starter().parent / "captions.json").write_text(f"{text}\n", encoding="utf-8")


def ship(included: Included, run: RunFolder) -> None:
    checkpoint = read_checkpoint(run.latest_checkpoint)
    loaded = pixel_file.load(checkpoint)
    recipe, prompts = run.recipe(), included.sheet_prompts()
    whole, side = sheet_of(run.latest_checkpoint, prompts)
    included.path.parent.mkdir(parents=True, exist_ok=True)
    labelled(whole, prompts, side).save(included.path.with_name(included.sheet), optimize=True)
    pixel_file.save(
        included.path,
        loaded.network,
        title=included.title,
        tokenizer=loaded.tokenizer,
        classes=loaded.classes,
        schedule=loaded.schedule,
        guidance=loaded.guidance,
        captions=caption_words(checkpoint),
        recipe=recipe.to_json(),
        run=checkpoint.json("run"),
        dtype=torch.float16,
        thumbnail=thumbnail(whole, [prompts.index(prompt) for prompt in included.thumbnail], side),
        card={"license": included.licence, "description": included.description or recipe.description},
    )
    if (fitted := fitted_steps(checkpoint)).ladders:
        rewrite_metadata(included.path, {KEY: fitted.to_json()}, f"{included.path.name} cannot be written")
    print(f"{included.path}: {included.path.stat().st_size / 1e6:.1f} MB")


def labelled(sheet: Image.Image, prompts: tuple[str, ...], side: int) -> Image.Image:
    """The sheet with images of SHEET_CELL px, and the prompt below each."""
    cell, line = SHEET_CELL, 18
    columns = sheet.width // side
    rows = -(-len(prompts) // columns)
    whole = Image.new("RGB", (columns * cell, rows * (cell + line)), "white")
    draw = ImageDraw.Draw(whole)
    for index, prompt in enumerate(prompts):
        left, top = index % columns, index // columns
        image = sheet.crop((left * side, top * side, (left + 1) * side, (top + 1) * side))
        whole.paste(image.resize((cell, cell), Image.Resampling.BICUBIC), (left * cell, top * (cell + line)))
        draw.text(
            (left * cell + cell // 2, top * (cell + line) + cell + line // 2), prompt, fill="#5f6877", anchor="mm"
        )
    return whole


def thumbnail(sheet: Image.Image, chosen: Sequence[int], side: int) -> Image.Image:
    columns = sheet.width // side
    four = Image.new("RGB", (2 * side, 2 * side), "white")
    for place, index in enumerate(chosen):
        left, top = index % columns * side, index // columns * side
        four.paste(sheet.crop((left, top, left + side, top + side)), (place % 2 * side, place // 2 * side))
    return four


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
