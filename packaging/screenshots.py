#!/usr/bin/env python3
"""Remakes the screenshots in resources/manual/images from the program itself:

    python packaging/screenshots.py                      all of them, in a few minutes on two cores
    python packaging/screenshots.py train mask           only these
    python packaging/screenshots.py --home FOLDER mask   keep the home folder, so that a second call finds its images
    python packaging/screenshots.py --check FOLDER       into FOLDER, to be looked at: on a small screen, at 100 % and
                                                         150 %, in both themes
    python packaging/screenshots.py --check FOLDER --screen 1920x1080    on a large one, at 100 % and 125 %

The real window opens in an X display (Xvfb when DISPLAY is not set) with a home folder that this script fills by using
the program: the starter generates the images, a short run trains on some of them, and the other models are safetensors
headers without weights. Needs `.venv` (made by `packaging/bootstrap.py test`) and Xvfb.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootstrap import NO_DISPLAY, virtual_display

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "resources" / "manual" / "images"
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
WINDOW = 1440, 900  # px
SCREENS = {"1366x768": ("1", "1.5"), "1920x1080": ("1", "1.25")}  # px, and the values of QT_SCALE_FACTOR on it
THEMES = "dark", "light"
BITS = 6  # of each colour channel that the PNGs keep: two thirds of the size, and no difference to see
PATIENCE_SECONDS = 900  # for one thing to happen, on a busy machine too

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from diffstudio.studio.gallery.gallery import GalleryImage
    from diffstudio.ui.app import Desktop

PROMPTS = ROOT / "packaging" / "starter" / "prompts.txt"  # what the starter generates for the gallery and the training
QUICK_STEPS = 8  # of the images with --check: fitted to the starter, and their quality does not matter
HALF_WAY = 14  # steps: more than any earlier image has in all
STARRED = ("robot", "panda", "strawberry")
RECIPE = {
    "format": 1,
    "name": "Tiny: first shapes in minutes",
    "data": {"size": 32, "held_out": 0.2},
    "network": {
        "patch": 4,
        "margin": 2,
        "bottleneck": 48,
        "width": 160,
        "depth": 4,
        "heads": 4,
        "condition_width": 160,
    },
    "optimiser": {"warm_up_steps": 20, "ema": 0.95},
    "run": {
        "steps": 240,
        "batch": 16,
        "dtype": "float32",
        "sample_every": 40,
        "checkpoint_every": 120,
        "held_out_every": 20,
    },
}

VAE_RECIPE = {
    "format": 1,
    "name": "VAE of drawn shapes",
    "data": {"size": 16, "held_out": 0.05},
    "network": {
        "patch": 4,
        "width": 16,
        "depth": 1,
        "condition_width": 128,
        "latent": 4,
        "prior_width": 96,
        "prior_depth": 2,
    },
    "objective": {"kind": "vae"},
    "optimiser": {
        "name": "adamw",
        "learning_rate": 0.002,
        "weight_decay": 0.0,
        "betas": [0.9, 0.99],
        "warm_up_steps": 20,
        "ema": 0.98,
    },
    "run": {"steps": 3600, "batch": 16, "dtype": "float32", "checkpoint_every": 1200, "held_out_every": 600},
}

CLASSES_RECIPE = {
    "format": 1,
    "name": "Circles and squares",
    "data": {"size": 16},
    "network": {
        "conditioning": "class",
        "patch": 4,
        "margin": 2,
        "bottleneck": 32,
        "width": 64,
        "depth": 3,
        "heads": 2,
        "condition_width": 64,
    },
    "optimiser": {"warm_up_steps": 50, "ema": 0.99},
    "run": {"steps": 1500, "batch": 32, "dtype": "float32", "checkpoint_every": 500, "held_out_every": 250},
}


class Trouble(Exception):
    """What is missing or went wrong, in a sentence."""


def main(arguments: Sequence[str]) -> int:
    prefixes = ("take_", "check_") if "--check" in arguments else ("take_",)
    shots = [name.partition("_")[2] for name in vars(Session) if name.startswith(prefixes)]
    parser = argparse.ArgumentParser(description="Remakes the screenshots of the manual.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(shots)}")
    parser.add_argument("--home", type=Path, help="keep the home folder here and use what it holds")
    parser.add_argument(
        "--check", type=Path, metavar="FOLDER", help="take them here, at each scale of the screen, in THEMES"
    )
    parser.add_argument("--screen", choices=SCREENS, default=next(iter(SCREENS)), help="with --check: its size in px")
    parser.add_argument("--scale", help="with --check: at this scale only")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in shots]:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(shots)}")
    screen = tuple(int(side) for side in options.screen.split("x"))
    try:
        use_environment(arguments)
        with (
            tempfile.TemporaryDirectory(prefix="diffstudio-", ignore_cleanup_errors=True) as temporary,
            display(*(screen if options.check else WINDOW)),
        ):
            home = options.home.resolve() if options.home else Path(temporary)
            home.mkdir(parents=True, exist_ok=True)
            os.environ |= {"HOME": str(home), "DIFFSTUDIO_HOME": str(home), "QT_QPA_PLATFORM": "xcb"}
            if options.check and not options.scale:  # Qt reads the scale when a process starts
                for scale in SCREENS[options.screen]:
                    command = [sys.executable, __file__, *arguments, "--home", str(home), "--scale", scale]
                    if subprocess.run(command, check=False).returncode:
                        return 1
            elif options.check:
                os.environ["QT_SCALE_FACTOR"] = options.scale
                width, height = (round(side / float(options.scale)) for side in screen)
                shots_of = Shots(options.check.resolve(), f"-{options.screen}-{options.scale}", THEMES)
                run_window(home, (width, height), options.names or shots, shots_of)
            else:
                run_window(home, WINDOW, options.names or shots, Shots(IMAGES))
    except Trouble as trouble:
        print(f"screenshots: {trouble}", file=sys.stderr)
        return 1
    return 0


def use_environment(arguments: Sequence[str]) -> None:
    """Continue in `.venv` if this Python lacks the packages, and import diffstudio from this checkout."""
    if importlib.util.find_spec("PySide6") is None:
        if not VENV_PYTHON.exists() or Path(sys.prefix) == VENV_PYTHON.parent.parent:
            raise Trouble("Run `python3 packaging/bootstrap.py test` first: it installs what this needs.")
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), __file__, *arguments])
    if not os.environ.get("DISPLAY") and shutil.which("Xvfb") is None:
        raise Trouble("Xvfb is missing. Install it: `sudo apt-get install xvfb`.")
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = str(ROOT)  # of the training run's process
    for scale in ("QT_SCALE_FACTOR", "QT_SCREEN_SCALE_FACTORS"):
        os.environ.pop(scale, None)


@contextmanager
def display(width: int, height: int) -> Iterator[None]:
    """An X display of this size, unless there is one."""
    if os.environ.get("DISPLAY"):
        yield
        return
    with virtual_display(width, height) as started:
        if not started:
            raise Trouble(NO_DISPLAY)
        os.environ["DISPLAY"] = started
        yield


@dataclass(frozen=True, slots=True)
class Shots:
    """Where screenshots go, what is added to their names, and the themes that they are taken in."""

    folder: Path
    suffix: str = ""
    themes: tuple[str, ...] = ("dark",)

    @property
    def is_check(self) -> bool:
        """Whether they are only to be looked at, not for the manual."""
        return len(self.themes) > 1

    def paths(self, name: str) -> dict[str, Path]:
        """The file of a screenshot for each theme."""
        return {
            theme: self.folder / f"{name}{self.suffix}{f'-{theme}' if self.is_check else ''}.png"
            for theme in self.themes
        }


def run_window(home: Path, size: tuple[int, int], names: Sequence[str], shots: Shots) -> None:
    """Open the window as `diffstudio.ui.app.main` does, and take the screenshots while its event loop runs."""
    import qasync

    from diffstudio.studio.settings import Settings
    from diffstudio.ui.app import Desktop
    from diffstudio.ui.shell import desktop_environment
    from diffstudio.ui.widgets import icons, theme

    if not (home / "models" / "loras").exists():
        write_models(home / "models")
    app = desktop_environment.application([])
    icons.load_fonts()
    theme.apply(app, "dark")
    loop = qasync.QEventLoop(app)
    desktop = Desktop(Settings())
    desktop.window.setGeometry(0, 0, *size)
    desktop.window.show()
    app.aboutToQuit.connect(desktop.close)  # while the loop runs: the window's tasks end in it
    session = loop.create_task(Session(desktop, home, shots).take(names))
    session.add_done_callback(lambda _: app.quit())
    try:
        loop.run_forever()
    finally:
        desktop.close()
        loop.close()
    session.result()  # raises what went wrong


async def until(condition: Callable[[], object], what: str, every: float = 0.2) -> None:
    """Wait for a condition, looking every so many seconds."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > give_up_at:
            raise Trouble(f"Waited {PATIENCE_SECONDS} s in vain until {what}.")
        await asyncio.sleep(every)


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


class Session:
    """Drives the window to each state. Every `take_NAME` saves NAME.png; `check_NAME` is not in the manual."""

    def __init__(self, desktop: Desktop, home: Path, shots: Shots) -> None:
        self.desktop, self.home, self.shots = desktop, home, shots
        self.window, self.room = desktop.window, desktop.generate_room
        self.panel = desktop.generate_room.panel

    async def take(self, names: Sequence[str]) -> None:
        await until(lambda: self.panel.checkpoint.current() and self.desktop.gallery, "the starter was found")
        await self._generate_all()
        for name in names:
            method: Callable[[], Awaitable[None]] = getattr(self, f"take_{name}", None) or getattr(
                self, f"check_{name}"
            )
            await method()

    # The screenshots

    async def take_gallery(self) -> None:
        room: Any = self.window.show_room("Gallery")
        await until(lambda: room.model.rowCount() > 0 and not room.busy(), "the gallery was read")
        room.grid.setCurrentIndex(room.model.index(5))
        rows = [room.model.image(room.model.index(row)) for row in range(min(40, room.model.rowCount()))]
        await until(lambda: all(room.model.thumbnail(image) for image in rows), "the thumbnails were read")
        await self._save(self.window, "gallery")

    async def take_models(self) -> None:
        from diffstudio.studio.library.annotations import Annotation

        room: Any = self.window.show_room("Models")
        lora = self.home / "models" / "loras" / "inkwash.safetensors"
        await until(lambda: room.choose(lora), "the models were scanned")
        room.details.notes.changed.emit(
            Annotation(
                "0.6 is enough with watercolour-15. Leave “monochrome” out for colour.", ("paper", "brush"), True
            )
        )
        await until(lambda: any(name == "SHA-256" for name, _ in room.details.model_table.facts()), "it was hashed")
        await until(lambda: room.details.trigger_words.words(), "its trigger words were read")
        await asyncio.sleep(1.0)  # for the previews of the other models
        await self._save(self.window, "models")

    async def take_generate(self) -> None:
        """An image half-way through its steps, and two waiting jobs."""
        await self._show_generate()
        steps = self.panel.sampling.steps
        usual = steps.value()
        steps.set_value(2 * HALF_WAY)
        for prompt, seed, count in (("grinning face", 3, 1), ("sailboat", 8, 4), ("cactus", 5, 1)):
            self._submit(prompt, seed, count)
        self.panel.prompt.set_text("grinning face")
        self.panel.seed.set_fixed(3)
        self.panel.seed.random.setChecked(True)
        await until(lambda: self.room.filmstrip.last_step() == HALF_WAY, "half of the steps were made", every=0.01)
        await self._save(self.window, "generate", pause=0)
        steps.set_value(usual)

    async def take_mask(self) -> None:
        """The mask dialog: a painted area, and the canvas extended to the right."""
        dialog = await self._open_mask_dialog()
        dialog.editor.set_sides((0, 0, 16, 0))
        dialog.editor.extended.emit()
        await self._save(dialog, "mask")
        dialog.reject()

    async def take_inpaint(self) -> None:
        """The result of inpainting the painted area."""
        dialog = await self._open_mask_dialog()
        dialog.accept_button.click()
        section = self.panel.init_image
        section.masked_only.setChecked(True)
        section.feather.set_value(4)
        self._submit("purple heart", 4)
        await self._idle()
        await self._save(self.window, "inpaint")

    async def take_hires_fix(self) -> None:
        """An image that hires fix has made four times as large."""
        await self._show_generate()
        self.panel.hires_fix.open_button.click()
        self.panel.hires_fix.scale.chip(4.0).click()
        self._submit("grinning face", 1)
        await self._idle()
        self.panel.hires_fix.opened.emit()  # scroll to its settings
        await self._save(self.window, "hires_fix")

    async def check_guidance(self) -> None:
        """The guidance settings with all of their controls, and the diversity of a batch."""
        await self._show_generate()
        guidance = self.panel.guidance
        guidance.open_button.click()
        guidance.interval.setChecked(True)
        guidance.cads.set_value(0.15)
        guidance.cads.value_changed.emit(0.15)
        self._submit("grinning face", 1, count=4)
        await self._idle()
        await until(self.room.diversity.isVisible, "the diversity of the batch was shown")
        guidance.opened.emit()  # scroll to its settings
        await self._save(self.window, "guidance")

    async def take_train(self) -> None:
        """A run after three quarters of its steps; the one of an earlier call, where its home was kept."""
        import tomli_w

        from diffstudio.studio.requests import TrainRequest

        folder = self._training_folder()
        recipe = self.home / "screenshots.toml"
        recipe.write_text(tomli_w.dumps(RECIPE), encoding="utf-8")
        room: Any = self.window.show_room("Train")
        runs = self.desktop.runs
        assert runs is not None
        earlier = [summary.run for summary in runs.list()]
        run = earlier[0] if earlier else runs.start(TrainRequest(folder=folder, recipe=str(recipe)), name="emoji")
        room.refresh()
        await until(lambda: any(card == run.path for card in room.runs_list.cards()), "the run was listed")
        room.select(run.path)
        first = 1 if earlier else 90 if self.shots.is_check else 180
        await until(lambda: room.summary() and room.summary().step >= first, f"the run had made {first} steps")
        await self._save(self.window, "train", pause=1)
        if not earlier:
            runs.stop(run)

    async def take_lab(self) -> None:
        """The result of an evaluation of drawn shapes: some as varied as the real ones, others of two colours alone."""
        real, varied, collapsed = (self.home / name for name in ("shapes", "varied", "collapsed"))
        for folder, count, seed, colours in ((real, 220, 0, 12), (varied, 100, 1000, 12), (collapsed, 100, 2000, 2)):
            draw_shapes(folder, count, seed, colours)
        room: Any = self.window.show_room("Lab")
        form_view = room.show_form("evaluate")
        form_view.form.fill([str(varied), str(collapsed), str(real), "--features", "imagenet"])

        def evaluations() -> list[Path]:
            return [path for path in room.jobs_list.cards() if room.summary(path).request.verb == "evaluate"]

        if not evaluations():
            form_view.start.click()
        await until(evaluations, "the evaluation was listed")
        room.select(evaluations()[0])
        await until(lambda: room.job_view.result_view() is not None, "the evaluation had its result")
        await self._save(self.window, "lab", pause=1)

    async def take_noise_schedule(self) -> None:
        """A noise schedule that is being drawn, with the image of the starter."""
        from diffstudio.studio.curves.curve import NoiseCurve

        room: Any = self.window.show_room("Lab")
        view = room.show_interactive("noise-schedule")
        await until(lambda: view.controls.checkpoint(), "the starter was offered")
        view.canvas.set_curve(NoiseCurve.from_pairs((0, 9, 0.15, 4, 0.4, 1, 0.7, -1.5, 0.9, -5, 1, -12)))
        view.canvas.choose(2)
        await until(lambda: len(view.images.thumbnails()) > 1 and not view.answers.busy, "the images were drawn")
        await self._save(self.window, "noise_schedule", pause=1)

    async def take_forward(self) -> None:
        """Noise on the first image of the starter's sheet."""
        room: Any = self.window.show_room("Lab")
        room.show_interactive("forward-process")
        await self._save(self.window, "forward", pause=1)

    async def take_restore(self) -> None:
        """An image of the starter's sheet with noise that was added to it."""
        noisy = self.home / "noisy.png"
        add_noise(ROOT / "resources" / "starter" / "sheet.png", noisy)
        await self._job("restore", ["starter", str(noisy), "--share", "0.3"])
        await self._save(self.window, "restore", pause=1)

    async def take_reverse(self) -> None:
        """The film of an image, in the middle."""
        room = await self._job("reverse", ["starter", "--prompt=red apple", "--seed", "3", "--guidance", "1"])
        film = room.job_view.result_view().film
        film.slider.setValue(4)
        await self._save(self.window, "reverse", pause=1)

    async def _job(self, verb: str, arguments: list[str]) -> Any:
        """The Lab with the result of a new job."""
        room: Any = self.window.show_room("Lab")
        form_view = room.show_form(verb)
        form_view.form.fill(arguments)
        form_view.start.click()
        await until(room.selected, "the job was started")
        await until(lambda: room.summary() and room.summary().result, "the job had its result")
        await until(lambda: room.job_view.result_view() is not None, "its result was read")
        return room

    async def take_map(self) -> None:
        """A map of drawn shapes and of others in two colours alone, with the image under the mouse."""
        real, collapsed = self.home / "shapes", self.home / "collapsed"
        for folder, count, seed, colours in ((real, 220, 0, 12), (collapsed, 100, 2000, 2)):
            draw_shapes(folder, count, seed, colours)
        room: Any = self.window.show_room("Lab")
        form_view = room.show_form("map")
        form_view.form.fill([str(collapsed), str(real)])

        def maps() -> list[Path]:
            return [path for path in room.jobs_list.cards() if room.summary(path).request.verb == "map"]

        if not maps():
            form_view.start.click()
        await until(maps, "the map was listed")
        room.select(maps()[0])
        await until(lambda: room.job_view.result_view() is not None, "the map had its result")
        canvas = room.job_view.result_view().canvas
        canvas.choose(40)
        canvas.hovered = 250  # as under the mouse
        canvas.update()
        await self._save(self.window, "map", pause=1.5)

    async def take_attention(self) -> None:
        """The words of a prompt on the starter, the first of them shown."""
        room = await self._job("attention", ["starter", "red heart", "--seed", "1"])
        room.job_view.result_view().maps.words.chip(0).click()
        self.window.setFocus()
        await self._save(self.window, "attention", pause=1)

    async def take_representations(self) -> None:
        """What the starter sees of drawn shapes: circles and squares apart, each in any colour, size and place."""
        folder = self.home / "classes"
        draw_classes(folder, 300)
        await self._job("features", ["starter", str(folder)])
        await self._save(self.window, "representations", pause=1)

    async def take_anomalies(self) -> None:
        """The most anomalous of drawn shapes, a few of which have a scratch."""
        normal, searched = self.home / "shapes", self.home / "inspection"
        draw_shapes(normal, 220, 0, 12)
        draw_shapes(searched, 30, 5000, 12)
        scratch(sorted(searched.iterdir())[:6])
        room = await self._job("anomalies", [str(normal), str(searched)])
        room.job_view.result_view().setFocus()
        await self._save(self.window, "anomalies", pause=2)

    async def take_comparison(self) -> None:
        """Three models of drawn circles and squares, after a minute each."""
        folder = self.home / "compared"
        draw_classes(folder, 480)
        await self._job_once("compare", [str(folder), "--minutes", "1", "--seeds", "1", "--features", "imagenet"])
        await self._save(self.window, "comparison", pause=2)

    async def take_synthetic(self) -> None:
        """What classifiers of circles and squares learn from real and generated ones."""
        folder = self.home / "compared"
        draw_classes(folder, 480)
        checkpoint = await self._trained("circles and squares", folder, CLASSES_RECIPE)
        await self._job_once("synthesise", [str(checkpoint), "480", str(folder), "--prove"])
        await self._save(self.window, "synthetic", pause=2)

    async def _job_once(self, verb: str, arguments: list[str]) -> None:
        """Show the result of a job; that of an earlier call, where its home was kept."""
        room: Any = self.window.show_room("Lab")

        def jobs() -> list[Path]:
            return [path for path in room.jobs_list.cards() if room.summary(path).request.verb == verb]

        if not jobs():
            await self._job(verb, arguments)
        room.select(jobs()[0])
        await until(lambda: room.job_view.result_view() is not None, "the job had its result")

    async def take_likelihood(self) -> None:
        """The bits per dimension of drawn shapes under a VAE that has learnt some of them by heart."""
        shapes = self.home / "shapes"
        checkpoint = await self._shapes_vae(shapes)
        await self._job_once("likelihood", [str(checkpoint), str(shapes)])
        await self._save(self.window, "likelihood", pause=1)

    async def _shapes_vae(self, shapes: Path) -> Path:
        """A checkpoint of a VAE of drawn shapes."""
        draw_shapes(shapes, 220, 0, 12)
        return await self._trained("shapes VAE", shapes, VAE_RECIPE)

    async def _trained(self, name: str, folder: Path, values: Mapping[str, Any]) -> Path:
        """The checkpoint of a run of this name, which is trained unless an earlier call did it."""
        import tomli_w

        from diffstudio.studio.requests import TrainRequest

        recipe = self.home / f"{name}.toml"
        recipe.write_text(tomli_w.dumps(values), encoding="utf-8")
        runs = self.desktop.runs
        assert runs is not None
        if name not in (summary.name for summary in runs.list()):
            runs.start(TrainRequest(folder=folder, recipe=str(recipe)), name=name)

        def trained() -> list[Path]:
            return [each.checkpoint for each in runs.list() if each.name == name and each.verdict and each.checkpoint]

        await until(trained, f"the run {name} ended")
        return trained()[0]

    async def take_latent_space(self) -> None:
        """The reconstruction of a drawn shape by a VAE, moved in a direction, and its way to another shape."""
        shapes = self.home / "shapes"
        await self._shapes_vae(shapes)
        room: Any = self.window.show_room("Lab")
        view = room.show_interactive("latent-space")
        await until(view.model.value, "the VAE was offered")
        view.first.set_image(shapes / "007.png")
        view.last.set_image(shapes / "003.png")
        await until(lambda: view.directions.isVisible() and not view.answers.busy, "the image was encoded")
        view.directions.slider(0).set_value(1.0)
        view.directions.changed.emit()
        await until(lambda: len(view.points.thumbnails()) == 3 and not view.answers.busy, "the image was moved")
        self.window.setFocus()
        await self._save(self.window, "latent_space", pause=1.5)

    async def check_lab_form(self) -> None:
        """The form of an evaluation."""
        room: Any = self.window.show_room("Lab")
        room.show_form("evaluate")
        await self._save(self.window, "lab_form")

    async def check_folder(self) -> None:
        """A folder that was inspected, and the form for a run."""
        room: Any = self.window.show_room("Train")
        room.inspect(self._training_folder())
        await until(lambda: room.new_panel.run_settings() is not None, "the folder was inspected")
        await self._save(self.window, "folder", pause=1)

    async def check_captions(self) -> None:
        """The captions of that folder, one of them open."""
        from diffstudio.ui.train.folder.folder_view import CAPTIONS

        room: Any = self.window.show_room("Train")
        if room.new_panel.run_settings() is None or room.selected() is not None:
            room.inspect(self._training_folder())
            await until(lambda: room.new_panel.run_settings() is not None, "the folder was inspected")
        view = room.folder_view.report_view
        view.pages.chip(CAPTIONS).click()
        view.captions.list.setCurrentIndex(view.captions.model.index(2))
        await self._save(self.window, "captions", pause=1.5)

    async def check_recipe(self) -> None:
        """All settings of the recipe for that folder."""
        room: Any = self.window.show_room("Train")
        room.inspect(self._training_folder())
        await until(lambda: room.new_panel.run_settings() is not None, "the folder was inspected")
        dialog = room.new_panel.open_all_settings()
        await self._save(dialog, "recipe")
        dialog.reject()

    async def check_wall(self) -> None:
        """The samples of all steps of the run of `take_train`."""
        room: Any = self.window.show_room("Train")
        assert self.desktop.runs is not None
        room.select(self.desktop.runs.list()[0].run.path)
        samples = room.run_view.samples
        await until(lambda: samples.all_steps.isVisible(), "the run had two sheets of samples")
        samples.all_steps.setChecked(True)
        await self._save(self.window, "wall", pause=1.5)
        samples.all_steps.setChecked(False)

    async def check_compare(self) -> None:
        """Two images of the gallery."""
        room: Any = self.window.show_room("Gallery")
        room.compare([self._image_of(prompt).path for prompt in STARRED[:2]])
        await until(room.is_comparing, "the images were read")
        await self._save(self.window, "compare")

    async def check_upscale(self) -> None:
        from diffstudio.ui.generate.upscale_dialog import UpscaleDialog

        self.desktop.images.upscale(self._image_of(STARRED[0]).path)
        await until(lambda: self.window.findChild(UpscaleDialog), "the dialog opened")
        dialog: Any = self.window.findChild(UpscaleDialog)
        await self._save(dialog, "upscale")
        dialog.reject()

    async def check_settings(self) -> None:
        from diffstudio.ui.settings_dialog import SettingsDialog

        self.desktop.preferences.open_dialog()
        dialog: Any = self.window.findChild(SettingsDialog)
        await self._save(dialog, "settings")
        dialog.close()

    async def check_trash(self) -> None:
        """The trash with an image in it."""
        room: Any = self.window.show_room("Gallery")
        await until(lambda: room.model.rowCount() > 0 and not room.busy(), "the gallery was read")
        room.grid.setCurrentIndex(room.model.index(0))
        room.delete_chosen()
        await until(room.top_bar.trash.isVisible, "the image was in the trash")
        room.show_trash()
        await until(lambda: room.trash_bar.isVisible() and not room.busy() and room.model.rowCount(), "it was shown")
        room.grid.setCurrentIndex(room.model.index(0))
        await self._save(self.window, "trash", pause=1.5)
        room.leave_trash()

    # How to get there

    async def _generate_all(self) -> None:
        """The images that the other screenshots show and train on."""
        gallery = self.desktop.gallery
        assert gallery is not None
        await self._idle()  # a kept home may have jobs left
        if self.shots.is_check:
            self.panel.sampling.steps.set_value(QUICK_STEPS)
        for seed, prompt in enumerate(prompts()):
            if not self._images_of(prompt):
                self._submit(prompt, seed)
        await self._idle()
        for prompt in STARRED:
            gallery.star(self._image_of(prompt).id)

    def _submit(self, prompt: str, seed: int, count: int = 1) -> None:
        self.panel.prompt.set_text(prompt)
        self.panel.seed.set_fixed(seed)
        self.panel.count.set_value(count)
        self.panel.submit()
        self.panel.count.set_value(1)

    async def _idle(self) -> None:
        """Wait until the queue is empty."""
        worker = self.desktop.worker
        assert worker is not None
        await until(lambda: not worker.pending() and worker.running() is None, "the queue was empty")
        if self.room.banner.isVisible():
            raise Trouble(f"The window says: {self.room.banner.text()}")
        await asyncio.sleep(0.2)

    async def _save(self, widget: QWidget, name: str, pause: float = 0.3) -> None:
        """Save what is shown in each theme, after `pause` seconds in which the last paint reaches the display."""
        from PySide6.QtWidgets import QApplication

        from diffstudio.ui.widgets import theme

        app = QApplication.instance()
        assert isinstance(app, QApplication)
        if widget.window() is not self.window:
            widget.window().move(0, 0)  # no window manager keeps it on the screen
        for each, path in self.shots.paths(name).items():
            if each != theme.name():
                theme.apply(app, each)
                await asyncio.sleep(0.5)
            await asyncio.sleep(pause)
            save(widget, path)
        theme.apply(app, self.shots.themes[0])

    async def _show_generate(self) -> None:
        """The Generate room with its default settings."""
        from diffstudio.studio.requests import GenerateRequest
        from diffstudio.ui.generate.loading import load_request

        await self._idle()
        self.window.show_room("Generate")
        checkpoint = self.panel.checkpoint.current()
        assert checkpoint is not None
        load_request(self.panel, replace(GenerateRequest(), checkpoint=checkpoint.name))

    async def _open_mask_dialog(self) -> Any:
        """The mask dialog over the snowman, its body painted."""
        from PySide6.QtCore import QPointF

        await self._show_generate()
        self.room.start_from(self._image_of("snowman").path)
        dialog = self.panel.init_image.open_mask_editor()
        assert dialog is not None
        editor = dialog.editor
        dialog.brush.set_value(14)
        editor.set_brush(14)
        for row in range(34, 58, 4):
            reach = 17 if 40 < row < 54 else 12
            editor.begin_stroke(QPointF(32 - reach, row))
            editor.stroke_to(QPointF(32 + reach, row))
            editor.end_stroke()
        return dialog

    def _image_of(self, prompt: str) -> GalleryImage:
        """The first image of the gallery with this prompt alone."""
        return self._images_of(prompt)[-1]

    def _images_of(self, prompt: str) -> list[GalleryImage]:
        """Those with this prompt alone, the newest first."""
        assert self.desktop.gallery is not None
        found = self.desktop.gallery.images(0, 100, prompt)
        return [image for image in found if image.request is not None and image.request.prompt == prompt]

    def _training_folder(self) -> Path:
        """Images of the gallery with their prompts as captions."""
        assert self.desktop.gallery is not None
        folder = self.home / "emoji"
        folder.mkdir(exist_ok=True)
        for prompt in prompts():
            copy = folder / f"{prompt.replace(' ', '-')}.png"
            shutil.copyfile(self._image_of(prompt).path, copy)
            copy.with_suffix(".txt").write_text(prompt, encoding="utf-8")
        return folder


def add_noise(sheet: Path, target: Path) -> None:
    """The first image of a sheet of twice the size, with noise of 30 levels."""
    import numpy as np
    from PIL import Image

    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB").crop((0, 0, 128, 128)).resize((64, 64)), np.float64)
    noisy = pixels + 30 * np.random.default_rng(0).normal(size=pixels.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(target)


def save(widget: QWidget, path: Path) -> None:
    """What the display shows where the widget is."""
    from PIL import Image
    from PySide6.QtGui import QGuiApplication, QImage

    frame = widget.frameGeometry()
    shot = QGuiApplication.primaryScreen().grabWindow(0, frame.x(), frame.y(), frame.width(), frame.height()).toImage()
    shot = shot.convertToFormat(QImage.Format.Format_RGBX8888)
    pixels = Image.frombuffer(
        "RGBX", (shot.width(), shot.height()), bytes(shot.constBits()), "raw", "RGBX", shot.bytesPerLine(), 1
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels.convert("RGB").point(rounded).save(path, optimize=True)
    print(f"{path}  {shot.width()} x {shot.height()}, {path.stat().st_size / 1000:.0f} KB", flush=True)


def rounded(level: int) -> int:
    """A level of a colour channel to BITS bits; white stays white."""
    step = 1 << (8 - BITS)
    return 255 if level >= 256 - step // 2 else (level + step // 2) // step * step


def prompts() -> list[str]:
    return PROMPTS.read_text(encoding="utf-8").splitlines()


def write_models(folder: Path) -> None:
    """Model files with the headers of real ones and no weights: on the disk they are holes."""
    from tests.models import headers

    landscape(folder / "checkpoints" / "photographs-15.preview.png", ("#8fc1e8", "#3f6f73", "#12281f"))
    headers.write_header(folder / "checkpoints" / "photographs-15.safetensors", headers.whole("sd1"))
    headers.write_header(folder / "checkpoints" / "watercolour-15.safetensors", headers.whole("sd1"))
    landscape(folder / "checkpoints" / "landscapes-xl.preview.png", ("#f7c59f", "#a26769", "#2e294e"))
    headers.write_header(folder / "checkpoints" / "landscapes-xl.safetensors", headers.whole("sdxl"))
    headers.write_header(folder / "diffusion_models" / "flux1-dev-fp8.safetensors", headers.bfl_flux(), "F8_E4M3")
    headers.write_header(folder / "vae" / "mse-840000.safetensors", headers.ldm_vae(), "F32")
    headers.write_header(folder / "embeddings" / "calm-light.safetensors", {"emb_params": (4, 768)}, "F32")
    headers.write_header(folder / "controlnet" / "scribble-15.safetensors", headers.controlnet("sd1"))
    tags = {"monochrome": 40, "no humans": 38, "mountain": 31, "mist": 24, "bamboo": 17, "river": 15, "crane": 9}
    metadata = {
        "ss_tag_frequency": json.dumps({"10_inkwash": tags}),
        "ss_output_name": "inkwash",
        "ss_num_train_images": "46",
        "ss_epoch": "10",
    }
    lora = folder / "loras" / "inkwash.safetensors"
    headers.write_header(lora, headers.lora(headers.unet("sd1"), headers.kohya("lora_unet_")), metadata=metadata)
    sidecar = {
        "description": "Brush and ink on rice paper. Weights from 0.6 to 0.9 work best.",
        "activation text": "ink wash painting, sumi-e, inkwash",
        "preferred weight": 0.8,
        "sd version": "SD1",
    }
    lora.with_suffix(".json").write_text(json.dumps(sidecar), encoding="utf-8")
    landscape(folder / "loras" / "inkwash.preview.png", ("#f2efe6", "#8d8d86", "#22231f"))
    grain = headers.lora(headers.unet("sdxl"), headers.kohya("lora_unet_"))
    headers.write_header(folder / "loras" / "film-grain-xl.safetensors", grain)
    (folder / "checkpoints" / "half-downloaded.safetensors").write_bytes(bytes(4096))


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
