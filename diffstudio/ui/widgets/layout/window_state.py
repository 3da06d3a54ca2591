"""The size of the window and the widths of its columns, in `window.ini`: kept from one start of the program to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QSettings

from diffstudio import paths
from diffstudio.errors import wrong_format
from diffstudio.studio.stored_json import set_aside
from diffstudio.studio.stored_values import Loaded, StoredValues, as_whole, partly_unreadable

FORMAT = 1
WHAT = "The sizes of the window and its columns"
GEOMETRY = "size of the window"
_WIDEST = 10_000  # px
_OF_QT = QByteArray(b"\x01\xd9\xd0\xcb")  # how QWidget.saveGeometry begins
_DAMAGED = "it is not a file of settings"


@dataclass(frozen=True, slots=True)
class WindowState:
    geometry: QByteArray | None = None
    widths: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # px: room -> column -> set by the user


def read_window_state() -> Loaded[WindowState]:
    """What was kept. Never raises; a file that is damaged, or of a newer program, is set aside."""
    path, settings = _file(), _settings()
    values = StoredValues({key: settings.value(key) for key in settings.allKeys()})
    stored = values.read("format", FORMAT, int)
    why = _DAMAGED if settings.status() is not QSettings.Status.NoError else ""
    why = why or (wrong_format(stored, FORMAT) if stored > FORMAT else "")
    if why:
        del settings  # it would write to the file
        return Loaded(WindowState(), set_aside(path, WHAT, why, "they are the usual ones"))
    widths: dict[str, dict[str, int]] = {}
    for key in settings.allKeys():
        group, _, name = key.partition("/")
        room, _, column = name.partition("/")
        if group != "columns" or not column:
            continue
        width = values.read(key, None, _width, f"width of {column}")
        if width is not None:
            widths.setdefault(room, {})[column] = width
        else:
            settings.remove(key)  # it is named once
    geometry = values.read("geometry", None, _geometry, GEOMETRY)
    return Loaded(WindowState(geometry, widths), partly_unreadable(WHAT, values.unusable))


def save_geometry(geometry: QByteArray) -> None:
    settings = _settings()
    settings.setValue("format", FORMAT)
    settings.setValue("geometry", geometry)


def save_widths(room: str, widths: Mapping[str, int]) -> None:
    """Replace the widths that the user set in a room."""
    settings = _settings()
    settings.setValue("format", FORMAT)
    settings.remove(f"columns/{room}")
    for column, width in widths.items():
        settings.setValue(f"columns/{room}/{column}", width)


def _file() -> Path:
    return paths.settings_file().parent / "window.ini"


def _settings() -> QSettings:
    return QSettings(str(_file()), QSettings.Format.IniFormat)


def _width(value: Any) -> int:
    return as_whole(int(value), 1, _WIDEST)


def _geometry(value: Any) -> QByteArray:
    if not isinstance(value, QByteArray) or not value.startsWith(_OF_QT):
        raise TypeError(value)
    return value
