"""The card that says whether a run is learning, not copying."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio.studio.runs.history import HistoryView, RunHistory
from diffstudio.training.run.events import RunEvent, RunFinished, RunHeldOut, RunSamples, RunVerdict
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.train.run.learning_card import LearningCard
from diffstudio.ui.train.run.nearest_images import most_alike, read_pairs

COPYING = RunVerdict(20, "copying", "It copies.", ("2 of 4 samples are copies", "held-out loss rising"), 10, ("b.png",))


@pytest.fixture
def card(qtbot: QtBot) -> Iterator[LearningCard]:
    tasks = Tasks()
    card = LearningCard(tasks)
    qtbot.addWidget(card)
    yield card
    tasks.close()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("c.png", "green")):
        Image.new("RGB", (20, 20), colour).save(folder / name)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with a sheet of 2 x 2 samples of 8 px: red, blue, green, white."""
    (tmp_path / "run" / "samples").mkdir(parents=True)
    sheet = Image.new("RGB", (16, 16), "white")
    for index, colour in enumerate(("red", "blue", "green")):
        sheet.paste(Image.new("RGB", (8, 8), colour), (8 * (index % 2), 8 * (index // 2)))
    sheet.save(tmp_path / "run" / "samples" / "20-ema.png")
    return RunFolder(tmp_path / "run")


def samples(nearest: tuple[str, ...] = ("a.png", "b.png", "c.png", "gone.png")) -> RunSamples:
    prompts = ("one", "two", "three", "")
    return RunSamples(20, "samples/20-ema.png", "", 2, 2, 8, prompts, nearest, (0.5, 0.1, 0.9, 0.3), (1,))


def view(*events: RunEvent) -> HistoryView:
    history = RunHistory()
    history.take(events)
    return history.view()


def test_copies_come_first_and_then_what_is_nearest() -> None:
    assert most_alike(samples(), 3) == [1, 3, 0]
    assert most_alike(samples(()), 3) == []  # nothing is known of a run of an older version


def test_pairs_of_a_sample_and_its_training_image(run: RunFolder, images: Path) -> None:
    first, second, third = read_pairs(run, images, samples(), 3, 16)
    assert first.copied and first.prompt == "two" and first.text() == "A copy of b.png · distance ratio 0.10"
    assert first.sample.pixelColor(4, 4) == first.nearest.pixelColor(8, 8) and first.path == images / "b.png"
    assert second.nearest.isNull() and not second.copied  # its file is gone
    assert third.text() == "Nearest training image: a.png · distance ratio 0.50"


def test_no_file_outside_of_the_image_folder_is_read(run: RunFolder, images: Path) -> None:
    Image.new("RGB", (8, 8)).save(images.parent / "private.png")
    (pair,) = read_pairs(run, images, samples(("../private.png",)), 1, 16)
    assert pair.nearest.isNull()


def test_a_verdict_with_its_evidence_and_images(card: LearningCard, qtbot: QtBot, run: RunFolder, images: Path) -> None:
    card.show_history(view(samples(), COPYING), run, images)
    assert not card.isHidden() and card.text.text() == "It copies."
    assert "2 of 4 samples are copies" in card.evidence.text() and "held-out loss rising" in card.evidence.text()
    qtbot.waitUntil(lambda: len(card.pairs()) == 6)
    assert "two" in card.pairs()[0].accessibleName() and "A copy of b.png" in card.pairs()[1].accessibleName()
    assert card.pairs()[1].target.path == images / "b.png"  # from which the image's menu works
    card.show_history(view(COPYING), run, images)
    assert card.pairs() == []


def test_how_a_run_ended_takes_the_place_of_what_it_was_judged_before(card: LearningCard) -> None:
    finished = RunFinished(30, "latest", True, "It is ready.", "ready", ("no copies",), 20)
    card.show_history(view(COPYING, finished))
    assert card.text.text() == "It is ready." and "no copies" in card.evidence.text()


def test_without_a_verdict_the_held_out_loss_says_what_it_can(card: LearningCard) -> None:
    card.show_history(view())
    assert card.isHidden()
    card.show_history(view(*(RunHeldOut(step, 1 / step) for step in range(1, 9))))
    assert not card.isHidden() and "still falling" in card.text.text() and card.evidence.isHidden()
    card.show_history(None)
    assert card.isHidden()
