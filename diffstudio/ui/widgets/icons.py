"""The bundled text font and the icons.

Icons are characters of one font, Phosphor, which the qtawesome package carries. Its font file is loaded from there
without importing the package, which would load eleven other fonts before the window is shown. An icon asks for its
colour when it is painted, so it follows the theme.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QFont, QFontDatabase, QGuiApplication, QIcon, QIconEngine, QPainter, QPixmap

from diffstudio import paths
from diffstudio.ui.widgets import theme

_FONT_PROPERTY = "diffstudioIconFont"


def load_fonts() -> None:
    """Make the bundled text font known to Qt. Call once, after the application is made and before its theme."""
    for file in sorted((paths.resources() / "fonts").glob("*.[to]tf")):
        QFontDatabase.addApplicationFont(str(file))


def icon(name: str, role: str = "text", *, on: str | None = None) -> QIcon:
    """An icon by its Phosphor name (`gear-six`, `star-fill`), in the colour of a role of the theme.

    `on` is the role for the checked state of a button. KeyError when the family has no such icon.
    """
    return QIcon(_Engine(_characters()[name], role, on or role))


def pixmap(name: str, size: int, role: str = "text") -> QPixmap:
    """The icon once, `size` px a side, in the colour the role has now."""
    app = QGuiApplication.instance()
    ratio = app.devicePixelRatio() if isinstance(app, QGuiApplication) else 1.0
    return icon(name, role).pixmap(QSize(size, size), ratio)


def application_icon() -> QIcon:
    """The program's own mark."""
    return QIcon(str(paths.resources() / "icons" / "diffstudio.svg"))


class _Engine(QIconEngine):
    def __init__(self, character: str, role: str, role_on: str) -> None:
        super().__init__()
        self._character, self._role, self._role_on = character, role, role_on

    def clone(self) -> QIconEngine:
        return _Engine(self._character, self._role, self._role_on)

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        role = self._role_on if state == QIcon.State.On else self._role
        _draw(painter, rect, self._character, "faint" if mode == QIcon.Mode.Disabled else role)

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        result = QPixmap(size)
        result.fill(Qt.GlobalColor.transparent)
        painter = QPainter(result)
        self.paint(painter, QRect(QPoint(0, 0), size), mode, state)
        painter.end()
        return result


def _draw(painter: QPainter, rect: QRect, character: str, role: str) -> None:
    painter.save()
    font = QFont(_icon_family())
    font.setPixelSize(max(1, min(rect.width(), rect.height())))
    painter.setFont(font)
    painter.setPen(theme.colour(role))
    painter.drawText(rect, int(Qt.AlignmentFlag.AlignCenter), character)
    painter.restore()


def _font_folder() -> Path:
    spec = find_spec("qtawesome")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("qtawesome, which carries the icons, is not installed")
    return Path(spec.origin).parent / "fonts"


@lru_cache(maxsize=1)
def _characters() -> dict[str, str]:
    file = max(_font_folder().glob("phosphor-charmap-*.json"))
    return {name: chr(int(code, 16)) for name, code in json.loads(file.read_text(encoding="utf-8")).items()}


def _icon_family() -> str:
    app = QGuiApplication.instance()
    assert app is not None, "icons need an application"
    family = app.property(_FONT_PROPERTY)
    if family is None:
        identifier = QFontDatabase.addApplicationFont(str(max(_font_folder().glob("phosphor-[0-9]*.ttf"))))
        family = QFontDatabase.applicationFontFamilies(identifier)[0]
        app.setProperty(_FONT_PROPERTY, family)
    return str(family)
