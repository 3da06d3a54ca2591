"""A home folder of version 0.1 opens with everything in it, and its images come back to the bit.

tests/data/home_v0_1 was written by the program at 647d04d, with /home/ada/diffstudio as its home. Each test works on a
copy, in whose text files and databases the copy's own path stands instead (images are left as they are). The caches in
it describe files that are gone. In 0.1 the last call was guided, which no request recorded.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from argparse import Namespace
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffstudio import cli, paths
from diffstudio.cli.run_job import run_request
from diffstudio.models.checkpoint import Origin
from diffstudio.models.detection.types import Role
from diffstudio.models.files.hashes import sha256_of
from diffstudio.models.library.library import Library
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import ENDINGS, Event, Finished, ImageSaved
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.jobs.queue import Queue
from diffstudio.studio.library.annotations import Annotation, Annotations
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest, PictureRequest, SamplerName, SpacingName, UpscaleRequest
from diffstudio.studio.requests.choices import FillName, ResizeName
from diffstudio.studio.runs.history import RunHistory
from diffstudio.studio.runs.runs import Runs
from diffstudio.studio.settings import Settings, Theme, load_settings, read_settings
from diffstudio.studio.worker import Worker
from diffstudio.training.recipe import NetworkRecipe
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.run.events import RunFinished, RunStarted, RunStopped
from diffstudio.training.run.run_folder import RunFolder, Status

DATA = Path(__file__).parents[1] / "data" / "home_v0_1"
OLD_HOME = "/home/ada/diffstudio"
TEXTS = (".json", ".jsonl", ".toml", ".txt", ".yaml")
PICTURES = sorted(
    path.relative_to(DATA).as_posix()
    for folder in ("asked for", "pictures")
    for path in (DATA / folder).rglob("*.png")
    if ".trash" not in path.parts
)


@pytest.fixture
def old(home: Path) -> Path:
    """A copy of that folder, as the home of this test."""
    shutil.copytree(DATA, home, dirs_exist_ok=True)
    new = home.as_posix()
    for path in home.rglob("*"):
        if path.suffix in TEXTS and OLD_HOME in (text := path.read_text(encoding="utf-8")):
            path.write_text(text.replace(OLD_HOME, new), encoding="utf-8", newline="\n")
    for file, table in (("queue", "jobs"), ("gallery", "images")):
        with closing(sqlite3.connect(home / f"{file}.sqlite")) as database, database:
            database.execute(f"UPDATE {table} SET request = replace(request, ?, ?)", (OLD_HOME, new))
    return home


def here(path: Path | None, home: Path) -> Path | None:
    """Where a file lies now that a picture's request names; relative ones and None as they are."""
    if path is None or not path.as_posix().startswith(OLD_HOME):
        return path
    return home / PurePosixPath(path.as_posix()).relative_to(OLD_HOME)


def first_picture(home: Path) -> Path:
    (found,) = (home / "pictures").rglob("*-41-*.png")
    return found


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.array(picture)


def same(image: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """To the bit, but for single values where another processor than that of the old pictures rounds up, not down."""
    difference = np.abs(image.astype(int) - other.astype(int))
    return bool(difference.max() <= 1 and (difference > 0).mean() < 0.005)


def test_everything_that_was_written_is_there() -> None:
    assert len(PICTURES) == 21, PICTURES
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 1_000_000


def test_settings(old: Path) -> None:
    loaded = read_settings()
    assert loaded.problem == ""
    assert loaded.state == Settings(
        theme=Theme.LIGHT,
        device="cpu",
        threads=1,
        previews=False,
        kept_gib=1.5,
        compiled=True,
        model_folders=(old / "more models",),
        images_folder=old / "pictures",
        prompt_history=("purple heart, éclair", "red apple", "{red|blue} __fruit__"),
    )


# ---- models ----------------------------------------------------------------------------------------------------------


def test_models_and_what_was_said_of_them(old: Path) -> None:
    library = Library(load_settings().folders)
    found = {one.name: one for one in library.scan()}
    assert library.problems == [] and found.keys() == {
        "starter",
        "four-styles",
        "dots",
        "tiny",
        "tiny-class",
        "mystery",
    }
    assert (found["tiny"].family, found["tiny"].conditioning, found["tiny"].width) == ("pixel", Conditioning.TEXT, 16)
    assert found["tiny-class"].classes == ("apple", "rocket", "heart")
    assert (found["dots"].origin, found["dots"].title, found["dots"].width) == (Origin.TRAINED, "dots", 16)
    mystery = found["mystery"]
    assert (mystery.family, mystery.prediction, mystery.role) == (
        "sd2",
        "v",
        Role.CHECKPOINT,
    ) and "Set by you" in mystery.reason
    message = Annotations()
    assert message.problem == "" and set(message.tags()) == {"tests", "16 px", "odd", "Tests"}
    assert message.of(found["tiny"].path) == Annotation(
        "Quick, and good for nothing.\nSecond line: ünï", ("tests", "16 px"), True
    )
    assert message.of(mystery.path) == Annotation(tags=("odd", "Tests"))


def test_what_was_said_of_a_file_goes_with_it(old: Path) -> None:
    before = old / "models" / "mystery.safetensors"
    sha256_of(before)
    after = before.rename(old / "more models" / "no mystery.safetensors")
    sha256_of(after)
    found = Library(load_settings().folders).find("no mystery")
    assert (found.family, found.prediction) == ("sd2", "v")


# ---- the gallery -----------------------------------------------------------------------------------------------------


def test_the_gallery(old: Path) -> None:
    gallery = Gallery(load_settings().images, paths.data() / "gallery.sqlite")
    try:
        assert not gallery.needs_rescan
        images = gallery.images()
        assert [image.checkpoint for image in images] == ["tiny"] * 3 and all(image.path.is_file() for image in images)
        assert [(image.width, image.height, image.starred) for image in images] == [
            (16, 16, False),
            (16, 16, False),
            (16, 16, True),
        ]
        third, second, first = (image.request for image in images)
        assert first == GenerateRequest(
            "red apple, fruit",
            "rocket",
            "tiny",
            41,
            6,
            SamplerName.HEUN,
            SpacingName.UNIFORM,
            4.0,
            guide_last_call=True,
        )
        assert second == GenerateRequest(
            "purple heart",
            checkpoint="tiny",
            seed=5,
            steps=8,
            sampler=SamplerName.EULER_ANCESTRAL,
            spacing=SpacingName.KARRAS,
            guidance=5.0,
            init=first_picture(old),
            strength=0.6,
            guide_last_call=True,
        )
        assert (
            third is not None
            and third.seed == 1234567890123
            and third.sampler is SamplerName.DPMPP_2M
            and "{" not in third.prompt
        )
        assert images[2].path == first_picture(old)
        assert [image.id for image in gallery.images(starred=True)] == [images[2].id]
        assert [image.id for image in gallery.images(search="heart")] == [images[1].id]
        report = rescan(gallery)
        assert (report.added, report.moved, report.removed, report.unreadable) == (0, 0, 0, ())
        assert gallery.count() == 3 and [image.path for image in gallery.images(starred=True)] == [first_picture(old)]
        thrown_away = gallery.trashed()
        assert len(thrown_away) == gallery.trash_count() == 1 and gallery.undo(thrown_away) == thrown_away
        brought_back = gallery.get(thrown_away[0])
        assert brought_back is not None and brought_back.path.is_file()
        assert brought_back.request is not None and brought_back.request.prompt == "grinning face"
        assert gallery.thumbnail(brought_back).is_file()
    finally:
        gallery.close()


# ---- the queue -------------------------------------------------------------------------------------------------------


def waiting(home: Path) -> list[PictureRequest]:
    first = first_picture(home)
    return [
        GenerateRequest(
            "rocket, __colour__",
            "{apple|heart}",
            "tiny",
            seed=90,
            steps=7,
            guidance=4.5,
            count=2,
            sampler=SamplerName.HEUN,
            spacing=SpacingName.LOG_SNR,
            init=first,
            mask=home / "masks" / "middle.png",
            strength=0.9,
            resize=ResizeName.PAD,
            fill=FillName.SURROUNDINGS,
            feather=2,
            guide_last_call=True,
        ),
        UpscaleRequest(
            first,
            2.0,
            checkpoint="tiny",
            prompt="red apple",
            negative="blue",
            strength=0.5,
            steps=9,
            seed=77,
            sampler=SamplerName.UNIPC,
            spacing=SpacingName.EXPONENTIAL,
            guidance=3.5,
            enlarge_guidance=2.0,
            guide_last_call=True,
        ),
    ]


def test_what_waits_is_made_as_it_would_have_been(old: Path) -> None:
    queue, settings = Queue(paths.data() / "queue.sqlite"), load_settings()
    pending = queue.pending()
    assert [one.request for one in pending] == waiting(old) and [(one.done, one.attempts) for one in pending] == [
        (0, 0)
    ] * 2
    events: list[Event] = []
    changed = threading.Condition()

    def hear(event: Event) -> None:
        with changed:
            events.append(event)
            changed.notify_all()

    gallery = Gallery(settings.images, paths.data() / "gallery.sqlite")
    worker = Worker(queue, Library(settings.folders), gallery, settings, hear)
    try:
        worker.start()
        with changed:
            assert changed.wait_for(lambda: sum(isinstance(event, ENDINGS) for event in events) == 2, 60), events
    finally:
        worker.close()
        gallery.close()
    assert [event.job for event in events if isinstance(event, Finished)] == [one.job for one in pending], events
    made = [event.path for event in events if isinstance(event, ImageSaved)]
    for path, name in zip(made, ("waiting 1 1.png", "waiting 1 2.png", "waiting 2.png"), strict=True):
        assert same(pixels(path), pixels(old / "asked for" / name)), name
    again = Queue(paths.data() / "queue.sqlite")
    assert again.pending() == [] and again.submit(GenerateRequest()) > pending[-1].job
    again.close()


# ---- pictures --------------------------------------------------------------------------------------------------------


def asked(path: Path, home: Path) -> PictureRequest:
    """The whole request that a picture says it was made by, its files where they are now."""
    settings = metadata.read(path)
    assert settings.source == "diffstudio" and settings.environment["version"] == "0.1.0"
    assert (
        settings.asked is not None
        and settings.asked.guide_last_call is True
        and settings.request.guide_last_call is True
    )
    request = settings.asked
    if isinstance(request, UpscaleRequest):
        return replace(request, source=here(request.source, home) or Path())
    return replace(request, init=here(request.init, home), mask=here(request.mask, home))


def drawn(request: PictureRequest, home: Path, folder: str) -> list[np.ndarray[Any, Any]]:
    settings = load_settings()
    output = Namespace(out=str(home / folder / "{number}.png"), force=False)
    assert run_request(request, output, Library(settings.folders), settings) == 0
    return [pixels(home / folder / f"{number + 1}.png") for number in range(request.count)]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_comes_back(old: Path, name: str) -> None:
    request = asked(old / name, old)
    index = json.loads(Image.open(old / name).text["diffstudio"])["image"]["index"]  # type: ignore[attr-defined]
    assert same(drawn(request, old, "again")[index], pixels(old / name))


def test_by_the_rule_of_today_it_would_be_another(old: Path) -> None:
    plain = old / "asked for" / "plain.png"
    request = replace(asked(plain, old), guide_last_call=None)
    assert not same(drawn(request, old, "today")[0], pixels(plain))
    unguided = old / "asked for" / "unguided.png"
    request = replace(asked(unguided, old), guide_last_call=None)
    assert same(drawn(request, old, "unguided")[0], pixels(unguided))


@pytest.mark.parametrize("name", PICTURES)
def test_what_other_programs_read_says_the_same(name: str) -> None:
    with Image.open(DATA / name) as picture:
        text: str = picture.text["parameters"]  # type: ignore[attr-defined]
    ours, restored = (
        metadata.read(DATA / name).request,
        metadata.request_from_parameters(text) if "Steps: " in text else None,
    )
    assert text.endswith("Version: diffstudio 0.1.0") or "Postprocess upscaler: Lanczos" in text
    if isinstance(ours, GenerateRequest) and isinstance(restored, GenerateRequest):
        assert (restored.seed, restored.steps, restored.sampler, restored.spacing, restored.guidance) == (
            ours.seed,
            ours.steps,
            ours.sampler,
            ours.spacing,
            ours.guidance,
        )


# ---- the run ---------------------------------------------------------------------------------------------------------


def test_the_run_is_found_as_it_was_left(old: Path) -> None:
    (summary,) = Runs(paths.runs()).list()
    assert (summary.name, summary.status, summary.step, summary.steps) == ("dots", Status.STOPPED, 8, 12)
    assert summary.verdict.startswith("Stopped at step 8") and summary.image_folder == old / "dots"
    assert summary.held_out is not None and summary.pid is None and summary.checkpoint == summary.run.latest_checkpoint
    recipe = summary.run.recipe()
    assert (recipe.name, recipe.description) == ("little dots", "Six pictures of dots, 16 px.")
    assert (recipe.run.steps, recipe.run.seed) == (12, 21)
    assert recipe.network == NetworkRecipe(
        patch=8, margin=0, bottleneck=4, width=8, depth=1, heads=2, condition_width=8, vocabulary=300, text_tokens=4
    )
    assert (recipe.optimiser.name, recipe.optimiser.betas, recipe.data.background) == (
        OptimiserName.ADAMW,
        (0.9, 0.95),
        "#f0f0f0",
    )
    assert recipe.run.prompts == ("red dots", "blue dots")
    events, offset = summary.run.events()
    assert offset == (summary.run.path / "events.jsonl").stat().st_size
    assert sum(isinstance(event, RunStarted) for event in events) == 1 and isinstance(events[-1], RunStopped)
    history = RunHistory()
    history.take(events)
    seen = history.view()
    assert list(seen.steps) == list(range(1, 9)) and seen.last is not None and summary.loss == seen.last.loss
    assert [sheet.step for sheet in seen.samples] == [4, 8] and list(seen.held_out_steps) == [4, 8]
    for sheet in seen.samples:
        for name in (sheet.ema, sheet.raw):
            assert pixels(summary.run.path / name).shape[:2] == (sheet.rows * sheet.size, sheet.columns * sheet.size)


def test_the_run_goes_on(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder.open(paths.runs() / "dots")
    before, _ = run.events()
    assert cli.main(["train", "--resume", "--run", str(run.path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{run.latest_checkpoint}\n" and "step 12 of 12" in captured.err
    events, _ = run.events()
    assert events[: len(before)] == before
    started = next(event for event in events[len(before) :] if isinstance(event, RunStarted))
    assert (started.step, started.steps, started.images + started.held_out) == (8, 12, 6)
    assert isinstance(events[-1], RunFinished) and events[-1].step == 12
    (summary,) = Runs(paths.runs()).list()
    assert (summary.status, summary.step) == (Status.FINISHED, 12)
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == [
        "00000004.safetensors",
        "00000008.safetensors",
        "00000012.safetensors",
        "latest.safetensors",
    ]
    out = old / "new.png"
    assert cli.main(["generate", "red dots", "--checkpoint", "dots", "--steps", "3", "--out", str(out)]) == 0
    assert pixels(out).shape == (16, 16, 3) and not np.array_equal(
        pixels(out), pixels(old / "asked for" / "by the run.png")
    )
