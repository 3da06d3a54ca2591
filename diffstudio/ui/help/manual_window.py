"""The manual in a window of the program: Markdown pages with images and links between them, read offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from PySide6.QtCore import QEvent, QSize, Qt, QUrl
from PySide6.QtGui import (
    QDesktopServices,
    QFontDatabase,
    QResizeEvent,
    QTextBlock,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QTextFormat,
    QTextFrameFormat,
    QTextLength,
    QTextTable,
)
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QTextBrowser, QVBoxLayout, QWidget

from diffstudio.ui.widgets import actions, icons, shortcuts, theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.dialogs import available_size, within_screen
from diffstudio.ui.widgets.helpers import describe, label, set_style_property
from diffstudio.ui.widgets.images.image_reading import image_size
from diffstudio.ui.widgets.inputs.combo_box import ComboBox

CONTENTS = "README.md"
_MARGIN = 24  # px


class ManualPage(QTextBrowser):
    """Shows a page in the colours and the font of the theme, and follows links within the folder above the manual."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._rendered = folder, ("", 0)
        self.setFrameShape(QTextBrowser.Shape.NoFrame)
        self.setOpenLinks(False)  # what a link may open is decided here
        self.anchorClicked.connect(self._follow)
        describe(self, "Manual page", " ")

    def open(self, url: QUrl) -> None:
        """Show a page, or a heading of one, and remember it for `backward`."""
        self.setSource(url, QTextDocument.ResourceType.MarkdownResource)
        self._render()
        if url.hasFragment():
            self.scrollToAnchor(url.fragment())

    def render_again(self) -> None:
        """Show the same page in the present theme and font, at the same place."""
        if self.source().isEmpty() or self._rendered == _look():
            return
        place = self.verticalScrollBar().value()
        self.reload()
        self._render()
        self.verticalScrollBar().setValue(place)

    def go(self, forward: bool) -> None:
        """Back or forward in what was read."""
        self.forward() if forward else self.backward()
        self._render()

    def _follow(self, url: QUrl) -> None:
        target = self.source().resolved(url)
        path = Path(target.toLocalFile())
        if not target.isLocalFile():
            QDesktopServices.openUrl(target)  # in the browser, since the person clicked it
        elif path.suffix == ".md" and path.is_file() and self._folder.parent in path.resolve().parents:
            self.open(target)
        elif path.exists():
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))

    # How it looks

    def _render(self) -> None:
        """Qt's Markdown has no anchors at headings, and neither margins nor the theme's colours in tables and code."""
        self._rendered = _look()
        document = self.document()
        document.setDocumentMargin(_MARGIN)
        document.setDefaultFont(theme.font())
        for block in _blocks(document):
            self._render_block(block)
        for frame in document.rootFrame().childFrames():
            if isinstance(frame, QTextTable):
                table = frame.format().toTableFormat()
                table.setBorder(1)
                table.setBorderCollapse(True)
                table.setBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
                table.setBorderBrush(theme.colour("line"))
                table.setCellPadding(6)
                table.setCellSpacing(0)
                table.setWidth(QTextLength(QTextLength.Type.PercentageLength, 100))
                frame.setFormat(table)
        self._fit_images()

    def _render_block(self, block: QTextBlock) -> None:
        cursor = QTextCursor(block)
        cursor.movePosition(QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor)
        spacing = QTextBlockFormat()
        if block.blockFormat().headingLevel():
            anchor = QTextCharFormat()
            anchor.setAnchor(True)
            anchor.setAnchorNames([heading_anchor(block.text())])
            cursor.mergeCharFormat(anchor)
            spacing.setTopMargin(16 if block.blockNumber() else 0)
            spacing.setBottomMargin(6)
        elif block.blockFormat().hasProperty(QTextFormat.Property.BlockCodeFence):
            spacing.setBackground(theme.colour("raised"))
        elif not cursor.currentTable():
            spacing.setBottomMargin(8)
            spacing.setLineHeight(130, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
        cursor.mergeBlockFormat(spacing)
        fixed = QTextCharFormat()
        fixed.setFontFamilies(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont).families())
        fixed.setBackground(theme.colour("raised"))
        for start, length, text_format in _fragments(block):
            if text_format.fontFixedPitch():
                cursor.setPosition(start)
                cursor.setPosition(start + length, QTextCursor.MoveMode.KeepAnchor)
                cursor.mergeCharFormat(fixed)

    def _fit_images(self) -> None:
        """No image is wider than the page, nor larger than its file."""
        room = max(80, self.viewport().width() - 2 * _MARGIN - 8)
        for block in _blocks(self.document()):
            for start, length, text_format in _fragments(block):
                if text_format.isImageFormat():
                    image = text_format.toImageFormat()
                    size = image_size(Path(self.source().resolved(QUrl(image.name())).toLocalFile()))
                    width = min(room, size.width())
                    if image.width() != width:
                        image.setWidth(width)
                        image.setHeight(width * size.height() / size.width())
                        cursor = QTextCursor(self.document())
                        cursor.setPosition(start)
                        cursor.setPosition(start + length, QTextCursor.MoveMode.KeepAnchor)
                        cursor.setCharFormat(image)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._fit_images()


class ManualWindow(QWidget):
    """A window beside the program's: the page, and a bar to go back, forward, to another page, or to find a text."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.setObjectName("background")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setWindowTitle("diffstudio manual")
        self.setWindowIcon(icons.application_icon())
        self.setMinimumSize(420, 320)
        self.resize(within_screen(QSize(860, 760), available_size(self)))
        self.back = SecondaryButton("", "arrow-left", f"Previous page ({shortcuts.PAGE_BACK.text()})")
        self.forward = SecondaryButton("", "arrow-right", f"Next page ({shortcuts.PAGE_FORWARD.text()})")
        self.pages = ComboBox("Page", _pages(folder), "Choose a page of the manual")
        self.search = QLineEdit()
        self.search.setPlaceholderText(actions.FIND_ON_PAGE)
        describe(self.search, actions.FIND_ON_PAGE, f"Enter finds the next place ({shortcuts.FIND_ON_PAGE.text()})")
        self.found = label("", "dim", pixels=theme.SMALL_PIXELS)
        self.page = ManualPage(folder)
        self._lay_out()
        self.back.clicked.connect(lambda: self._go(False))
        self.forward.clicked.connect(lambda: self._go(True))
        self.pages.chosen.connect(lambda name: self.show_page(str(name)))
        self.page.sourceChanged.connect(lambda _: self._update())
        self.page.historyChanged.connect(self._update)
        self.search.returnPressed.connect(self.find_next)
        self.search.textChanged.connect(lambda: self._show_found(True))
        for shortcut, do in (
            (shortcuts.PAGE_BACK, self.back.click),
            (shortcuts.PAGE_FORWARD, self.forward.click),
            (shortcuts.CONTENTS, lambda: self.show_page(CONTENTS)),
            (shortcuts.FIND_ON_PAGE, self.search.setFocus),
            (shortcuts.CLOSE_MANUAL, self.close),
        ):
            shortcuts.bind_in_window(shortcut, self, do)

    def show_page(self, name: str) -> None:
        """Show a page of the manual by the name of its file; one that is shown already stays where it was read."""
        if name != self.current_page():
            self.page.open(QUrl.fromLocalFile(str(self._folder / name)))
        self._update()

    def current_page(self) -> str:
        """The name of the file that is shown; empty for a page from another folder, such as a checkpoint's card."""
        path = Path(self.page.source().toLocalFile())
        return path.name if path.parent == self._folder else ""

    def bring_to_front(self) -> None:
        self.show()
        self.raise_()
        self.activateWindow()
        self.page.setFocus()

    def find_next(self) -> None:
        """Select the next place with the text in the search field; from the top after the last one."""
        text = self.search.text()
        if not text:
            return
        if not self.page.find(text):
            cursor = self.page.textCursor()
            cursor.movePosition(QTextCursor.MoveOperation.Start)
            self.page.setTextCursor(cursor)
            self._show_found(self.page.find(text))
        else:
            self._show_found(True)

    def _show_found(self, found: bool) -> None:
        self.found.setText("" if found else "Not found")
        set_style_property(self.search, "wrong", not found)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.page.render_again()

    def _go(self, forward: bool) -> None:
        self.page.go(forward)
        self._update()

    def _update(self) -> None:
        self.back.setEnabled(self.page.isBackwardAvailable())
        self.forward.setEnabled(self.page.isForwardAvailable())
        if not self.pages.set_value(self.current_page()):
            self.pages.setCurrentIndex(-1)
            self.pages.setPlaceholderText(self.page.document().firstBlock().text())

    def _lay_out(self) -> None:
        bar = QHBoxLayout()
        bar.setContentsMargins(12, 8, 12, 8)
        bar.setSpacing(4)
        bar.addWidget(self.back)
        bar.addWidget(self.forward)
        bar.addSpacing(4)
        bar.addWidget(self.pages, 1)
        bar.addSpacing(8)
        bar.addWidget(self.found)
        bar.addWidget(self.search, 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addLayout(bar)
        whole.addWidget(self.page, 1)


def heading_anchor(text: str) -> str:
    """The anchor of a heading, as GitHub makes it: `Kept, undone, and named` is `kept-undone-and-named`."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _look() -> tuple[str, int]:
    """What a page is rendered with."""
    return theme.name(), theme.font().pixelSize()


def _blocks(document: QTextDocument) -> Iterator[QTextBlock]:
    block = document.begin()
    while block.isValid():
        yield block
        block = block.next()


def _fragments(block: QTextBlock) -> list[tuple[int, int, QTextCharFormat]]:
    """Position, length and format of each run of text in a block."""
    found = []
    iterator = block.begin()
    while not iterator.atEnd():
        fragment = iterator.fragment()
        if fragment.isValid():
            found.append((fragment.position(), fragment.length(), fragment.charFormat()))
        iterator += 1
    return found


def _pages(folder: Path) -> list[tuple[str, str]]:
    """File name and title of each page: the contents first, the others in the order in which these list them."""
    text = (folder / CONTENTS).read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[([^\]]+)\]\(([\w-]+\.md)\)", text, re.MULTILINE)
    return [(CONTENTS, "Contents"), *((name, title) for title, name in listed)]
