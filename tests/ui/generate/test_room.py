"""The Generate room as a person sees it: events in, pictures and words out, intents as signals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import Cancelled, Failed, Finished, ImageSaved, Loading, Paused, Resumed, Started
from diffstudio.studio.jobs.job_records import PendingJobs, QueuedJob
from diffstudio.studio.prompts.wildcards import expand
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.generate.job_controls import JobControls
from diffstudio.ui.generate.queue_and_history import RecentImage
from diffstudio.ui.generate.room import GenerateRoom
from diffstudio.ui.widgets.helpers import ElidedLabel
from diffstudio.ui.widgets.images import copy_and_drag
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from tests.ui.samples import checkpoint, picture, stepped, whole_job

pytestmark = pytest.mark.usefixtures("dressed")
REQUEST = GenerateRequest("red apple", steps=8, seed=100)


@pytest.fixture
def room(qtbot: QtBot) -> GenerateRoom:
    room = GenerateRoom()
    qtbot.addWidget(room)
    room.panel.background_work_requested.connect(lambda work, done: done(work()))
    room.resize(1360, 880)
    room.show()
    qtbot.waitExposed(room)
    room.set_checkpoints([checkpoint()])
    return room


def show_pending(room: GenerateRoom, jobs: list[QueuedJob]) -> None:
    room.set_pending(PendingJobs(jobs, len(jobs)))


def run(room: GenerateRoom, upto: int, request: GenerateRequest = REQUEST, job: int = 1) -> None:
    room.handle_event(Started(job, request))
    for index in range(1, upto + 1):
        room.handle_event(stepped(job, index, request.steps, request.count))


def test_it_invites_before_anything_is_made(qtbot: QtBot, room: GenerateRoom) -> None:
    assert room.empty.isVisible()
    with qtbot.waitSignal(room.generate_requested):
        room.empty.button.click()
    room.set_checkpoints([])
    with qtbot.waitSignal(room.train_room_requested):
        room.empty.button.click()


CAPTIONS = {"words": {"red": 3, "apple": 1, "rocket": 1}, "examples": ["red apple", "rocket & moon", "a_b__c__"]}
CAPTIONED = {"diffstudio.captions": json.dumps(CAPTIONS)}


def test_the_empty_room_offers_prompts_that_the_checkpoint_has_learnt(qtbot: QtBot, room: GenerateRoom) -> None:
    assert room.empty.example_buttons == []  # nothing is known of this one
    captioned = checkpoint("captioned", metadata=CAPTIONED)
    room.set_checkpoints([captioned, checkpoint("other")])
    room.choose_checkpoint(captioned)
    assert [button.text() for button in room.empty.example_buttons] == ["red apple", "rocket && moon", "a_b__c__"]
    room.set_checkpoints([captioned, checkpoint("other")])  # a rescan builds no second row
    assert len(room.empty.example_buttons) == 3
    for button, prompt in zip(room.empty.example_buttons, ("red apple", "rocket & moon", r"a_b\_\_c\_\_"), strict=True):
        qtbot.waitUntil(button.isVisible)
        assert button.accessibleName().startswith("Example: ")
        button.click()
        assert room.panel.prompt.text() == prompt and expand(prompt, "0") == button.text().replace("&&", "&")
    room.choose_checkpoint(checkpoint("other"))
    assert room.empty.example_buttons == []


@pytest.mark.parametrize(
    ("conditioning", "first"),
    [
        (Conditioning.TEXT, "Describe the image"),
        (Conditioning.CLASS, "Choose a class"),
        (Conditioning.NONE, "Press Generate."),
    ],
)
def test_the_empty_canvas_asks_for_what_the_checkpoint_takes(
    room: GenerateRoom, conditioning: Conditioning, first: str
) -> None:
    classes = ("zero", "one") if conditioning is Conditioning.CLASS else ()
    room.set_checkpoints([checkpoint("model", conditioning=conditioning, classes=classes)])
    assert room.empty.text.text().startswith(first)


def test_a_picture_is_watched_from_noise_to_file(room: GenerateRoom) -> None:
    room.handle_event(Started(1, REQUEST))
    assert room.canvas.isVisible() and room.controls.stop.isVisible()
    room.handle_event(Loading(1, "Loading Starter", 0.4))
    assert room.status.text() == "Loading Starter… 40%"
    room.handle_event(stepped(1, 3, 8))
    assert room.status.text() == "Step 3 of 8 · σ 1.25 · 0.04 s/step · 1 s left"
    assert room.progress.fraction() == pytest.approx(3 / 8)
    assert room.canvas.image().pixelColor(0, 0).red() == 30
    room.handle_event(stepped(1, 8, 8))
    room.handle_event(ImageSaved(1, 0, Path("/images/a.png"), picture(200)))
    room.handle_event(Finished(1, 1.25))
    assert room.canvas.path() == Path("/images/a.png")
    assert room.status.text() == "1 image · 1.2 s"
    assert not room.controls.stop.isVisible()
    assert [thumb.recent_image.path for thumb in room.right.thumbs] == [Path("/images/a.png")]


def test_all_that_a_request_names_and_is_not_here_is_said_at_once(room: GenerateRoom) -> None:
    room.use_settings(GenerateRequest("a cat", checkpoint="dreams", vae="soft", enlarge=2, upscaler="4x-sharp"))
    for name in ("dreams", "soft", "4x-sharp"):
        assert f"“{name}” is missing" in room.banner.text()
    room.banner.hide()
    room.use_settings(replace(REQUEST, checkpoint="starter"))
    assert not room.banner.isVisible()


def test_a_job_that_waits_for_the_engine_is_not_met_with_an_invitation(room: GenerateRoom) -> None:
    show_pending(room, [QueuedJob(1, REQUEST, 0, 0)])
    assert not room.empty.isVisible()
    assert (room.title.text(), room.status.text(), room.progress.fraction()) == ("red apple", "Loading…", None)
    room.set_pending(PendingJobs([], 0))
    assert room.empty.isVisible()


def test_events_of_other_jobs_change_nothing(room: GenerateRoom) -> None:
    run(room, 3)
    room.handle_event(stepped(99, 7, 8))
    room.handle_event(Finished(99, 1.0))
    assert room.status.text().startswith("Step 3 of 8")
    assert room.controls.stop.isVisible()


def test_pause_resume_and_stop_by_mouse_and_keyboard(qtbot: QtBot, room: GenerateRoom) -> None:
    run(room, 3, job=7)
    with qtbot.waitSignal(room.pause_requested) as asked:
        room.controls.pause.click()
    assert asked.args == [7]
    room.handle_event(Paused(7))
    assert room.status.text() == "Paused at step 3 of 8"
    assert room.controls.pause.text() == "Resume"
    with qtbot.waitSignal(room.resume_requested):
        qtbot.keyClick(room, Qt.Key.Key_P, Qt.KeyboardModifier.ControlModifier)
    room.handle_event(Resumed(7))
    assert room.controls.pause.accessibleName() == "Pause"
    with qtbot.waitSignal(room.stop_requested):
        qtbot.keyClick(room, Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    assert room.status.text() == "Stopping…"
    room.handle_event(Cancelled(7))
    assert room.status.text() == "Stopped at step 3 of 8"
    assert "not saved" in room.canvas._note


def test_a_stopped_job_can_be_gone_on_with_and_an_earlier_step_restarted(qtbot: QtBot, room: GenerateRoom) -> None:
    run(room, 5)
    room.handle_event(Cancelled(1))
    room.panel.prompt.set_text("green apple")
    room.panel.sampling.cfg_scale.set_value(6.0)
    assert room.controls.restart.text() == "Resume from step 6"
    with qtbot.waitSignal(room.restart_requested) as asked:
        room.controls.restart.click()
    assert asked.args == [1, 6, replace(REQUEST, prompt="green apple", guidance=6.0)]
    qtbot.keyClick(room.filmstrip, Qt.Key.Key_Left)
    assert room.controls.restart.text() == "Restart from step 4"


def test_the_filmstrip_is_looked_through_after_the_fact(qtbot: QtBot, room: GenerateRoom) -> None:
    for event in whole_job(1, REQUEST):
        room.handle_event(event)
    assert not room.controls.restart.isVisible()  # nothing is left to make from the last step on
    for _ in range(3):
        qtbot.keyClick(room.filmstrip, Qt.Key.Key_Left)
    assert room.canvas.scrubbing()
    assert room.canvas.image().pixelColor(0, 0).red() == 50
    assert room.canvas._note == "Preview after step 5 of 8"
    assert room.controls.restart.isVisible()
    room.controls.restart.setFocus()
    qtbot.waitUntil(room.controls.restart.hasFocus)
    with qtbot.waitSignal(room.restart_requested):
        qtbot.keyClick(room.controls.restart, Qt.Key.Key_Return)
    assert room.filmstrip.hasFocus()  # not what comes after the button, which is hidden once the job starts
    qtbot.keyClick(room.filmstrip, Qt.Key.Key_End)
    assert not room.canvas.scrubbing()
    assert room.canvas.path() == Path("/images/1-0.png")


def test_steps_that_were_not_drawn_are_in_the_filmstrip_at_the_end(qtbot: QtBot) -> None:
    film = [(picture(100 + step),) for step in range(8)]
    room = GenerateRoom(lambda job: film if job == 1 else [])
    qtbot.addWidget(room)
    room.handle_event(Started(1, REQUEST))
    room.handle_event(stepped(1, 8, 8))
    room.handle_event(Finished(1, 1.0))
    assert room.filmstrip.previews_at(4)[0][0, 0, 0] == 103


def test_several_pictures_have_their_own_seed_and_strip(room: GenerateRoom) -> None:
    for event in whole_job(1, replace(REQUEST, count=4)):
        room.handle_event(event)
    assert len(room.canvas.cells()) == 4
    assert len(room.right.thumbs) == 4
    room.canvas._choose(2)
    shown = room._request_shown()
    assert shown is not None and (shown.seed, shown.count) == (102, 1)
    assert room.filmstrip._image == 2


def test_a_large_request_in_batches_shows_which(room: GenerateRoom) -> None:
    room.handle_event(Started(1, replace(REQUEST, count=6)))
    room.handle_event(stepped(1, 2, 8, count=6, first=0, batch=4))
    assert room.status.text().startswith("Image 1–4 of 6 · Step 2 of 8")
    room.handle_event(stepped(1, 4, 8, count=6, first=4, batch=2))
    assert room.progress.fraction() == pytest.approx((4 + 2 * 4 / 8) / 6)


def test_without_previews_the_progress_is_still_told(room: GenerateRoom) -> None:
    room.handle_event(Started(1, REQUEST))
    room.handle_event(replace(stepped(1, 4, 8), previews=()))
    assert room.progress.fraction() == pytest.approx(0.5)
    assert room.status.text().startswith("Step 4 of 8")
    room.handle_event(replace(stepped(1, 4, 8, count=6, first=2, batch=3), previews=()))
    assert room.progress.fraction() == pytest.approx((2 + 1.5) / 6)
    assert room.status.text().startswith("Image 3–5 of 6")


def test_a_failure_is_told_in_the_window_and_can_be_tried_again(qtbot: QtBot, room: GenerateRoom) -> None:
    run(room, 2)
    room.handle_event(
        Failed(1, StorageProblem("The picture could not be saved", "no space is left", "Free some space"))
    )
    assert room.banner.isVisible()
    assert room.banner.text() == "The picture could not be saved: no space is left. Free some space."
    assert room.panel.button.isEnabled()
    with qtbot.waitSignal(room.generate_requested) as asked:
        room.banner.action.click()
    assert asked.args == [REQUEST]
    assert not room.banner.isVisible()


def test_another_picture_can_be_looked_at_meanwhile(qtbot: QtBot, room: GenerateRoom, tmp_path: Path) -> None:
    file = tmp_path / "old.png"
    Image.fromarray(picture(123, 32)).save(file)
    old = RecentImage(file, numpy_to_qimage(picture(123)), GenerateRequest("old one", seed=5))
    room.set_recent([old], 1)
    run(room, 3)
    room.right.thumbs[0].clicked.emit()
    assert room.title.text() == "old one"
    room.handle_event(stepped(1, 4, 8))
    assert room.canvas.path() == file  # the job goes on without pushing it aside
    qtbot.mouseClick(room.right.running, Qt.MouseButton.LeftButton)
    assert room.title.text() == "red apple"
    assert room.canvas.image().pixelColor(0, 0).red() == 40


def test_saved_images_are_still_there_after_looking_at_another(
    qtbot: QtBot, room: GenerateRoom, tmp_path: Path
) -> None:
    file, saved = tmp_path / "old.png", tmp_path / "saved.png"
    Image.fromarray(picture(123, 32)).save(file)
    room.set_recent([RecentImage(file, numpy_to_qimage(picture(123)), GenerateRequest("old one", seed=5))], 1)
    run(room, 3)
    room.handle_event(ImageSaved(1, 0, saved, picture(200)))
    room.right.thumbs[1].clicked.emit()
    assert room.canvas.path() == file
    qtbot.mouseClick(room.right.running, Qt.MouseButton.LeftButton)
    assert room.canvas.path() == saved and room.canvas.image().pixelColor(0, 0).red() == 200


def test_of_two_recent_images_chosen_one_after_the_other_the_second_is_shown(qtbot: QtBot, tmp_path: Path) -> None:
    """They are read in a thread, which may take longer for the first."""
    room = GenerateRoom()
    qtbot.addWidget(room)
    room.set_checkpoints([checkpoint()])
    waiting: list[Callable[[], None]] = []
    room.panel.background_work_requested.connect(lambda work, done: waiting.append(lambda: done(work())))
    for name, level in (("a.png", 10), ("b.png", 20)):
        Image.fromarray(picture(level, 32)).save(tmp_path / name)
    recent = [RecentImage(tmp_path / name, numpy_to_qimage(picture(1))) for name in ("a.png", "b.png")]
    room.set_recent(recent, 2)
    for thumb in room.right.thumbs:
        thumb.clicked.emit()
    for finish in reversed(waiting):
        finish()
    assert room.canvas.path() == tmp_path / "b.png"
    waiting.clear()
    room.right.thumbs[0].clicked.emit()
    run(room, 1)  # a job that starts meanwhile is shown instead
    waiting[0]()
    assert room.canvas.path() is None and room.canvas.image().pixelColor(0, 0).red() == 10


def test_a_picture_that_is_gone_is_said_so(room: GenerateRoom, tmp_path: Path) -> None:
    room.set_recent([RecentImage(tmp_path / "gone.png", numpy_to_qimage(picture(1)))], 1)
    room.right.thumbs[0].clicked.emit()
    assert "gone.png" in room.banner.text()
    (tmp_path / "gone.png").write_text("not an image")
    room.right.thumbs[0].clicked.emit()
    assert room.banner.text() == "gone.png cannot be read: it is not an image in a supported format."


def test_the_menu_of_a_picture_copies_saves_and_reuses(
    room: GenerateRoom, tmp_path: Path, qapp: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(picture(9, 32)).save(file)
    request = GenerateRequest("ghost", seed=5, steps=9)
    menu = room.image_actions.menu([ImageTarget(file, numpy_to_qimage(picture(9)), request)])
    actions = {action.text(): action for action in menu.actions() if action.text()}
    assert list(actions) == [
        "Use settings",
        "Copy prompt",
        "Use for img2img",
        "Inpaint or outpaint…",
        "Upscale…",
        "Copy image",
        "Save as…",
        "Show in folder",
        "Star",
        "Compare with…",
        "Delete",
    ]
    actions["Copy image"].trigger()
    data = qapp.clipboard().mimeData()
    assert data.hasImage() and data.urls()[0].toLocalFile() == str(file)
    actions["Use settings"].trigger()
    assert (room.panel.request().prompt, room.panel.request().seed, room.panel.request().steps) == ("ghost", 5, 9)
    with monkeypatch.context() as patch:
        patch.setattr(copy_and_drag, "show_in_folder", lambda path: False)
        actions["Show in folder"].trigger()
    assert room.banner.text() == f"No file manager could be opened. The path is {file}."
    actions["Copy prompt"].trigger()
    assert qapp.clipboard().text() == "ghost"
    bare = room.image_actions.menu([ImageTarget(image=numpy_to_qimage(picture(9)), is_preview=True)])
    assert [action.text() for action in bare.actions() if action.isEnabled() and action.text()] == [
        "Copy image",
        "Save as…",
    ]


def test_the_queue_is_shown_reordered_and_emptied(qtbot: QtBot, room: GenerateRoom) -> None:
    show_pending(
        room, [QueuedJob(5, GenerateRequest("one"), 0, 0), QueuedJob(6, GenerateRequest("two", count=3), 0, 0)]
    )
    first, second = room.right.cards
    assert not first.up.isEnabled() and not second.down.isEnabled()
    with qtbot.waitSignal(room.move_requested) as moved:
        second.up.click()
    assert moved.args == [6, -1]
    with qtbot.waitSignal(room.remove_requested) as removed:
        first.remove.click()
    assert removed.args == [5]
    show_pending(room, [QueuedJob(index, GenerateRequest("x" * 500), 0, 0) for index in range(2000)])
    assert len(room.right.cards) == 50
    cards = list(room.right.cards)
    show_pending(room, [QueuedJob(index, GenerateRequest("x" * 500), 0, 0) for index in range(2000)])
    assert room.right.cards == cards  # nothing has changed, so nothing is rebuilt
    room.set_pending(PendingJobs([], 0))
    assert room.right.cards == []


def test_queued_jobs_that_cannot_be_read_are_named(room: GenerateRoom) -> None:
    assert not room.right.unreadable.isVisible()
    room.set_pending(PendingJobs([], 0, unreadable=2))
    assert room.right.unreadable.isVisible() and room.right.unreadable.text().startswith("2 queued jobs cannot be read")
    room.set_pending(PendingJobs([], 0))
    assert not room.right.unreadable.isVisible()


def test_recent_pictures_stay_few(room: GenerateRoom) -> None:
    room.set_recent([RecentImage(Path(f"/{index}.png"), numpy_to_qimage(picture(1))) for index in range(100)], 100)
    for index in range(5):
        room.right.add_recent(RecentImage(Path(f"/new{index}.png"), numpy_to_qimage(picture(1))))
    assert len(room.right.thumbs) == 30
    assert room.right.thumbs[0].recent_image.path == Path("/new4.png")


def test_a_request_for_a_missing_checkpoint_is_taken_over_with_a_word(room: GenerateRoom) -> None:
    room.use_settings(GenerateRequest("ghost", checkpoint="gone"))
    assert "gone" in room.banner.text() and "All other settings were loaded." in room.banner.text()
    assert room.panel.prompt.text() == "ghost"
    room.use_settings(GenerateRequest("ghost", checkpoint="gone", steps=150))
    assert "gone" in room.banner.text() and "All other settings" not in room.banner.text()
    assert "Some settings were changed to what the panel offers: steps 150 → 100." in room.banner.text()


@pytest.mark.parametrize("width, height", [(880, 620), (1000, 640), (1360, 860)])
def test_nothing_is_cut_off_in_a_small_window(qtbot: QtBot, room: GenerateRoom, width: int, height: int) -> None:
    show_pending(room, [QueuedJob(5, GenerateRequest("x " * 200, count=64), 0, 0)])
    run(room, 5, replace(REQUEST, prompt="a castle " * 100))
    room.handle_event(Cancelled(1))
    room.show_message(
        "bad", "Something long to say about what happened and why, and about what can be done. " * 3, "Try again"
    )
    room.setMinimumSize(1, 1)  # as in the window, which decides for itself how small it may be
    room.resize(width, height)
    qtbot.waitUntil(lambda: room.width() == width)
    room.grab()
    for part in (
        room.panel,
        room.right,
        room.banner,
        room.canvas,
        room.filmstrip,
        room.controls.restart,
        room.controls.use_settings,
        room.panel.button,
        room.title,
        room.status,
    ):
        corner = part.mapTo(room, part.rect().bottomRight())
        assert part.isVisible() and part.width() > 20
        assert corner.x() < width and corner.y() < height, part.accessibleName()
    assert room.canvas.height() >= 120
    restart = room.controls.restart
    assert restart.width() >= restart.fontMetrics().horizontalAdvance(restart.text())


def test_the_queue_says_less_than_the_head_of_the_picture(room: GenerateRoom) -> None:
    run(room, 3)
    assert "Step 3 of 8 · 1 s left" in [part.text() for part in room.right.running.findChildren(ElidedLabel)]


def test_the_focus_of_a_button_that_goes_is_not_left_to_chance(qtbot: QtBot, room: GenerateRoom) -> None:
    run(room, 3, job=7)
    room.activateWindow()
    room.controls.stop.setFocus()
    qtbot.waitUntil(room.controls.stop.hasFocus)
    room.handle_event(Cancelled(7))
    qtbot.waitUntil(room.canvas.hasFocus)


def test_buttons_below_the_image_show_their_texts_where_these_fit(qtbot: QtBot) -> None:
    place, controls = QWidget(), JobControls()
    qtbot.addWidget(place)
    controls.setParent(place)
    place.show()
    controls.use_settings.hide()
    controls.show_restart(None)
    controls.show_job(busy=True, paused=False)
    controls.resize(300, 34)
    controls.show()
    assert (controls.pause.text(), controls.stop.text()) == ("Pause", "Stop")
    controls.resize(120, 34)
    qtbot.waitUntil(lambda: controls.width() == 120)
    assert controls.pause.text() == "" and controls.pause.accessibleName() == "Pause"
    controls.show_job(busy=True, paused=True)
    assert controls.pause.text() == "" and controls.pause.accessibleName() == "Resume"
    controls.resize(300, 34)
    assert controls.pause.text() == "Resume"
