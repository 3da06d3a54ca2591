"""The manual in its window: every page with its images, links that lead on, in the colours of the theme."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices, QTextTable
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from diffstudio import paths
from diffstudio.ui.help import manual_window
from diffstudio.ui.help.manual_window import ManualWindow, heading_anchor
from diffstudio.ui.widgets import theme
from tests.ui.accessibility import accessibility_problems

pytestmark = pytest.mark.usefixtures("dressed")
MANUAL = paths.resources() / "manual"
PAGES = sorted(path.name for path in MANUAL.glob("*.md"))


@pytest.fixture
def manual(qtbot: QtBot) -> Iterator[ManualWindow]:
    window = ManualWindow(MANUAL)
    qtbot.addWidget(window)
    window.resize(700, 500)
    window.show_page("generate.md")
    window.bring_to_front()
    qtbot.waitExposed(window)
    yield window


def images_of(manual: ManualWindow) -> dict[str, float]:
    """The name and the width of each image on the page."""
    formats = [
        text_format.toImageFormat()
        for block in manual_window._blocks(manual.page.document())
        for _, _, text_format in manual_window._fragments(block)
        if text_format.isImageFormat()
    ]
    return {image.name(): image.width() for image in formats}


def test_every_page_is_offered_and_shown(manual: ManualWindow) -> None:
    offered = [name for name, _ in manual_window._pages(MANUAL)]
    assert sorted(offered) == PAGES and manual.pages.count() == len(PAGES)
    assert manual.pages.itemText(1) == "Generate images"
    assert manual.pages.itemText(0) == "Contents"
    for name in PAGES:
        manual.show_page(name)
        assert manual.current_page() == name and manual.pages.value() == name
        assert len(manual.page.toPlainText()) > 200
        for image, width in images_of(manual).items():
            assert (MANUAL / image).is_file() and 80 <= width <= manual.page.viewport().width()


def test_images_follow_the_width_of_the_window(qtbot: QtBot, manual: ManualWindow) -> None:
    (narrow,) = images_of(manual).values()
    manual.resize(1000, 500)
    qtbot.waitUntil(lambda: next(iter(images_of(manual).values())) > narrow)


def test_links_lead_to_pages_and_headings_and_back(qtbot: QtBot, manual: ManualWindow) -> None:
    assert not manual.back.isEnabled()
    manual.page.anchorClicked.emit(QUrl("figures.md"))
    assert manual.current_page() == "figures.md" and manual.back.isEnabled()
    manual.page.anchorClicked.emit(QUrl("generate.md#img2img"))
    assert manual.current_page() == "generate.md" and manual.page.verticalScrollBar().value() > 0
    qtbot.keyClick(manual.page, Qt.Key.Key_Left, Qt.KeyboardModifier.AltModifier)
    assert manual.current_page() == "figures.md" and manual.forward.isEnabled()
    qtbot.keyClick(manual.page, Qt.Key.Key_Right, Qt.KeyboardModifier.AltModifier)
    assert manual.current_page() == "generate.md"
    qtbot.keyClick(manual.page, Qt.Key.Key_Home, Qt.KeyboardModifier.AltModifier)
    assert manual.current_page() == "README.md"
    manual.page.anchorClicked.emit(QUrl("../starter/README.md"))
    assert "starter" in manual.page.source().toLocalFile()
    assert manual.pages.shown_text() == manual.page.document().firstBlock().text() != ""
    manual.page.anchorClicked.emit(QUrl("no-such-page.md"))
    assert "starter" in manual.page.source().toLocalFile()
    qtbot.keyClick(manual.page, Qt.Key.Key_Home, Qt.KeyboardModifier.AltModifier)  # a file of the same name
    assert manual.current_page() == manual.pages.value() == "README.md"
    assert "starter" not in manual.page.source().toLocalFile()


def test_other_files_and_web_pages_open_outside(manual: ManualWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    manual.page.anchorClicked.emit(QUrl("https://example.org/a"))
    manual.page.anchorClicked.emit(QUrl("images/generate.png"))
    manual.page.anchorClicked.emit(QUrl("/etc/hostname.md"))
    assert opened[0] == "https://example.org/a" and opened[1].endswith("images/generate.png") and len(opened) == 2
    assert manual.current_page() == "generate.md"


def test_every_link_with_a_heading_finds_it() -> None:
    import re

    for page in MANUAL.glob("*.md"):
        for target, anchor in re.findall(r"\]\(([\w.]*)#([^)]+)\)", page.read_text("utf-8")):
            text = (MANUAL / (target or page.name)).read_text("utf-8")
            anchors = {heading_anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
            assert anchor in anchors, f"{page.name}: {target}#{anchor}"


def test_it_follows_the_theme_and_keeps_its_place(qtbot: QtBot, qapp: QApplication, manual: ManualWindow) -> None:
    def border() -> str:
        tables = [each for each in manual.page.document().rootFrame().childFrames() if isinstance(each, QTextTable)]
        return str(tables[0].format().toTableFormat().borderBrush().color().name())

    manual.page.verticalScrollBar().setValue(300)
    assert border() == theme.DARK.line
    theme.apply(qapp, "light")
    qtbot.waitUntil(lambda: border() == theme.LIGHT.line)
    assert manual.page.verticalScrollBar().value() == 300
    theme.apply(qapp, "dark")
    qtbot.waitUntil(lambda: border() == theme.DARK.line)


def test_it_follows_the_size_of_the_text(manual: ManualWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    larger = theme.font(20)
    monkeypatch.setattr(theme, "font", lambda *_, **__: larger)
    manual.page.render_again()
    assert manual.page.document().defaultFont().pixelSize() == 20


def test_a_text_is_found_on_the_page(qtbot: QtBot, manual: ManualWindow) -> None:
    qtbot.keyClick(manual.page, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    assert manual.search.hasFocus()
    qtbot.keyClicks(manual.search, "filmstrip")
    qtbot.keyClick(manual.search, Qt.Key.Key_Return)
    first = manual.page.textCursor().selectionStart()
    assert manual.page.textCursor().selectedText().lower() == "filmstrip"
    for _ in range(20):  # past the last one, from the top again
        manual.find_next()
    assert manual.page.textCursor().selectedText().lower() == "filmstrip" and first > 0
    manual.search.setText("xyzzy")
    manual.find_next()
    assert manual.found.text() == "Not found" and manual.search.property("wrong")
    manual.search.clear()
    assert manual.found.text() == "" and not manual.search.property("wrong")


def test_it_is_used_by_keyboard(qtbot: QtBot, manual: ManualWindow) -> None:
    assert not accessibility_problems(manual)
    bar = manual.page.verticalScrollBar()
    bar.setValue(0)
    manual.page.setFocus()
    qtbot.keyClick(manual.page, Qt.Key.Key_PageDown)
    qtbot.waitUntil(lambda: bar.value() > 0)
    qtbot.keyClick(manual.page, Qt.Key.Key_Escape)
    assert not manual.isVisible()
