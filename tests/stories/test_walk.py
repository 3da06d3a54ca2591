"""A walk over every room, dialog and state, in both themes, in a small window and with large text.

Nothing is cut off, everything can be read (WCAG AA), has a name, and shows when it has the focus.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import QEvent, QSize
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.errors import CheckpointDamaged
from diffstudio.models.detection.types import Layout, Role
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.job_folder import (
    JobFailed,
    JobFinished,
    JobFolder,
    JobProgress,
    JobRequest,
    JobStarted,
)
from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.studio.evaluations.result import HOW_TO_READ
from diffstudio.studio.evaluations.views.evaluation import COLUMNS, DIVERSITY
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.jobs.queue import QueuedJob
from diffstudio.studio.library.annotations import Annotation, Annotations
from diffstudio.studio.library.link_download import RemoteFile
from diffstudio.studio.library.weight_requests import Tool
from diffstudio.studio.metadata.metadata import ImageSettings
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from diffstudio.studio.runs.runs import Runs
from diffstudio.studio.settings import Settings
from diffstudio.training.recipe import NetworkRecipe, Recipe
from diffstudio.training.run.events import RunFinished, RunHeldOut, RunSamples, RunStarted, RunStep
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.gallery.room import GalleryRoom
from diffstudio.ui.generate.image_settings_dialog import ImageSettingsDialog
from diffstudio.ui.generate.mask.dialog import MaskDialog
from diffstudio.ui.generate.queue.job_dialog import JobDialog
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.generate.sections.preset_dialogs import EditPresetsDialog, SavePresetDialog
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from diffstudio.ui.help.about_dialog import AboutDialog
from diffstudio.ui.help.shortcuts_dialog import ShortcutsDialog
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.models.adding.link_dialog import LinkDialog
from diffstudio.ui.models.rename_dialog import RenameDialog
from diffstudio.ui.models.room import ModelsRoom
from diffstudio.ui.models.weight_tool_dialogs import (
    ConvertDialog,
    ExportDialog,
    FuseLoraDialog,
    MergeDialog,
    PruneDialog,
)
from diffstudio.ui.settings_dialog import SettingsDialog
from diffstudio.ui.train.recipe_dialog import RecipeDialog
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.train.run.sample_prompts_dialog import SamplePromptsDialog
from diffstudio.ui.widgets import dialogs as dialogs_module
from diffstudio.ui.widgets import text_size, theme
from diffstudio.ui.window import MainWindow, RoomEntry
from tests.training.conftest import write_pictures
from tests.ui.accessibility import accessibility_problems
from tests.ui.samples import checkpoint
from tests.ui.walk import clipped, focus_invisible, hard_to_read, lengthen, pushed_out, settle

SMALL, TALL = QSize(880, 470), QSize(880, 1600)
LONG = "a photograph of a lighthouse on a cliff in a storm, dramatic light, highly detailed, 35 mm, golden hour"
LONG_NAME = "a-model-with-a-name-of-many-words-that-nobody-would-want-to-type-twice-v12-pruned-fp16"
SD1 = checkpoint("sd1", family="sd1", width=512, height=512, metadata={}, layout=Layout.ORIGINAL)
INK = checkpoint(
    "ink", family="sd1", role=Role.LORA, metadata={"ss_tag_frequency": json.dumps({"a": {"sumi-e": 9, LONG: 2}})}
)
MODELS = [
    SD1,
    replace(SD1, name=LONG_NAME, title=LONG_NAME, path=Path(f"/models/{LONG_NAME}.safetensors")),
    INK,
    checkpoint("canny", family="sd1", role=Role.CONTROLNET, metadata={}),
    checkpoint("4x-sharp", family="unknown", role=Role.UPSCALER, metadata={}),
]


def long_result(folder: Path) -> dict[str, Any]:
    """An evaluation with every measure and with long names."""
    row = {column.key: {"value": 0.5, "low": 0.4, "high": 0.6} for column in (*COLUMNS, *DIVERSITY)}
    pair = {"image": "seed 123456", "training": f"{LONG_NAME}.png", "ratio": 0.1, "copy": True}
    details = {"name": LONG_NAME, "images": 100, "nearest": [pair] * 3, "agreement_by_label": {LONG: 0.5}}
    return {
        "folder": str(folder),
        "features": "EfficientNet-Lite0",
        "rows": [{"name": "real images (training part)"} | row, {"name": LONG_NAME} | row],
        "details": [details],
        "notes": [LONG],
        "how_to_read": HOW_TO_READ,
        "problem": LONG,
    }


class Window:
    """The window with its rooms, without a worker."""

    def __init__(self, qtbot: QtBot, folder: Path) -> None:
        self.folder = folder
        Image.new("RGB", (64, 48), "red").save(folder / "a.png")
        self.gallery = Gallery(folder / "images", folder / "gallery.sqlite")
        self.window, self.generate = MainWindow(), GenerateRoom()
        self.models_room = ModelsRoom(self.gallery, Annotations(folder / "notes.json"))
        self.gallery_room, self.train = GalleryRoom(self.gallery), TrainRoom(Runs(folder / "runs"))
        self.lab = LabRoom(LabJobs(folder / "lab"))
        rooms = {
            "Generate": self.generate,
            "Gallery": self.gallery_room,
            "Models": self.models_room,
            "Train": self.train,
            "Lab": self.lab,
        }
        for name, room in rooms.items():
            self.window.add_room(RoomEntry(name, "sparkle", name, lambda room=room: room))
        self.window.show_room("Generate")
        self.window.show()
        qtbot.waitExposed(self.window)

    def close(self) -> None:
        for room in (self.gallery_room, self.models_room, self.train, self.lab):
            room.shut_down()
        self.gallery.close()
        self.window.close()
        self.window.deleteLater()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)

    # States: each shows something, and returns what is to be looked at

    def states(self, qtbot: QtBot) -> Iterator[tuple[str, QWidget]]:
        yield "Generate without a checkpoint", self._room("Generate")
        self._fill_generate()
        yield "Generate with everything in its panel", self._room("Generate")
        yield "Gallery without images", self._room("Gallery")
        for colour in ("red", "blue"):
            self.gallery.add(Image.new("RGB", (64, 48), colour), GenerateRequest(LONG, checkpoint=LONG_NAME), extra={})
        self.gallery_room.refresh()
        qtbot.waitUntil(lambda: self.gallery_room.model.rowCount() == 2, timeout=30_000)
        self.gallery_room.grid.setCurrentIndex(self.gallery_room.model.index(0))
        yield "Gallery", self._room("Gallery")
        self.gallery_room.compare([image.path for image in self.gallery.images(0, 2)])
        qtbot.waitUntil(self.gallery_room.is_comparing, timeout=30_000)
        yield "Gallery comparing two images", self._room("Gallery")
        self.gallery_room.close_full()
        self.gallery.delete([image.id for image in self.gallery.images(0, 1)])
        self.gallery_room.show_trash()
        qtbot.waitUntil(lambda: not self.gallery_room.busy() and self.gallery_room.trash_bar.isVisible())
        self.gallery_room.grid.setCurrentIndex(self.gallery_room.model.index(0))
        yield "Gallery with its trash", self._room("Gallery")
        self.gallery_room.restore_chosen()
        qtbot.waitUntil(lambda: not self.gallery_room.busy() and self.gallery.trash_count() == 0)
        yield "Models before the scan", self._room("Models")
        self.models_room.set_checkpoints([])
        yield "Models without models", self._room("Models")
        self._fill_models()
        yield "Models", self._room("Models")
        self.models_room.message.show_message("warn", f"{LONG}. {LONG}.")
        remote = RemoteFile("https://example.org/a", "example.org", f"{LONG_NAME}.safetensors", 4_000_000_000)
        self.models_room.adder.downloads.bar.show_paused(remote, 1_200_000_000)
        yield "Models with a download and a message", self._room("Models")
        self.models_room.choose(self.folder / "broken.safetensors")
        yield "Models with a file that cannot be used", self._room("Models")
        yield "Train without runs", self._room("Train")
        self.train.inspect(write_pictures(self.folder / LONG_NAME[:40], count=4))
        qtbot.waitUntil(lambda: self.train.new_panel.run_settings() is not None, timeout=30_000)
        yield "Train with a folder", self._room("Train")
        self._show_run(qtbot)
        yield "Train with a run", self._room("Train")
        yield "Lab without jobs", self._room("Lab")
        yield from self._lab_states(qtbot)
        self.window.show_message("bad", f"{LONG}. {LONG}.", "Try again")
        yield "A message of the window", self._room("Generate")
        self.window.show_message("bad", "")
        for make in self._dialogs():
            dialog = make()
            dialog.show()
            yield f"The dialog {dialog.windowTitle()[:40]}", dialog
            dialog.close()
            dialog.deleteLater()

    def _room(self, name: str) -> QWidget:
        self.window.show_room(name)
        return self.window

    def _fill_generate(self) -> None:
        room = self.generate
        room.set_checkpoints(MODELS, 0)
        panel = room.panel
        panel.choose(MODELS[1])
        panel.prompt.set_text(f"{LONG} <lora:ink:1> <lora:inc:1>")
        assert panel.init_image.set_image(self.folder / "a.png") and panel.controlnets.add_image(self.folder / "a.png")
        panel.hires_fix.open_button.click()
        room.show_message("warn", f"{LONG}. {LONG}.", "Try again")

    def _fill_models(self) -> None:
        self.models_room._annotations.put(SD1.path, Annotation(LONG, ("paper", "brush"), True))
        broken = CheckpointDamaged(f"{LONG_NAME} is damaged", "it ends too early", "Download it again")
        self.models_room.set_checkpoints(MODELS, [(self.folder / "broken.safetensors", broken)])
        self.models_room.choose(MODELS[1].path)
        self.models_room.details.show_tools(tuple(Tool))
        self.models_room.details.show_hash("0123456789abcdef" * 4)

    def _show_run(self, qtbot: QtBot) -> None:
        """A run that is named at length, with everything that a run can report."""
        recipe = Recipe(name=LONG, network=NetworkRecipe(conditioning=Conditioning.CLASS))
        run = RunFolder.create(self.folder / "runs" / LONG_NAME[:50], recipe, self.folder / LONG_NAME[:40])
        sheet = Image.new("RGB", (64, 16), "red")
        sheet.save(run.path / "samples" / "a.png")
        levels = (0.1, 0.5, 0.9)
        nearest = tuple(f"class0/{number}.png" for number in range(4))
        for event in (
            RunStarted(0, 1000, 1, 8_500_000, 400, 40, "cpu", "bfloat16", 2, f"{LONG}."),
            *(RunStep(step, 1000, step, 1 / step, 1.0, 1e-3, 64.0, 1.0, 99.0) for step in range(1, 9)),
            *(RunHeldOut(step, 1 / step, levels, levels, 1 / step, levels) for step in (2, 4, 6)),
            *(
                RunSamples(step, "samples/a.png", "samples/a.png", 4, 1, 16, (LONG,) * 4, nearest, (0.1,) * 4, (0,))
                for step in (4, 8)
            ),
            RunFinished(8, "checkpoints/latest.safetensors", False, f"{LONG}. {LONG}.", "copying", (LONG, LONG), 6),
        ):
            run.append(event)
        self.train.refresh()
        qtbot.waitUntil(lambda: run.path in self.train.runs_list.cards(), timeout=30_000)
        self.train.select(run.path)
        qtbot.waitUntil(lambda: bool(self.train.runs_list.learning.pairs()), timeout=30_000)
        qtbot.waitUntil(lambda: not self.train.run_view.samples.ema.image().isNull(), timeout=30_000)

    def _lab_states(self, qtbot: QtBot) -> Iterator[tuple[str, QWidget]]:
        """A filled form, a running job, one that failed, and a result, all named at length."""
        form = self.lab.form_view("evaluate").form
        self.lab.set_checkpoints([checkpoint(LONG_NAME, family="pixel")])
        form.fill([LONG_NAME, str(self.folder / LONG_NAME), str(self.folder), "--count", "500"])
        yield "Lab with a form", self._room("Lab")
        job = JobFolder(self.folder / "lab" / "job")
        job.write_request(JobRequest("evaluate", (LONG_NAME, str(self.folder)), LONG[:60], 1.0))
        with job.locked():
            for event in (JobStarted(1), JobProgress(f"Generating with {LONG_NAME}", 40, 100)):
                job.append(event)
            self.lab.select(job.path)
            qtbot.waitUntil(lambda: self.lab.job_view.cancel.isVisible(), timeout=30_000)
            yield "Lab with a running job", self._room("Lab")
        for event, text in ((JobFailed(LONG, LONG, LONG), LONG), (JobFinished("evaluation.json"), "")):
            result = long_result(self.folder)
            (job.path / "evaluation.json").write_text(json.dumps(result))
            job.append(event)
            self.lab.refresh()
            qtbot.waitUntil(lambda text=text: text in self.lab.job_view.outcome.text(), timeout=30_000)
            if not text:
                qtbot.waitUntil(lambda: self.lab.job_view.result_view() is not None, timeout=30_000)
            yield f"Lab with a job that {event.event}", self._room("Lab")

    def _dialogs(self) -> list[Callable[[], QWidget]]:
        window, folder = self.window, self.folder
        image = QImage(64, 48, QImage.Format.Format_RGB32)
        image.fill(0)
        settings = ImageSettings(GenerateRequest(LONG, LONG), "ComfyUI")
        remote = RemoteFile(
            "https://example.org/a", "example.org", f"{LONG_NAME}.safetensors", 4_000, "cdn.example.org"
        )

        def link() -> LinkDialog:
            dialog = LinkDialog(folder, window, "https://example.org/model.safetensors")
            dialog.show_remote(remote)
            return dialog

        def wrong_link() -> LinkDialog:
            return LinkDialog(folder, window, "https://huggingface.co/org/repo")

        return [
            lambda: ConvertDialog(MODELS[1], folder, window),
            lambda: MergeDialog(SD1, folder, MODELS, window),
            lambda: FuseLoraDialog(SD1, folder, MODELS, window),
            lambda: PruneDialog(SD1, folder, {"EMA copies of the weights": 1000}, window),
            lambda: ExportDialog(SD1, folder, window),
            lambda: MaskDialog(image, None, (0, 0, 0, 0), window),
            lambda: UpscaleDialog(
                UpscaleRequest(folder / "a.png"), image, QSize(64, 48), MODELS, "sd1", sampled=True, parent=window
            ),
            lambda: ImageSettingsDialog(folder / "a.png", image, settings, window),
            lambda: SettingsDialog(Settings(model_folders=(folder,)), "no accelerator", window),
            lambda: SavePresetDialog(["drawing", LONG_NAME], window),
            lambda: EditPresetsDialog(["drawing", LONG_NAME], window, lambda a, b: "", lambda a: None),
            link,
            wrong_link,
            lambda: RenameDialog(MODELS[1], window),
            lambda: AboutDialog(window),
            lambda: SamplePromptsDialog([LONG], window),
            lambda: RecipeDialog(Recipe(), window),
            lambda: ShortcutsDialog("Generate", window),
            lambda: JobDialog(QueuedJob(1, GenerateRequest(LONG, LONG, checkpoint=LONG_NAME), 0, 0), image, window),
        ]


@pytest.fixture
def walk(
    qtbot: QtBot, tmp_path: Path, dressed: QApplication, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, int], Window]]:
    monkeypatch.setattr(dialogs_module, "available_size", lambda window: QSize(911, 512))
    made: list[Window] = []

    def make(name: str, percent: int) -> Window:
        theme.apply(dressed, name)
        text_size.apply(dressed, percent)
        made.append(Window(qtbot, tmp_path))
        made[-1].window.resize(SMALL)
        return made[-1]

    yield make
    for window in made:
        window.close()
    text_size.apply(dressed, 100)
    theme.apply(dressed, "dark")


@pytest.mark.parametrize("name", ["dark", "light"])
@pytest.mark.parametrize("percent", [100, 150])
@pytest.mark.timeout(300)
def test_a_walk(walk: Callable[[str, int], Window], qtbot: QtBot, name: str, percent: int) -> None:
    problems, seen = list[str](), set[QWidget]()
    window = walk(name, percent)
    for state, place in window.states(qtbot):
        settle()
        assert window.window.size() == SMALL, f"{state} forces the window to {window.window.size().toTuple()}"
        found = [*clipped(place), *pushed_out(place), *hard_to_read(place)]
        if percent == 100:
            found += accessibility_problems(place)
        if percent == 150 and name == "light":
            found += focus_invisible(place, seen)
        if percent == 100 and place is window.window:  # what the small window scrolls to
            place.resize(TALL)
            settle()
            found += [*clipped(place), *hard_to_read(place)]
            place.resize(SMALL)
            settle()
        problems += [f"{state}: {each}" for each in found]
    assert not problems, "\n".join(dict.fromkeys(problems))


@pytest.mark.timeout(300)
def test_nothing_is_clipped_in_a_language_with_longer_words(walk: Callable[[str, int], Window], qtbot: QtBot) -> None:
    problems, longer = list[str](), set[QWidget]()
    window = walk("dark", 100)
    for state, place in window.states(qtbot):
        lengthen(place, longer)
        settle()
        if place.size() != SMALL and place is window.window:
            problems.append(f"{state}: forces the window to {place.size().toTuple()}")
        problems += [f"{state}: {each}" for each in (*clipped(place), *pushed_out(place))]
    assert not problems, "\n".join(dict.fromkeys(problems))
