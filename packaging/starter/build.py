"""Build the starter checkpoint: train it with starter.toml, or package the latest checkpoint of a run.

    python packaging/starter/build.py train FOLDER RUN     trains or resumes RUN (two hours on two cores)
    python packaging/starter/build.py ship RUN             writes resources/starter/ from RUN's latest checkpoint:
                                                           the checkpoint, its model card, the sheet of 40 prompts
    python packaging/starter/build.py sheet                draws the sheet again with the checkpoint that ships
    python packaging/starter/build.py captions FOLDER      writes the words of the starter's captions, captions.json
FOLDER holds Fluent Emoji with captions (see NOTICE): images of 128 px, each with a `.txt` of `name, tag, tag, ...`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from diffstudio import paths
from diffstudio.models.caption_words import count_words
from diffstudio.models.families import pixel_file
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.transformer import PixelTransformer
from diffstudio.training.loop import train
from diffstudio.training.recipe import Recipe, RunRecipe, read_recipe
from diffstudio.training.run.events import RunHeldOut, RunStep
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.run.sample_sheets import SampleSheetRenderer

HERE = Path(__file__).resolve().parent
TITLE = "Starter · emoji 64"
SHEET_SCALE = 2
THUMBNAIL_PROMPTS = ("red apple", "grinning face", "purple heart", "ghost")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["train", folder, run]:
            train_starter(Path(folder), Path(run))
        case ["sheet"]:
            draw_sheet()
        case ["captions", folder]:
            write_captions(Path(folder))
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
    loaded = pixel_file.load(read_checkpoint(paths.starter()))
    recipe, prompts = Recipe(run=RunRecipe(dtype="float32")), sheet_prompts()
    renderer = SampleSheetRenderer(recipe, loaded.tokenizer, loaded.classes, torch.device("cpu"), prompts)
    whole = renderer.render(loaded.network, lambda: None)
    labelled(whole, prompts, recipe.data.size).save(paths.starter().parent / "sheet.png", optimize=True)


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
    renderer = SampleSheetRenderer(recipe, loaded.tokenizer, loaded.classes, torch.device("cpu"), prompts)
    whole = renderer.render(loaded.network, lambda: None)
    side = recipe.data.size
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
