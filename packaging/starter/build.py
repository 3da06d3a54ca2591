"""Build the starter checkpoint: train it with starter.toml, or package the latest checkpoint of a run.

    python packaging/starter/build.py train FOLDER RUN     trains or resumes RUN (two hours on two cores)
    python packaging/starter/build.py ship RUN             writes resources/starter/ from RUN's latest checkpoint:
                                                           the checkpoint, its model card, the sheet of 40 prompts
    python packaging/starter/build.py sheet                draws the sheet again with the checkpoint that ships
    python packaging/starter/build.py captions FOLDER      writes the words of the starter's captions, captions.json
    python packaging/starter/build.py styles 3D OTHERS OUT
                                                           arranges images in four styles for four-styles.toml in OUT
FOLDER and 3D hold Fluent Emoji with captions (see NOTICE): images of 128 px, each with a `.txt` of `name, tag, tag, ...`.
OTHERS has the folders flat, noto and twemoji of the same things. In OUT, some pairs of a thing and a style are held out.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from diffstudio import paths
from diffstudio.models import loading
from diffstudio.models.caption_words import count_words
from diffstudio.models.families import pixel_file
from diffstudio.models.fitted_steps.ladders import SPACING
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import recommended_for
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.transformer import PixelTransformer
from diffstudio.training.loop import train
from diffstudio.training.recipe import Recipe, read_recipe
from diffstudio.training.run.events import RunHeldOut, RunStep
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.run.sample_sheets import COLUMNS, image_grid

HERE = Path(__file__).resolve().parent
TITLE = "Starter · emoji 64"
SHEET_SCALE = 2
HELD_OUT_PROMPTS, HELD_OUT_PAIRS, SPLIT_SEED = 15, 105, 20261126
THUMBNAIL_PROMPTS = ("red apple", "grinning face", "purple heart", "ghost")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["train", folder, run]:
            train_starter(Path(folder), Path(run))
        case ["sheet"]:
            draw_sheet()
        case ["captions", folder]:
            write_captions(Path(folder))
        case ["styles", solid, others, out]:
            arrange_styles(Path(solid), Path(others), Path(out))
        case ["ship", run]:
            ship(RunFolder.open(Path(run)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def train_starter(folder: Path, run: Path) -> None:
    resume = (run / "recipe.toml").exists()
    train(run, folder, recipe=str(HERE / "starter.toml"), resume=resume, on_event=print)


def sheet_prompts() -> tuple[str, ...]:
    return tuple((HERE / "prompts.txt").read_text(encoding="utf-8").split("\n")[:40])


def draw_sheet() -> None:
    """sheet.png with today's defaults: sampler, spacing and steps are not those of the old recipe in its header."""
    prompts = sheet_prompts()
    whole, side = sheet_of(paths.starter(), prompts)
    labelled(whole, prompts, side).save(paths.starter().parent / "sheet.png", optimize=True)


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
    known = count_words((file.read_text(encoding="utf-8") for file in files), sheet_prompts())
    text = json.dumps(known.to_json(), ensure_ascii=False, separators=(",", ":"))
    (paths.starter().parent / "captions.json").write_text(f"{text}\n", encoding="utf-8")


def ship(run: RunFolder) -> None:
    checkpoint = read_checkpoint(run.latest_checkpoint)
    loaded = pixel_file.load(checkpoint)
    recipe, outcome = run.recipe(), checkpoint.json("run")
    prompts = sheet_prompts()
    whole, side = sheet_of(run.latest_checkpoint, prompts)
    folder = paths.starter().parent
    folder.mkdir(parents=True, exist_ok=True)
    labelled(whole, prompts, side).save(folder / "sheet.png")
    pixel_file.save(
        paths.starter(),
        loaded.network,
        title=TITLE,
        tokenizer=loaded.tokenizer,
        classes=loaded.classes,
        schedule=loaded.schedule,
        guidance=loaded.guidance,
        recipe=recipe.to_json(),
        run=outcome,
        dtype=torch.float16,
        thumbnail=thumbnail(whole, prompts, side),
        card={
            "license": "Apache-2.0; trained on Fluent Emoji (MIT) with captions of emojibase (MIT) and Unicode CLDR (Unicode v3)",
            "description": recipe.description,
        },
    )
    events = run.events()[0]
    elapsed = max((event.elapsed_seconds for event in events if isinstance(event, RunStep)), default=0.0)
    best = min((event for event in events if isinstance(event, RunHeldOut)), key=lambda event: event.loss)
    (folder / "README.md").write_text(model_card(recipe, outcome, loaded.network, elapsed, best), encoding="utf-8")
    print(f"{paths.starter()}: {paths.starter().stat().st_size / 1e6:.1f} MB")


def labelled(sheet: Image.Image, prompts: tuple[str, ...], side: int) -> Image.Image:
    """The sheet at twice its size, with the prompt below each image."""
    cell, line = side * SHEET_SCALE, 18
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


def thumbnail(sheet: Image.Image, prompts: tuple[str, ...], side: int) -> Image.Image:
    columns = sheet.width // side
    four = Image.new("RGB", (2 * side, 2 * side), "white")
    for place, prompt in enumerate(THUMBNAIL_PROMPTS):
        index = prompts.index(prompt)
        left, top = index % columns * side, index // columns * side
        four.paste(sheet.crop((left, top, left + side, top + side)), (place % 2 * side, place // 2 * side))
    return four


def model_card(
    recipe: Recipe, outcome: dict[str, object], network: PixelTransformer, elapsed_seconds: float, best: RunHeldOut
) -> str:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    left_out = ", ".join(recipe.data.exclude)
    held_out = float(str(outcome["held_out_loss"]))
    network_lines = "\n".join(
        f"| {name.replace('_', ' ')} | {value} |" for name, value in dataclasses.asdict(network.config).items()
    )
    return f"""# {TITLE}

The checkpoint that ships with diffstudio: text to image at {recipe.data.size} px on white, so that the program generates images
as soon as it is installed. A pixel transformer of {parameters / 1e6:.1f} M parameters, stored in half precision.

- **Data.** Fluent Emoji (3D), Copyright (c) Microsoft Corporation, MIT License, with English names and tags of emojibase-data
  (MIT) and Unicode CLDR (Unicode License v3); see NOTICE. Left out: {left_out}, and {recipe.data.held_out:.0%} of the rest held out.
- **Licence.** Apache-2.0, as the program.
- **Recipe.** `packaging/starter/starter.toml`, by `packaging/starter/build.py`: {outcome["steps"]:,} steps of {recipe.run.batch},
  {outcome["pictures_seen"]:,} images seen, {elapsed_seconds / 3600:.1f} hours on {recipe.run.threads} CPU cores
  shared with other work.
- **Held-out loss.** {held_out:.4f} (velocity, EMA weights, fixed noise). The minimum was {best.loss:.4f}, at step
  {best.step:,}: after that it overfitted its training images, which makes them recognisable.
- **Sheet.** `sheet.png`, by `packaging/starter/build.py sheet`: 40 prompts, seeds 0 to 39,
  {recipe.run.sample_sampler}, {recipe.run.sample_spacing}, {recipe.run.sample_steps} steps, CFG scale
  {recipe.run.sample_guidance:g}; the first samples, not a selection. The prompts were chosen beforehand from the names
  in the training captions.

## What it cannot do
It knows a little over a thousand things by their English names (`packaging/starter/prompts.txt` has forty of them) and
little else: no people, no flags, no text, no scenes, no styles, no counting; tags without a name (`food`, `vehicle`)
give vague shapes. It has seen each image hundreds of times and was trained to be recognisable, so its images are
close to the training images; it is a teaching model, not a source of new designs. Prompts of more than
{network.config.text_tokens} tokens are truncated. Sides other than {recipe.data.size} px work poorly.

## Network
| | |
|---|---|
{network_lines}
"""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
