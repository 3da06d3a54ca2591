"""Images deleted and brought back from the menus of other rooms, where one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from pytestqt.qtbot import QtBot

from diffstudio.errors import StorageProblem
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.records import GalleryImage
from diffstudio.studio.requests import GenerateRequest
from diffstudio.ui.tasks import Tasks
from diffstudio.ui.widgets.images.image_menu import ImageTarget
from diffstudio.ui.wiring.image_menus import ImageMenus


class Window:
    """What the menus use of the main window."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, ...]] = []

    def show_message(self, kind: str, text: str, action: str = "", act: Callable[[], object] = lambda: None) -> None:
        self.messages.append((kind, text, action))
        self.press = act


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
    yield gallery
    gallery.close()


@pytest.fixture
def tasks(qtbot: QtBot) -> Iterator[Tasks]:
    tasks = Tasks()
    yield tasks
    tasks.close()


def test_one_that_fails_does_not_hide_the_others(
    qtbot: QtBot, tasks: Tasks, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(name)) for name in ("one", "two", "three")]
    ids = [image.id for image in images]
    window = Window()
    menus = ImageMenus(tasks, window, lambda: gallery)  # type: ignore[arg-type]
    deleted, restored = list[list[int]](), list[list[GalleryImage]]()
    menus.deleted.connect(deleted.append)
    menus.restored.connect(restored.append)
    trash = gallery._trash

    def failing_put(image_id: int, put: object = trash.put) -> bool:
        if image_id == ids[1]:
            raise StorageProblem("two.png could not be deleted", "the disk is full")
        assert callable(put)
        return bool(put(image_id))

    with monkeypatch.context() as patch:
        patch.setattr(trash, "put", failing_put)
        tasks.start(menus._delete([ImageTarget(record=image) for image in images]))
        qtbot.waitUntil(lambda: not tasks.busy())
    assert deleted == [[ids[0]]] and gallery.trashed() == [ids[0]]
    assert window.messages == [("bad", "two.png could not be deleted: the disk is full.", "Undo")]

    gallery.delete([ids[1]])

    def failing_restore(image_id: int, restore: object = trash.restore) -> bool:
        if image_id == ids[1]:
            raise StorageProblem("two.png could not be brought back", "the disk is full")
        assert callable(restore)
        return bool(restore(image_id))

    with monkeypatch.context() as patch:
        patch.setattr(trash, "restore", failing_restore)
        tasks.start(menus._restore(ids[:2]))
        qtbot.waitUntil(lambda: not tasks.busy())
    assert [[image.id for image in each] for each in restored] == [[ids[0]]]
    assert window.messages[-1][0] == "bad" and "two.png could not be brought back" in window.messages[-1][1]


def test_the_button_of_the_message_undoes_a_deletion_once(qtbot: QtBot, gallery: Gallery, tasks: Tasks) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    window = Window()
    menus = ImageMenus(tasks, window, lambda: gallery)  # type: ignore[arg-type]
    tasks.start(menus._delete([ImageTarget(record=image)]))
    qtbot.waitUntil(lambda: not tasks.busy())
    assert gallery.trashed() == [image.id] and window.messages[-1][2] == "Undo"
    undo = window.press
    undo()
    qtbot.waitUntil(lambda: not tasks.busy())
    assert gallery.trashed() == [] and window.messages[-1] == ("info", "", "")
    undo()
    assert not tasks.busy()
