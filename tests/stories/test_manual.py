"""The manual and the README agree with the program: labels in bold are in the window, commands parse, links lead on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QPlainTextEdit, QWidget
from pytestqt.qtbot import QtBot

from diffstudio import cli, paths
from diffstudio.models.detection.types import Layout, Role
from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from diffstudio.studio.runs.runs import Runs
from diffstudio.studio.settings import Settings
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.app import Desktop
from diffstudio.ui.gallery.room import GalleryRoom
from diffstudio.ui.generate.mask.dialog import MaskDialog
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from diffstudio.ui.lab.noise_schedule.view import NoiseScheduleView
from diffstudio.ui.lab.pages.anomalies import AnomaliesResultView
from diffstudio.ui.lab.pages.attention import AttentionResultView
from diffstudio.ui.lab.pages.compare import CompareView
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.models.adding.link_dialog import LinkDialog
from diffstudio.ui.models.details import CheckpointDetails
from diffstudio.ui.models.room import ModelsRoom
from diffstudio.ui.models.step_fitter import StepFittingDialog
from diffstudio.ui.settings_dialog import SettingsDialog
from diffstudio.ui.train.disk_dialog import DiskDialog
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.train.run.ema_dialog import EmaDialog
from diffstudio.ui.train.run.panel import Action
from diffstudio.ui.widgets.actions import COMPARE
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")

MANUAL = paths.resources() / "manual"
PAGES = [*sorted(MANUAL.glob("*.md")), MANUAL.parent.parent / "README.md"]
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SD1 = checkpoint("sd1", family="sd1", width=512, height=512, metadata={}, layout=Layout.ORIGINAL)
LORA = checkpoint("ink", family="sd1", role=Role.LORA, metadata={})
CONTROLNET = checkpoint("canny", family="sd1", role=Role.CONTROLNET, metadata={})
KEYS = re.compile(r"(Ctrl|Alt|Shift)\+\S+|Escape|Delete")


def labels_in(page: Path) -> set[str]:
    """What the page sets in bold, but for links and keys."""
    bold = re.findall(r"\*\*([^*]+)\*\*", CODE.sub("", page.read_text(encoding="utf-8")))
    return {text for text in bold if not text.startswith("[") and not KEYS.fullmatch(text)}


def commands_in(page: Path) -> Iterator[list[str]]:
    """The arguments of every `diffstudio` in a block of code, however it is started."""
    for block in CODE.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["diffstudio"]:
                yield words[1:]
            elif words[1:3] == ["packaging/bootstrap.py", "run"]:
                yield words[3:]


def texts_of(place: QWidget) -> Iterator[str]:
    """Every label in it, hidden ones too."""
    for widget in (place, *place.findChildren(QWidget)):
        yield widget.accessibleName()
        match widget:
            case QLabel() | QAbstractButton():
                yield widget.text()
            case QComboBox():
                yield from (widget.itemText(index) for index in range(widget.count()))
            case QLineEdit() | QPlainTextEdit():
                yield widget.placeholderText()


@pytest.fixture
def window_texts(qtbot: QtBot, tmp_path: Path) -> Iterator[set[str]]:
    """The labels of every room and of the dialogs."""
    image = QImage(64, 64, QImage.Format.Format_RGB32)
    image.fill(0)
    image.save(str(tmp_path / "a.png"))
    desktop = Desktop(Settings())
    panel = desktop.generate_room.panel
    panel.set_checkpoints([SD1, LORA, CONTROLNET])
    assert panel.controlnets.add_image(tmp_path / "a.png")
    lora_details = CheckpointDetails()
    lora_details.show_entry(LORA, QImage())
    gallery = Gallery(tmp_path / "images", tmp_path / "gallery.sqlite")
    request = UpscaleRequest(tmp_path / "a.png", checkpoint="starter")
    rooms = (
        GalleryRoom(gallery),
        ModelsRoom(gallery),
        TrainRoom(Runs(tmp_path / "runs")),
        LabRoom(LabJobs(tmp_path / "lab")),
    )
    anomalies, schedule = AnomaliesResultView(), NoiseScheduleView()
    places: list[QWidget] = [
        desktop.window,
        *rooms,
        anomalies,
        AttentionResultView(),
        CompareView(),
        schedule,
        lora_details,
        MaskDialog(image, None, (0, 0, 0, 0)),
        UpscaleDialog(request, image, QSize(64, 64), [checkpoint()]),
        SettingsDialog(Settings(), ""),
        LinkDialog(tmp_path),
        StepFittingDialog(checkpoint()),
        EmaDialog(RunFolder(tmp_path / "runs" / "one")),
        DiskDialog(tmp_path / "runs"),
    ]
    for place in places:
        qtbot.addWidget(place)
    menu = desktop.generate_room.menu(image, tmp_path / "a.png", GenerateRequest("a cat"))
    texts = {text for place in places for text in texts_of(place)}
    actions = [*menu.actions(), *desktop.generate_room.panel.settings_bar.menu().actions()]
    texts |= {action.text() for action in actions} | {*Action, "Add to queue", "Undo", COMPARE}  # at other times
    yield texts
    for room in (*rooms, anomalies, schedule):
        room.shut_down()
    gallery.close()
    desktop.close()


def test_every_label_in_bold_is_in_the_window(window_texts: set[str]) -> None:
    missing = {page.name: unknown for page in PAGES if (unknown := labels_in(page) - window_texts)}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_parses(page: Path) -> None:
    for arguments in commands_in(page):
        assert cli._parser().parse_args(arguments).do is not None, arguments


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_to_a_file_leads_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", CODE.sub("", page.read_text(encoding="utf-8")))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_image_is_shown_and_can_be_made_again() -> None:
    shown = {name for page in PAGES for name in re.findall(r"images/(\w+)\.png", page.read_text(encoding="utf-8"))}
    modules = (MANUAL.parent.parent / "packaging" / "screenshots").glob("*.py")
    made = {name for each in modules for name in re.findall(r"def take_(\w+)", each.read_text("utf-8"))}
    assert {path.stem for path in (MANUAL / "images").glob("*.png")} == shown == made
