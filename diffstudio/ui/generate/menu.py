"""What can be done with a picture: its menu, the same on the canvas and among the recent ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QImage, QKeySequence
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.generate.canvas import Canvas
from diffstudio.ui.widgets import icons, image_actions


def picture_menu(
    parent: QWidget,
    image: QImage,
    path: Path | None,
    request: PictureRequest | None,
    *,
    use: Callable[[PictureRequest], None],
    start: Callable[[Path], None],
    enlarge: Callable[[Path], None],
    failed: Callable[[DiffstudioError], None],
) -> QMenu:
    """`path` is None for an estimate that is in no file, `request` where it is not known how the picture was made."""
    menu = QMenu(parent)
    menu.setAccessibleName("Picture")
    menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

    def add(icon: str, text: str, do: Callable[[], object]) -> None:
        menu.addAction(icons.icon(icon, "dim"), text).triggered.connect(lambda: do())

    add("copy", "Copy", lambda: image_actions.copy(image, path))
    add("download-simple", "Save as…", lambda: image_actions.save_as(parent, image, path, failed))
    if request is not None:
        menu.addSeparator()
        add("sliders-horizontal", "Use its settings", lambda: use(request))
        add("text-t", "Copy its prompt", lambda: image_actions.copy_text(request.prompt))
    if path is not None:
        menu.addSeparator()
        add("image", "Start from this picture", lambda: start(path))
        add("arrows-out", "Enlarge…", lambda: enlarge(path))
        add("folder-open", "Show in folder", lambda: image_actions.show_in_folder(path))
    return menu


def add_shortcuts(canvas: Canvas, failed: Callable[[DiffstudioError], None]) -> None:
    """Copy and Save as, while the canvas has the focus."""
    keys = QKeySequence.StandardKey
    for key, text, do in (
        (keys.Copy, "Copy", lambda: image_actions.copy(canvas.image(), canvas.path())),
        (keys.Save, "Save as…", lambda: image_actions.save_as(canvas, canvas.image(), canvas.path(), failed)),
    ):
        action = QAction(text, canvas)
        action.setShortcut(QKeySequence(key))
        action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        action.triggered.connect(lambda _=False, do=do: None if canvas.image().isNull() else do())
        canvas.addAction(action)
