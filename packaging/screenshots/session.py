"""What all screenshots have in common: the window, its images, and waiting for them."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from screenshots import files
from screenshots.files import ROOT, Shots, Trouble

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from diffstudio.studio.gallery.gallery import GalleryImage
    from diffstudio.ui.app import Desktop

PATIENCE_SECONDS = 900  # for one thing to happen, on a busy machine too
SETTLING_SECONDS = 0.3  # for delayed requests, as after typing
QUIET_LOOKS = 4  # in a row, without work in threads: between them the window's loop goes on, and may start some
PROMPTS = ROOT / "packaging" / "starter" / "prompts.txt"  # what the starter generates for the gallery and the training
QUICK_STEPS = 8  # of the images with --check: fitted to the starter, and their quality does not matter
STARRED = ("robot", "panda", "strawberry")


class Session:
    """Drives the window. `take_NAME` saves NAME.png for the manual; `check_NAME` is not in it."""

    def __init__(self, desktop: Desktop, home: Path, shots: Shots) -> None:
        self.desktop, self.home, self.shots = desktop, home, shots
        self.window, self.room = desktop.window, desktop.generate_room
        self.panel = desktop.generate_room.panel

    async def take(self, names: Sequence[str]) -> None:
        await until(lambda: self.panel.checkpoint.current() and self.desktop.gallery, "the starter was found")
        await self.generate_all()
        for name in names:
            method: Callable[[], Awaitable[None]] = getattr(self, f"take_{name}", None) or getattr(
                self, f"check_{name}"
            )
            await method()

    async def generate_all(self) -> None:
        """The images that the other screenshots show and train on."""
        gallery = self.desktop.gallery
        assert gallery is not None
        await self.idle()  # a kept home may have jobs left
        if self.shots.is_check:
            self.panel.sampling.steps.set_value(QUICK_STEPS)
        for seed, prompt in enumerate(prompts()):
            if not self.images_of(prompt):
                self.submit(prompt, seed)
        await self.idle()
        for prompt in STARRED:
            gallery.star(self.image_of(prompt).id)

    def submit(self, prompt: str, seed: int, count: int = 1) -> None:
        self.panel.prompt.set_text(prompt)
        self.panel.seed.set_fixed(seed)
        self.panel.count.set_value(count)
        self.panel.submit()
        self.panel.count.set_value(1)

    async def idle(self) -> None:
        """Wait until the queue is empty."""
        worker = self.desktop.worker
        assert worker is not None
        await until(lambda: not worker.pending() and worker.running() is None, "the queue was empty")
        if self.room.banner.isVisible():
            raise Trouble(f"The window says: {self.room.banner.text()}")

    async def save(self, widget: QWidget, name: str, *, at_once: bool = False) -> None:
        """Save what is shown in each theme, when it is complete, or `at_once` what changes all the time."""
        from PySide6.QtWidgets import QApplication

        from diffstudio.ui.widgets import theme

        app = QApplication.instance()
        assert isinstance(app, QApplication)
        if widget.window() is not self.window:
            widget.window().move(0, 0)  # no window manager keeps it on the screen
        for each, path in self.shots.paths(name).items():
            if each != theme.name():
                theme.apply(app, each)
                await asyncio.sleep(0.5)  # until it is on the display
            if not at_once:
                await settled(widget)
            files.save(widget, path)
        theme.apply(app, self.shots.themes[0])

    async def show_generate(self) -> None:
        """The Generate room with its default settings."""
        from diffstudio.studio.requests import GenerateRequest
        from diffstudio.ui.generate.loading import load_request

        await self.idle()
        self.window.show_room("Generate")
        checkpoint = self.panel.checkpoint.current()
        assert checkpoint is not None
        load_request(self.panel, replace(GenerateRequest(), checkpoint=checkpoint.name))

    def image_of(self, prompt: str) -> GalleryImage:
        """The first image of the gallery with this prompt alone."""
        return self.images_of(prompt)[-1]

    def images_of(self, prompt: str) -> list[GalleryImage]:
        """Those with this prompt alone, the newest first."""
        assert self.desktop.gallery is not None
        found = self.desktop.gallery.images(0, 100, prompt)
        return [image for image in found if image.request is not None and image.request.prompt == prompt]

    def training_folder(self) -> Path:
        """Images of the gallery with their prompts as captions."""
        assert self.desktop.gallery is not None
        folder = self.home / "emoji"
        folder.mkdir(exist_ok=True)
        for prompt in prompts():
            copy = folder / f"{prompt.replace(' ', '-')}.png"
            shutil.copyfile(self.image_of(prompt).path, copy)
            copy.with_suffix(".txt").write_text(prompt, encoding="utf-8")
        return folder

    async def trained(self, name: str, folder: Path, values: Mapping[str, Any]) -> Path:
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


async def settled(widget: QWidget) -> None:
    """Wait until what is shown is complete: everything was painted, and nothing more is read for it."""
    from diffstudio.ui.tasks import any_in_threads

    looks = 0

    def is_complete() -> bool:
        nonlocal looks
        widget.grab()  # paints all of it: what is read when it is painted, such as thumbnails, is asked for now
        looks = 0 if any_in_threads() else looks + 1
        return looks == QUIET_LOOKS

    await asyncio.sleep(SETTLING_SECONDS)
    await until(is_complete, "all that is shown was read", every=0.05)
    widget.window().repaint()  # and reaches the display


async def until(condition: Callable[[], object], what: str, every: float = 0.2) -> None:
    """Wait for a condition, looking every so many seconds."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > give_up_at:
            raise Trouble(f"Waited {PATIENCE_SECONDS} s in vain until {what}.")
        await asyncio.sleep(every)


def prompts() -> list[str]:
    return PROMPTS.read_text(encoding="utf-8").splitlines()
