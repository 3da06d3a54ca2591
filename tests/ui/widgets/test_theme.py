"""The themes: legible, complete, from the same roles; the icons: one family, in the colour of their role."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from PySide6.QtGui import QColor, QIcon, QImage
from PySide6.QtWidgets import QApplication, QCompleter, QLineEdit, QListWidget, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.widgets import icons, theme

BOTH = pytest.mark.parametrize("roles", [theme.DARK, theme.LIGHT], ids=["dark", "light"])
ROOT = Path(__file__).resolve().parents[3] / "diffstudio" / "ui"


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""

    def linear(level: float) -> float:
        return level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(level) for level in QColor(colour).getRgbF()[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@BOTH
@pytest.mark.parametrize("ground", ["background", "panel", "raised"])
@pytest.mark.parametrize("ink", ["text", "dim", "good", "warn", "bad", "accent"])
def test_text_is_legible(roles: theme.Roles, ground: str, ink: str) -> None:
    assert contrast(getattr(roles, ink), getattr(roles, ground)) >= 4.5


def test_no_label_is_in_a_tone_that_is_not_legible() -> None:
    """`faint` is for disabled controls and decoration."""
    legible = {"", "text", "dim", "good", "warn", "bad", "accent"}
    assert set(re.findall(r'QLabel\[tone="(\w+)"\]', theme.style_sheet(theme.DARK))) <= legible
    for path in ROOT.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("label", "ElidedLabel", "WrappingText"):
                texts = [each.value for each in ast.walk(call) if isinstance(each, ast.Constant)]
                assert "faint" not in texts, f"{path}:{call.lineno}"


@BOTH
def test_what_a_placeholder_and_the_edge_of_a_control_stand_on(roles: theme.Roles) -> None:
    """WCAG AA: 4.5 for text, 3 for what shows a control."""
    for ground in (roles.raised, roles.panel):
        assert contrast(roles.hint, ground) >= 4.5
        assert contrast(roles.edge, ground) >= 3


@BOTH
def test_text_on_the_one_button_and_on_what_is_chosen_is_legible(roles: theme.Roles) -> None:
    assert contrast(roles.on_strong, roles.strong) >= 4.5
    assert contrast(roles.on_strong, roles.strong_hover) >= 4.5
    assert contrast(roles.text, roles.chosen) >= 4.5


@BOTH
def test_every_colour_of_the_style_sheet_is_a_role(roles: theme.Roles) -> None:
    sheet = theme.style_sheet(roles)
    assert "$" not in sheet
    known = {getattr(roles, role) for role in theme.Roles.__slots__}
    assert set(re.findall(r"#[0-9a-f]{6}\b", sheet)) <= known


def test_the_wish_is_kept_and_can_be_changed(dressed: QApplication) -> None:
    assert theme.colour("background") == QColor(theme.DARK.background)
    theme.apply(dressed, "light")
    assert theme.name() == "light"
    assert theme.colour("background") == QColor(theme.LIGHT.background)
    theme.apply(dressed, "dark")
    assert theme.resolve("system") in ("dark", "light")


@pytest.mark.parametrize("name", ["dark", "light"])
def test_completions_are_legible_in_a_window_of_their_own(dressed: QApplication, qtbot: QtBot, name: str) -> None:
    """A list inside a page is transparent; one that is a window, such as those of the file dialog, cannot be."""
    theme.apply(dressed, name)
    page = QWidget()
    field, inside, completer = QLineEdit(page), QListWidget(page), QCompleter(["apple", "apricot"], page)
    field.setCompleter(completer)
    qtbot.addWidget(page)
    page.show()
    field.setFocus()
    qtbot.keyClicks(field, "a")
    popup = completer.popup()
    qtbot.waitUntil(popup.isVisible)
    shown = popup.grab().toImage()
    assert shown.pixelColor(shown.width() - 3, shown.height() - 3).name() == theme.colour("raised").name()
    inside.setGeometry(0, 40, 60, 40)
    assert inside.grab().toImage().pixelColor(20, 20).name() != theme.colour("raised").name()
    popup.hide()


def test_an_icon_follows_the_theme_and_fades_when_it_cannot_be_used(dressed: QApplication) -> None:
    icon = icons.icon("stop-fill", "accent")

    def middle(mode: QIcon.Mode = QIcon.Mode.Normal) -> QColor:
        image: QImage = icon.pixmap(32, 32, mode).toImage()
        return image.pixelColor(image.width() // 2, image.height() // 2)

    assert middle() == QColor(theme.DARK.accent)
    assert middle(QIcon.Mode.Disabled) == QColor(theme.DARK.faint)
    theme.apply(dressed, "light")
    assert middle() == QColor(theme.LIGHT.accent)
    theme.apply(dressed, "dark")


def test_a_name_the_family_does_not_have_is_refused(dressed: QApplication) -> None:
    with pytest.raises(KeyError):
        icons.icon("no-such-icon")


def test_every_icon_that_the_window_names_is_there(dressed: QApplication) -> None:
    named = set[str]()
    for file in ROOT.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                place = {
                    "icon": 0,
                    "pixmap": 0,
                    "EmptyState": 0,
                    "SecondaryButton": 1,
                    "set_icon": 0,
                    "RoomEntry": 1,
                }.get(called)
                if place is not None and len(call.args) > place and isinstance(call.args[place], ast.Constant):
                    value = call.args[place].value
                    named |= {value} if isinstance(value, str) and value else set()
    assert len(named) > 20
    for name in sorted(named):
        icons.icon(name)
