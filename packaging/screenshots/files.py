"""Where screenshots go, and how what the display shows is saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES = ROOT / "resources" / "manual" / "images"
BITS = 6  # of each colour channel that the PNGs keep: two thirds of the size, and no difference to see


class Trouble(Exception):
    """What is missing or went wrong, in a sentence."""


@dataclass(frozen=True, slots=True)
class Shots:
    """Where screenshots go, what is added to their names, and the themes that they are taken in."""

    folder: Path
    suffix: str = ""
    themes: tuple[str, ...] = ("dark",)

    @property
    def is_check(self) -> bool:
        """Whether they are only to be looked at, not for the manual."""
        return len(self.themes) > 1

    def paths(self, name: str) -> dict[str, Path]:
        """The file of a screenshot for each theme."""
        return {
            theme: self.folder / f"{name}{self.suffix}{f'-{theme}' if self.is_check else ''}.png"
            for theme in self.themes
        }


def save(widget: QWidget, path: Path) -> None:
    """What the display shows where the widget is."""
    from PIL import Image
    from PySide6.QtGui import QGuiApplication, QImage

    frame = widget.frameGeometry()
    shot = QGuiApplication.primaryScreen().grabWindow(0, frame.x(), frame.y(), frame.width(), frame.height()).toImage()
    shot = shot.convertToFormat(QImage.Format.Format_RGBX8888)
    pixels = Image.frombuffer(
        "RGBX", (shot.width(), shot.height()), bytes(shot.constBits()), "raw", "RGBX", shot.bytesPerLine(), 1
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels.convert("RGB").point(rounded).save(path, optimize=True)
    print(f"{path}  {shot.width()} x {shot.height()}, {path.stat().st_size / 1000:.0f} KB", flush=True)


def rounded(level: int) -> int:
    """A level of a colour channel to BITS bits; white stays white."""
    step = 1 << (8 - BITS)
    return 255 if level >= 256 - step // 2 else (level + step // 2) // step * step
