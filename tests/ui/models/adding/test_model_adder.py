"""Adding models from files, folders and links, as a person does it in the Models room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from diffstudio.studio.library.link_download import RemoteFile
from diffstudio.ui.models.adding.link_dialog import LinkDialog
from diffstudio.ui.models.adding.model_adder import ModelAdder
from tests.studio.library.file_server import FileServer
from tests.studio.library.test_link_download import folder, lora, server
from tests.ui.accessibility import accessibility_problems

__all__ = ["folder", "lora", "server"]
pytestmark = pytest.mark.usefixtures("dressed", "home")
PATIENCE_MS = 30_000


@pytest.fixture
def adder(qtbot: QtBot, folder: Path) -> Iterator[ModelAdder]:
    window = QWidget()
    qtbot.addWidget(window)
    adder = ModelAdder(lambda: folder, window)
    adder.downloads.bar.setParent(window)
    window.show()
    yield adder
    adder.downloads.close()


@pytest.fixture
def dialog(adder: ModelAdder, server: FileServer, lora: bytes) -> LinkDialog:
    server.files["/models/ink.safetensors"] = lora
    return adder.ask_for_link(server.link("/models/ink.safetensors"))


def press(qtbot: QtBot, dialog: LinkDialog) -> None:
    qtbot.keyClick(dialog.link, Qt.Key.Key_Return)


def looked_up(qtbot: QtBot, dialog: LinkDialog) -> None:
    press(qtbot, dialog)
    qtbot.waitUntil(lambda: dialog.accept_button.text().startswith("Fetch"), timeout=PATIENCE_MS)


def test_a_link_is_looked_up_then_fetched_and_each_only_when_asked(
    qtbot: QtBot, adder: ModelAdder, dialog: LinkDialog, server: FileServer, folder: Path, lora: bytes
) -> None:
    assert not accessibility_problems(dialog) and dialog.accept_button.text() == "Look up"
    assert server.host in dialog.note.text() and server.asked == []
    press(qtbot, dialog)
    assert dialog.progress.isVisible() and not dialog.accept_button.isEnabled()
    qtbot.waitUntil(lambda: dialog.accept_button.text() == "Fetch (3.0 MB)", timeout=PATIENCE_MS)
    facts = dict(dialog.facts.facts())
    assert (facts["File"], facts["Size"], facts["From"]) == ("ink.safetensors", "3.0 MB", server.host)
    assert facts["To"] == str(folder) and not list(folder.iterdir())
    with qtbot.waitSignal(adder.fetched, timeout=PATIENCE_MS) as caught:
        press(qtbot, dialog)
        assert adder.downloads.bar.isVisible() and server.host in adder.downloads.bar.title.text()
    assert caught.args == [folder / "loras" / "ink.safetensors"] and caught.args[0].read_bytes() == lora
    assert not adder.downloads.bar.isVisible()


def test_editing_the_link_goes_back_to_looking_up(qtbot: QtBot, dialog: LinkDialog) -> None:
    looked_up(qtbot, dialog)
    dialog.link.setText("https://huggingface.co/org/repo")
    assert "page of huggingface.co" in dialog.problem.text() and not dialog.accept_button.isEnabled()
    assert dialog.accept_button.text() == "Look up" and not dialog.facts.isVisible()
    dialog.link.clear()
    assert not dialog.problem.isVisible() and not dialog.accept_button.isEnabled()
    dialog.reject()


def test_what_the_host_refuses_is_said_in_the_dialog(qtbot: QtBot, adder: ModelAdder, server: FileServer) -> None:
    dialog = adder.ask_for_link(server.link("/none.safetensors"))
    press(qtbot, dialog)
    qtbot.waitUntil(dialog.problem.isVisible, timeout=PATIENCE_MS)
    assert "has no file at this link" in dialog.problem.text() and dialog.accept_button.isEnabled()
    dialog.reject()


def test_a_file_larger_than_the_disk_is_not_offered(qtbot: QtBot, dialog: LinkDialog) -> None:
    dialog.show_remote(RemoteFile("https://example.org/a.ckpt", "example.org", "a.ckpt", 10**18))
    assert "not enough free space" in dialog.problem.text() and not dialog.accept_button.isEnabled()
    dialog.show_remote(RemoteFile("https://example.org/a.ckpt", "example.org", "a.ckpt", 0, served_by="cdn.example"))
    assert dialog.accept_button.text() == "Fetch" and dialog.accept_button.isEnabled()
    facts = dict(dialog.facts.facts())
    assert facts["From"] == "example.org (sent by cdn.example)" and facts["Size"] == "The host does not say"
    dialog.reject()


def test_a_download_is_paused_offered_again_resumed_and_cancelled(
    qtbot: QtBot, adder: ModelAdder, dialog: LinkDialog, server: FileServer, folder: Path
) -> None:
    bar = adder.downloads.bar
    looked_up(qtbot, dialog)
    server.stops_after = 2_000_000
    press(qtbot, dialog)
    qtbot.waitUntil(
        lambda: " of 3.0 MB" in bar.amount.text() and bar.line.fraction() not in (0.0, None), timeout=PATIENCE_MS
    )
    assert bar.pause.isVisible() and not bar.resume.isVisible() and not accessibility_problems(bar)
    qtbot.mouseClick(bar.pause, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(bar.resume.isVisible, timeout=PATIENCE_MS)
    server.released.set()
    assert "incomplete" in bar.title.text() and not adder.downloads.busy()

    again = ModelAdder(lambda: folder, adder.parent())  # as after a restart
    again.downloads.bar.setParent(adder.parent())
    again.downloads.show_unfinished()
    qtbot.waitUntil(again.downloads.bar.resume.isVisible, timeout=PATIENCE_MS)
    with qtbot.waitSignal(again.message, timeout=PATIENCE_MS) as caught:
        qtbot.mouseClick(again.downloads.bar.cancel, Qt.MouseButton.LeftButton)
    assert "ink.safetensors was cancelled" in caught.args[1]
    qtbot.waitUntil(lambda: not again.downloads.bar.isVisible())
    assert not list(folder.iterdir())
    again.downloads.close()

    with qtbot.waitSignal(adder.fetched, timeout=PATIENCE_MS):
        qtbot.mouseClick(bar.resume, Qt.MouseButton.LeftButton)  # from the beginning, since nothing is left


def test_a_running_download_is_cancelled_without_leaving_anything(
    qtbot: QtBot, adder: ModelAdder, dialog: LinkDialog, server: FileServer, folder: Path
) -> None:
    looked_up(qtbot, dialog)
    server.stops_after = 2_000_000
    press(qtbot, dialog)
    with qtbot.waitSignal(adder.message, timeout=PATIENCE_MS):
        qtbot.mouseClick(adder.downloads.bar.cancel, Qt.MouseButton.LeftButton)
    assert not list(folder.iterdir()) and not adder.downloads.bar.isVisible()


def test_a_download_that_is_no_model_is_reported_and_gone(
    qtbot: QtBot, adder: ModelAdder, server: FileServer, folder: Path
) -> None:
    server.files["/odd.safetensors"] = b"nothing of the kind"
    dialog = adder.ask_for_link(server.link("/odd.safetensors"))
    looked_up(qtbot, dialog)
    with qtbot.waitSignal(adder.message, timeout=PATIENCE_MS) as caught:
        press(qtbot, dialog)
    assert caught.args[0] == "bad" and "odd.safetensors" in caught.args[1]
    qtbot.waitUntil(lambda: not adder.downloads.bar.isVisible())
    assert not list(folder.iterdir())


def test_those_that_are_queued_follow_one_that_fails(
    qtbot: QtBot, adder: ModelAdder, server: FileServer, folder: Path, lora: bytes
) -> None:
    server.files |= {"/odd.safetensors": b"nothing of the kind", "/ink.safetensors": lora}
    downloads = adder.downloads
    with qtbot.waitSignals([downloads.failed, downloads.finished], timeout=PATIENCE_MS, order="strict"):
        for name in ("odd", "ink"):
            downloads.start(RemoteFile(server.link(f"/{name}.safetensors"), server.host, f"{name}.safetensors"))
    assert (folder / "loras" / "ink.safetensors").is_file()


def data(*texts: str) -> QMimeData:
    mime = QMimeData()
    mime.setUrls([QUrl(text) if "://" in text else QUrl.fromLocalFile(text) for text in texts])
    return mime


def test_files_folders_and_links_are_dropped_and_pasted(qtbot: QtBot, adder: ModelAdder, tmp_path: Path) -> None:
    file, odd = tmp_path / "a.safetensors", tmp_path / "notes.docx"
    heard: list[object] = []
    for signal in (adder.files_chosen, adder.folder_chosen, adder.message):
        signal.connect(lambda *values: heard.append(values))
    adder.add(data(str(file), str(tmp_path), str(odd)))
    assert heard == [
        ("warn", "Not model files, so not imported: notes.docx."), ([file],), (tmp_path,)
    ]  # fmt: skip
    assert not adder.accepts(data(str(odd))) and adder.accepts(data(str(tmp_path)))
    link = "https://huggingface.co/org/repo/blob/main/a.safetensors"
    text = QMimeData()
    text.setText(link)
    QGuiApplication.clipboard().setMimeData(text)
    adder.paste()
    dialog = next(each for each in adder.parent().findChildren(LinkDialog) if each.isVisible())
    assert dialog.link.text() == link and "huggingface.co is asked" in dialog.note.text()
    dialog.reject()
    QGuiApplication.clipboard().setText("a red apple")
    with qtbot.waitSignal(adder.message) as said:
        adder.paste()
    assert "neither model files nor a link" in said.args[1]
    assert adder.ask_for_link().link.text() == "", "what is no link is not put into the field"


def test_the_menu_offers_all_three_with_their_keys(qtbot: QtBot, adder: ModelAdder) -> None:
    menu = adder.menu()
    assert [action.text() for action in menu.actions()] == [
        "Files…\tCtrl+O", "Folder…\tCtrl+Shift+O", "From link…\tCtrl+L"
    ]  # fmt: skip
    menu.close()
    for ask, chosen in ((adder.ask_for_files, adder.files_chosen), (adder.ask_for_folder, adder.folder_chosen)):
        picker = ask()
        with qtbot.waitSignal(chosen):
            picker.filesSelected.emit(["/m/a.ckpt"])
            picker.fileSelected.emit("/m/a.ckpt")
        picker.reject()
