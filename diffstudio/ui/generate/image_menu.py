"""The context menu of an image, on the canvas and in the list of recent images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtGui import QAction, QImage
from PySide6.QtWidgets import QMenu, QWidget

from diffstudio.errors import DiffstudioError
from diffstudio.studio.requests import PictureRequest
from diffstudio.ui.generate.canvas.canvas import Canvas
from diffstudio.ui.widgets import actions, image_actions, shortcuts
from diffstudio.ui.widgets.menus import MenuEntry, build_menu, entry


def image_menu(
    parent: QWidget,
    image: QImage,
    path: Path | None,
    request: PictureRequest | None,
    *,
    use: Callable[[PictureRequest], None],
    start: Callable[[Path], None],
    upscale: Callable[[Path], None],
    failed: Callable[[DiffstudioError], None],
    warn: Callable[[str], None],
) -> QMenu:
    """`path` is None for an unsaved preview; `request` is None when the image carries no settings."""

    def show_in_folder(path: Path) -> None:
        if not image_actions.show_in_folder(path):
            warn(image_actions.not_shown(path))

    entries: list[MenuEntry | None] = [
        entry(actions.COPY_IMAGE, lambda: image_actions.copy(image, path)),
        entry(actions.SAVE_AS, lambda: image_actions.save_as(parent, image, path, failed)),
    ]
    if request is not None:
        entries += [
            None,
            entry(actions.USE_SETTINGS, lambda: use(request)),
            entry(actions.COPY_PROMPT, lambda: image_actions.copy_text(request.prompt)),
        ]
    if path is not None:
        entries += [
            None,
            entry(actions.START_FROM_IMAGE, lambda: start(path)),
            entry(actions.UPSCALE, lambda: upscale(path)),
            entry(actions.SHOW_IN_FOLDER, lambda: show_in_folder(path)),
        ]
    return build_menu(parent, entries, "Image")


def add_shortcuts(canvas: Canvas, failed: Callable[[DiffstudioError], None]) -> None:
    """Copy and save with the usual keys while the canvas has the focus."""
    for shortcut, text, do in (
        (shortcuts.COPY_IMAGE, actions.COPY_IMAGE, lambda: image_actions.copy(canvas.image(), canvas.path())),
        (
            shortcuts.SAVE_IMAGE,
            actions.SAVE_AS,
            lambda: image_actions.save_as(canvas, canvas.image(), canvas.path(), failed),
        ),
    ):
        action = QAction(text, canvas)
        shortcuts.bind_action(shortcut, action)
        action.triggered.connect(lambda _=False, do=do: None if canvas.image().isNull() else do())
        canvas.addAction(action)
