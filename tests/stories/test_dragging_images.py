"""An image from any room, another program or the clipboard goes onto any panel that takes one: each pair is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QEvent, QMimeData, QPoint, QPointF, QSize, Qt, QUrl
from PySide6.QtGui import QDrag, QDragEnterEvent, QDropEvent, QImage, QMouseEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.models.detection.types import Layout, Role
from diffstudio.studio.evaluations.job_folder import JobFolder
from diffstudio.studio.evaluations.jobs import LabJobs
from diffstudio.studio.evaluations.views.anomalies import read_anomalies
from diffstudio.studio.evaluations.views.evaluation import Pair
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest
from diffstudio.studio.runs.runs import Runs
from diffstudio.training.run.events import RunSamples
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.gallery.compare_view import CompareView
from diffstudio.ui.gallery.room import GalleryRoom
from diffstudio.ui.generate.canvas.canvas import Canvas
from diffstudio.ui.generate.mask.dialog import MaskDialog
from diffstudio.ui.generate.panel import Panel
from diffstudio.ui.generate.queue_and_history import RecentImage, RecentThumb
from diffstudio.ui.generate.sections.init_image_section import DROP_MASK
from diffstudio.ui.generate.upscale_dialog import UpscaleDialog
from diffstudio.ui.lab.image_fields import ImagesField
from diffstudio.ui.lab.latents.view import LatentSpaceView
from diffstudio.ui.lab.pages.forward import ForwardView
from diffstudio.ui.lab.pages.restore import RestoreForm
from diffstudio.ui.lab.results.before_after import BeforeAfter
from diffstudio.ui.lab.results.film_view import FilmView, ReadFrame
from diffstudio.ui.lab.results.grids_view import Sheet
from diffstudio.ui.lab.results.image_row import ImageRow
from diffstudio.ui.lab.results.pairs_view import PairsView, ReadPair
from diffstudio.ui.lab.results.scored_images import ScoredImagesList, ScoredImagesModel
from diffstudio.ui.lab.results.whole_image import WholeImage
from diffstudio.ui.lab.results.word_maps import PlaceImage
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.room import TrainRoom
from diffstudio.ui.train.run.learning_card import LearningCard
from diffstudio.ui.train.run.nearest_images import read_pairs
from diffstudio.ui.train.run.sample_sheets_view import SampleGrid
from diffstudio.ui.train.run.sample_wall import SampleWall
from diffstudio.ui.widgets.images.drag_and_drop import DropTarget, takes_image
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import read_image
from diffstudio.ui.widgets.images.image_thumbnail import ImageThumbnail
from diffstudio.ui.window import MainWindow, RoomEntry
from tests.studio.evaluations.views.test_anomalies import example
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed", "home")

COPY, LEFT, NONE = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
SD1 = checkpoint("sd1", family="sd1", width=512, height=512, metadata={}, layout=Layout.ORIGINAL)
CANNY = checkpoint("canny", family="sd1", role=Role.CONTROLNET, metadata={})
Colour = tuple[int, int, int]
BLUE: Colour = (5, 20, 200)


class Places:
    """Everything that an image is dragged from and dropped on."""

    def __init__(self, qtbot: QtBot, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.qtbot, self.tasks = qtbot, Tasks("drags")
        self._dragged: list[QMimeData] = []
        monkeypatch.setattr(QDrag, "exec", lambda drag, *_: self._dragged.append(copied(drag.mimeData())))
        self.open: list[Callable[[], object]] = [self.tasks.close]
        self.failures: list[str] = []
        self.between: Callable[[], object] = lambda: None  # makes a panel ready for another image
        self.begin(folder, BLUE)

    def begin(self, folder: Path, colour: Colour) -> None:
        """Use an image of this colour, in a folder with a white one, from here on."""
        folder.mkdir(exist_ok=True)
        self.folder, self.colour = folder, colour
        self.file, self.other = folder / "one image.png", folder / "other.png"
        Image.new("RGB", (48, 32), colour).save(self.file)
        Image.new("RGB", (48, 32), "white").save(self.other)
        self.pixels = read_image(self.file)

    def shown(self, widget: QWidget, size: QSize = QSize(320, 320)) -> QWidget:  # noqa: B008 - never changed
        self.qtbot.addWidget(widget)
        widget.resize(size)
        widget.show()
        self.qtbot.waitExposed(widget)
        return widget

    def drag(self, widget: QWidget, start: QPoint) -> QMimeData:
        """Press the mouse on a widget and move it until a drag begins: what the drag carries."""
        self.qtbot.mousePress(widget, LEFT, pos=start)
        for step in (8, 20, 40):
            event_at(widget, start + QPoint(step, step))
        event_at(widget, start + QPoint(40, 40), QEvent.Type.MouseButtonRelease)
        assert len(self._dragged) == 1
        return self._dragged.pop()

    def lab(self) -> LabRoom:
        room = LabRoom(LabJobs(self.folder / "lab"))
        self.open.append(room.shut_down)
        self.shown(room, QSize(1000, 700))
        return room

    def panel(self) -> Panel:
        panel = Panel()
        self.shown(panel, QSize(320, 2400))
        panel.set_checkpoints([SD1, CANNY])
        panel.choose(SD1)
        return panel


def copied(data: QMimeData) -> QMimeData:
    """A drag's data goes with the drag."""
    again = QMimeData()
    for kind in data.formats():
        again.setData(kind, data.data(kind))
    if data.hasImage():
        again.setImageData(data.imageData())
    return again


def event_at(widget: QWidget, at: QPoint, kind: QEvent.Type = QEvent.Type.MouseMove) -> None:
    event = QMouseEvent(kind, QPointF(at), QPointF(widget.mapToGlobal(at)), LEFT, LEFT, NONE)
    QApplication.sendEvent(widget, event)


@pytest.fixture
def places(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    places = Places(qtbot, tmp_path / "here", monkeypatch)
    yield places
    for close in places.open:
        close()


# Where images come from


def from_gallery(places: Places, *, full: bool) -> QMimeData:
    gallery = Gallery(places.folder / "images", places.folder / "g.sqlite", places.folder / "thumbnails")
    gallery.add(Image.new("RGB", (48, 32), places.colour), GenerateRequest("blue"))
    room = GalleryRoom(gallery)
    places.shown(room, QSize(1000, 700))
    places.open += [room.shut_down, gallery.close]
    places.qtbot.waitUntil(lambda: not room.busy() and room.model.rowCount() == 1)
    if not full:
        return room.model.mimeData([room.model.index(0)])  # Qt's views drag what this gives
    room.open_image(gallery.images()[0].path)
    places.qtbot.waitUntil(lambda: not room.busy() and not room.image_view.image().isNull())
    return places.drag(room.image_view, room.image_view.rect().center())


def from_canvas(places: Places) -> QMimeData:
    canvas = Canvas()
    places.shown(canvas)
    canvas.show_one(places.pixels, places.file)
    return places.drag(canvas, canvas.rect().center())


def from_recent(places: Places) -> QMimeData:
    thumb = RecentThumb(RecentImage(places.file, places.pixels.scaled(16, 16)), 64)
    return places.drag(places.shown(thumb, QSize(64, 64)), QPoint(5, 5))


def from_samples(places: Places) -> QMimeData:
    grid = SampleGrid("Samples")
    places.shown(grid)
    grid.show_sheet(RunSamples(step=1, ema="", raw="", columns=1, rows=1, size=48, prompts=("blue",)), places.pixels)
    return places.drag(grid, QPoint(20, 20))


def from_lab(places: Places) -> QMimeData:
    image = WholeImage(64, "Estimate")
    image.show_target(ImageTarget(image=places.pixels))
    return places.drag(places.shown(image, QSize(64, 64)), QPoint(5, 30))


def from_comparison(places: Places) -> QMimeData:
    view = CompareView(places.tasks)
    places.shown(view, QSize(500, 400))
    view.compare([places.file, places.other], ["blue", "white"])
    places.qtbot.waitUntil(lambda: not view.pane.image(0).isNull())
    return places.drag(view.pane, view.pane.image_rect(0).center().toPoint())


def from_all_steps(places: Places) -> QMimeData:
    wall = SampleWall(places.tasks)
    places.shown(wall, QSize(300, 200))
    sheet = RunSamples(step=1, ema=places.file.name, raw="", columns=1, rows=1, size=32, prompts=("blue",))
    wall.show_sheets(RunFolder(places.folder), (sheet,), (("ema", ""),))
    places.qtbot.waitUntil(lambda: wall.target_at(wall.cell(0, 0).center()) is not None)
    return places.drag(wall.viewport(), wall.cell(0, 0).center())


def from_nearest(places: Places) -> QMimeData:
    """The training image that is nearest to a sample, in the verdict of a run."""
    Image.new("RGB", (48, 32), "white").save(places.folder / "sheet.png")
    near = (places.file.name,)
    sheet = RunSamples(
        step=1, ema="sheet.png", raw="", columns=1, rows=1, size=32, prompts=("a",), nearest=near, ratios=(0.2,)
    )
    (pair,) = read_pairs(RunFolder(places.folder), places.folder, sheet, 1, 64)
    card = LearningCard(places.tasks)
    places.shown(card)
    card._show_pairs((pair,))
    card.pairs()[1].show()
    return places.drag(card.pairs()[1], QPoint(5, 5))


def from_restore(places: Places) -> QMimeData:
    view = BeforeAfter()
    view.show_images(places.pixels, places.pixels, places.pixels)
    return places.drag(places.shown(view), view.rect().center() + QPoint(-40, 0))


def from_reverse(places: Places) -> QMimeData:
    film = FilmView({"state": "x_t"})
    places.shown(film)
    film.show_frames([ReadFrame({"state": ImageTarget(image=places.pixels)}, "1", "")])
    return places.drag(film.images["state"], QPoint(20, 20))


def from_attention(places: Places) -> QMimeData:
    image = PlaceImage("Image", "")
    image.show_image(ImageTarget(image=places.pixels))
    return places.drag(places.shown(image), image.rect().center())


def from_anomalies(places: Places) -> QMimeData:
    found = example()
    found["images"][0]["path"] = places.file.name
    view = replace(read_anomalies(JobFolder(places.folder), found), folder=places.folder)
    model = ScoredImagesModel()
    images = ScoredImagesList(model)
    places.shown(images, QSize(500, 400))
    model.set_view(view)
    return places.drag(images.viewport(), images.visualRect(model.index(0)).center())


def from_pairs(places: Places) -> QMimeData:
    """Of an evaluation: an image and its nearest training image."""
    pair = Pair("tiny", "seed 3", places.file, "other.png", places.other, 0.1, True)
    view = PairsView()
    places.shown(view, QSize(500, 200))
    view.show_pairs([ReadPair(pair, places.pixels, QImage())])
    return places.drag(view.findChildren(ImageThumbnail)[0], QPoint(5, 5))


def from_sheet(places: Places) -> QMimeData:
    sheet = Sheet()
    places.shown(sheet)
    sheet.show_image(ImageTarget(image=places.pixels), "Sheet")
    return places.drag(sheet, QPoint(20, 20))


def from_latent_space(places: Places) -> QMimeData:
    row = ImageRow("Image", 64)
    places.shown(row)
    row.show_images([("Image", np.full((32, 32, 3), places.colour, np.uint8))])
    return places.drag(row.thumbnails()[0], QPoint(5, 5))


def from_training_folder(places: Places) -> QMimeData:
    thumb = ImageThumbnail(ImageTarget(places.file, places.pixels), 64, name="blue")
    return places.drag(places.shown(thumb, QSize(64, 64)), QPoint(5, 5))


def from_file_manager(places: Places) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(places.file))])
    return data


def from_browser(places: Places) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl("https://example.org/blue.png")])
    data.setImageData(places.pixels)
    return data


def from_text(places: Places) -> QMimeData:
    data = QMimeData()
    data.setText(QUrl.fromLocalFile(str(places.file)).toString(QUrl.ComponentFormattingOption.FullyEncoded))
    return data


SOURCES: dict[str, Callable[[Places], QMimeData]] = {
    "gallery grid": lambda places: from_gallery(places, full=False),
    "gallery full view": lambda places: from_gallery(places, full=True),
    "canvas": from_canvas,
    "recent": from_recent,
    "comparison": from_comparison,
    "samples": from_samples,
    "samples of all steps": from_all_steps,
    "nearest training image": from_nearest,
    "training folder": from_training_folder,
    "forward process": from_lab,
    "restored image": from_restore,
    "step of the reverse process": from_reverse,
    "attention": from_attention,
    "anomaly": from_anomalies,
    "pair of an evaluation": from_pairs,
    "sheet of a comparison": from_sheet,
    "latent space": from_latent_space,
    "file manager": from_file_manager,
    "browser": from_browser,
    "text": from_text,
}


# Where they go: the widget, what is said over it, and the file that it took


Taker = tuple[QWidget, str, Callable[[], Path | None]]


def to_init_image(places: Places) -> Taker:
    panel = places.panel()
    places.between = panel.init_image.clear
    return panel.init_image.choose_button, "Drop to start from this image", panel.init_image.image_path


def to_another_init_image(places: Places) -> Taker:
    panel = places.panel()
    panel.init_image.set_image(places.other)
    return panel.init_image, "Drop to start from this image", panel.init_image.image_path


def to_mask(places: Places) -> Taker:
    panel = places.panel()
    panel.init_image.set_image(places.other)
    return panel.init_image.mask_label, DROP_MASK, lambda: panel.init_image.apply_to(GenerateRequest()).mask


def to_controlnets(places: Places) -> Taker:
    panel = places.panel()
    section = panel.controlnets
    places.between = lambda: section.load_from(GenerateRequest())
    return section.add_button, "Drop to add a ControlNet", lambda: section.cards[0].path if section.cards else None


def to_controlnet_card(places: Places) -> Taker:
    panel = places.panel()
    panel.controlnets.add_image(places.other)
    card = panel.controlnets.cards[0]
    return card, "Drop to replace the control image", lambda: card.path if card.path != places.other else None


def to_upscale(places: Places) -> Taker:
    dialog = UpscaleDialog(UpscaleRequest(places.other), read_image(places.other), QSize(48, 32), [])
    dialog.accept_drops(places.failures.append)
    places.shown(dialog)
    taken: list[Path] = []
    dialog.image_dropped.connect(taken.append)
    return dialog, "Drop to upscale this image instead", lambda: taken[-1] if taken else None


def to_mask_editor(places: Places) -> Taker:
    dialog = MaskDialog(read_image(places.other), None, (0, 0, 0, 0))
    places.shown(dialog)
    taken: list[Path] = []
    takes_image(dialog, DROP_MASK, taken.append, places.failures.append)
    return dialog, DROP_MASK, lambda: taken[-1] if taken else None


def to_window(places: Places) -> Taker:
    window = MainWindow()
    window.add_room(RoomEntry("Generate", "sparkle", "Generate", QWidget))
    window.show_room("Generate")
    places.shown(window, QSize(1000, 700))
    taken: list[Path] = []
    window.image_dropped.connect(taken.append)
    return window, "Drop to load the settings of this image", lambda: taken[-1] if taken else None


def to_restore(places: Places, name: str) -> Taker:
    form = RestoreForm()
    places.shown(form, QSize(500, 700))
    form.fill(["starter", str(places.other), "--task", "inpaint"])
    (field,) = (each for each in form.fields if isinstance(each, ImagesField) and each.accessibleName() == name)
    return field, "Drop to use ", lambda: field.folder() if field.folder() != places.other else None


def to_forward(places: Places) -> Taker:
    room, opened = places.lab(), list[Path]()
    view = room.show_interactive("forward-process")
    assert isinstance(view, ForwardView)
    view.open = opened.append  # type: ignore[method-assign]
    return room, "Drop to add noise to this image", lambda: opened[-1] if opened else None


def latent_space(places: Places) -> tuple[LabRoom, LatentSpaceView]:
    room = places.lab()
    view = room.show_interactive("latent-space")
    assert isinstance(view, LatentSpaceView)
    view.offer([checkpoint("shapes", family="vae", metadata={})])
    return room, view


def to_latent_space(places: Places) -> Taker:
    room, view = latent_space(places)
    return room, "Drop to reconstruct the image", view.first.image


def to_other_end(places: Places) -> Taker:
    _, view = latent_space(places)
    return view.last, "Drop to use this image as the other end", view.last.image


def to_training(places: Places) -> Taker:
    folder = places.folder / "training"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (32, 32), (40 * number, 255 - 40 * number, 0)).save(folder / f"{number}.png")
    room = TrainRoom(Runs(places.folder / "runs"))
    places.shown(room, QSize(1000, 700))
    places.open.append(room.shut_down)
    room.inspect(folder)
    places.qtbot.waitUntil(lambda: room.new_panel.run_settings() is not None)
    room.folder_controller.inspect = lambda folder: None  # type: ignore[method-assign] # of the folder with the image

    def newest() -> Path | None:
        added = [path for path in folder.iterdir() if len(path.stem) > 1]
        return max(added, key=lambda path: path.stat().st_ctime_ns) if added else None

    return room, "Drop to copy 1 image into training", newest


TARGETS: dict[str, Callable[[Places], Taker]] = {
    "init image": to_init_image,
    "another init image": to_another_init_image,
    "mask": to_mask,
    "controlnets": to_controlnets,
    "controlnet card": to_controlnet_card,
    "upscale": to_upscale,
    "mask editor": to_mask_editor,
    "window": to_window,
    "images to restore": lambda places: to_restore(places, "Images"),
    "mask of Restore": lambda places: to_restore(places, "Mask"),
    "forward process": to_forward,
    "latent space": to_latent_space,
    "other end": to_other_end,
    "training folder": to_training,
}


def text_over(widget: QWidget) -> str:
    """What the overlay that is shown over a widget says."""
    targets = widget.findChildren(DropTarget, options=Qt.FindChildOption.FindDirectChildrenOnly)
    overlays = [target.overlay for target in targets] or [widget.drop_overlay]  # type: ignore[attr-defined]
    return next((overlay.text() for overlay in overlays if overlay.isVisible()), "")


def is_taken(path: Path | None, colour: Colour = BLUE) -> bool:
    if path is None:
        return False
    pixel = read_image(path).pixelColor(5, 5).getRgb()
    return max(abs(have - want) for have, want in zip(pixel, colour, strict=False)) <= 2


Drags = dict[str, tuple[Colour, QMimeData]]


@pytest.fixture(scope="module")
def dragged() -> Drags:
    """What was dragged from each source, and its colour: `every_drag` fills it once for all panels."""
    return {}


def every_drag(places: Places, folder: Path, dragged: Drags) -> Drags:
    before = places.folder, places.colour
    for index, (name, drag) in enumerate(SOURCES.items()):
        if name not in dragged:
            colour = (15 + 10 * index, 20, 200)
            places.begin(folder / name, colour)
            dragged[name] = colour, drag(places)
    places.begin(*before)
    return dragged


@pytest.mark.parametrize("target", TARGETS)
def test_every_panel_takes_an_image_from_every_source(
    places: Places, target: str, dragged: Drags, tmp_path_factory: pytest.TempPathFactory
) -> None:
    every_drag(places, tmp_path_factory.getbasetemp(), dragged)
    widget, text, taken = TARGETS[target](places)
    for source, (colour, data) in dragged.items():
        at = widget.rect().center()
        enter = QDragEnterEvent(at, COPY, data, LEFT, NONE)
        QApplication.sendEvent(widget, enter)
        assert enter.isAccepted() and text_over(widget).startswith(text), source
        drop = QDropEvent(QPointF(at), COPY, data, LEFT, NONE)
        QApplication.sendEvent(widget, drop)
        assert drop.isAccepted() and text_over(widget) == "", source
        places.qtbot.waitUntil(lambda colour=colour: is_taken(taken(), colour))
        places.between()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["pixels", "file", "text"])
def test_pasting_into_every_panel(places: Places, kind: str, target: str) -> None:
    widget, _, taken = TARGETS[target](places)
    data = {"file": from_file_manager, "text": from_text, "pixels": from_browser}[kind](places)
    QApplication.clipboard().setMimeData(data)
    places.qtbot.keyClick(widget, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    places.qtbot.waitUntil(lambda: taken() is not None)
    path = taken()
    assert is_taken(path)


def test_a_dialog_that_a_drop_closes_stays_until_the_drop_has_returned(places: Places) -> None:
    """X11's drag and drop ends the program if its window is gone before."""
    dialog, _, taken = to_upscale(places)
    data = from_file_manager(places)
    QApplication.sendEvent(dialog, QDragEnterEvent(QPoint(5, 5), COPY, data, LEFT, NONE))
    QApplication.sendEvent(dialog, QDropEvent(QPointF(5, 5), COPY, data, LEFT, NONE))
    assert dialog.isVisible() and taken() is None
    places.qtbot.waitUntil(lambda: is_taken(taken()))


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "window"])
def test_what_a_panel_does_not_take_is_left_to_the_window(places: Places, target: str) -> None:
    widget, _, taken = TARGETS[target](places)
    (places.folder / "notes.txt").write_text("a")
    before = taken()
    folders = target in ("images to restore", "mask of Restore", "training folder")
    for name in ("notes.txt", "model.safetensors", *(() if folders else (".",))):
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(places.folder / name))])
        enter = QDragEnterEvent(widget.rect().center(), COPY, data, LEFT, NONE)
        QApplication.sendEvent(widget, enter)
        assert not enter.isAccepted() and text_over(widget) == "" and taken() == before


def test_the_window_says_why_nothing_takes_a_drag(places: Places, qtbot: QtBot) -> None:
    window: Any = to_window(places)[0]
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(places.folder / "notes.txt"))])
    QApplication.sendEvent(window, QDragEnterEvent(QPoint(300, 300), COPY, data, LEFT, NONE))
    assert text_over(window) == "Cannot be used: notes.txt is neither an image nor a model file"
    QApplication.sendEvent(window, QDropEvent(QPointF(300, 300), COPY, data, LEFT, NONE))
    qtbot.waitUntil(lambda: "notes.txt is neither an image nor a model file" in window.banner.text())


def test_a_drag_of_this_window_over_no_panel_says_where_to_go(
    places: Places, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    window: Any = to_window(places)[0]
    monkeypatch.setattr(window, "_is_own", lambda event: True)  # Qt sets the source in a real drag only
    data = from_file_manager(places)
    QApplication.sendEvent(window, QDragEnterEvent(QPoint(300, 300), COPY, data, LEFT, NONE))
    assert "Drop it on the panel at the left" in text_over(window)
    with qtbot.assertNotEmitted(window.image_dropped, wait=50):
        QApplication.sendEvent(window, QDropEvent(QPointF(300, 300), COPY, data, LEFT, NONE))
    assert "Nothing takes an image here" in window.banner.text()
    window.add_room(RoomEntry("Models", "stack", "Models", QWidget))
    window.show_room("Models")
    QApplication.sendEvent(window, QDragEnterEvent(QPoint(300, 300), COPY, data, LEFT, NONE))
    assert "Hold it over Generate" in text_over(window)


def test_an_own_image_dropped_anywhere_on_the_panel_is_started_from(
    places: Places, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, data = places.panel(), from_file_manager(places)
    enter = QDragEnterEvent(QPoint(50, 50), COPY, data, LEFT, NONE)
    QApplication.sendEvent(panel, enter)
    assert not enter.isAccepted(), "the window opens what comes from other programs"
    monkeypatch.setattr(DropTarget, "_is_own", lambda self, event: True)  # Qt sets the source in a real drag only
    QApplication.sendEvent(panel, QDragEnterEvent(QPoint(50, 50), COPY, data, LEFT, NONE))
    assert text_over(panel) == "Drop to start from this image (img2img)"
    QApplication.sendEvent(panel, QDropEvent(QPointF(50, 50), COPY, data, LEFT, NONE))
    qtbot.waitUntil(lambda: panel.init_image.image_path() is not None)


def test_a_drag_that_ends_where_it_began_says_nothing(
    places: Places, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    window: Any = to_window(places)[0]
    monkeypatch.setattr(window, "_is_own", lambda event: True)
    monkeypatch.setattr(window, "_is_back", lambda event: event.position().x() < 200)
    for x, said in ((100, False), (300, True)):
        data = from_file_manager(places)
        QApplication.sendEvent(window, QDragEnterEvent(QPoint(x, 300), COPY, data, LEFT, NONE))
        QApplication.sendEvent(window, QDropEvent(QPointF(x, 300), COPY, data, LEFT, NONE))
        assert ("Nothing takes an image" in window.banner.text()) is said


def test_a_drag_held_over_the_button_of_a_room_shows_the_room(places: Places, qtbot: QtBot) -> None:
    window: Any = to_window(places)[0]
    window.add_room(RoomEntry("Other", "stack", "Other", QWidget))
    button = window._buttons.button(1)
    data = from_file_manager(places)
    QApplication.sendEvent(button, QDragEnterEvent(QPoint(5, 5), COPY, data, LEFT, NONE))
    assert window.current_room() == "Generate"
    qtbot.waitUntil(lambda: window.current_room() == "Other")


def test_an_image_in_the_clipboard_does_not_go_into_the_prompt(places: Places, qtbot: QtBot) -> None:
    panel = places.panel()
    for data in (from_browser(places), from_file_manager(places), from_text(places)):
        QApplication.clipboard().setMimeData(data)
        qtbot.keyClick(panel.prompt, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    assert panel.prompt.text() == ""
    QApplication.clipboard().setText("a cat")
    qtbot.keyClick(panel.prompt, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    assert panel.prompt.text() == "a cat"


def test_a_mask_that_cannot_be_read_is_named(places: Places) -> None:
    panel = places.panel()
    panel.init_image.set_image(places.other)
    said: list[str] = []
    panel.init_image.failed.connect(said.append)
    (places.folder / "broken.png").write_text("x")
    assert not panel.init_image.set_mask(places.folder / "broken.png") and "broken.png cannot be read" in said[0]
    assert panel.init_image.mask_label.text() == "No mask. Drop one here"


def test_a_dropped_mask_is_painted_in_the_editor(places: Places) -> None:
    half = places.folder / "half.png"
    mask = Image.new("L", (48, 32), 0)
    mask.paste(255, (0, 0, 24, 32))
    mask.save(half)
    dialog = MaskDialog(read_image(places.other), None, (0, 0, 0, 0))
    places.shown(dialog)
    dialog.load_mask(half)
    painted: QImage = dialog.editor.mask_image()
    assert painted.pixelColor(3, 3).lightness() == 255 and painted.pixelColor(40, 3).lightness() == 0
