"""The table of keyboard shortcuts is complete: whatever makes or handles one takes it from there."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QPushButton, QWidget
from pytestqt.qtbot import QtBot

import diffstudio
from diffstudio.ui.widgets import shortcuts
from diffstudio.ui.widgets.shortcuts import Place, Shortcut

pytestmark = pytest.mark.usefixtures("qapp")  # standard keys are those of its platform
UI = Path(diffstudio.__file__).resolve().parent / "ui"
MODULES = {
    path.relative_to(UI).with_suffix("").as_posix(): ast.parse(path.read_text("utf-8")) for path in UI.rglob("*.py")
}
MAKERS = ("QShortcut", "setShortcut", "setShortcuts", "QKeySequence")
WITH_A_KEY = ("Key_Control", "Key_Shift", "Key_Alt", "Key_Meta")
OF_THE_PLATFORM = {  # accepted as they are, in widgets of any kind
    "Key_Menu"  # opens the context menu
}


def called(tree: ast.AST) -> set[str]:
    """The names of all functions, methods and classes that are called."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
                names.add(name)
    return names


def test_no_other_module_makes_a_shortcut() -> None:
    makers = {name: found for name, tree in MODULES.items() if (found := called(tree) & set(MAKERS))}
    assert makers.keys() == {"widgets/shortcuts"}, "use shortcuts.bind and the table"


def keys_handled(tree: ast.AST) -> set[str]:
    """The keys that the key events of a module are compared with, as in `Qt.Key.Key_Left`."""
    keys = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Attribute(attr="Key"), attr=name) if name.startswith("Key_"):
                keys.add(name)
    return keys - set(WITH_A_KEY) - OF_THE_PLATFORM


def key_names(shortcut: Shortcut) -> set[str]:
    """`Ctrl+Up` as the name of its key: `Key_Up`."""
    names = set()
    for sequence in shortcut.sequences():
        names.add(Qt.Key(sequence[0].key()).name)
    return names


def test_every_key_that_a_widget_handles_is_in_the_table() -> None:
    listed: dict[str, set[str]] = {}
    for shortcut in shortcuts.table():
        if shortcut.handled_in:
            listed.setdefault(shortcut.handled_in, set()).update(key_names(shortcut))
    handled = {name: keys for name, tree in MODULES.items() if (keys := keys_handled(tree))}
    assert handled == listed


def test_every_line_of_the_table_is_used() -> None:
    used = {
        node.attr
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "shortcuts"
    }
    made = {name for name, each in vars(shortcuts).items() if isinstance(each, Shortcut) and not each.handled_in}
    assert made <= used and "ROOMS" in used


def test_a_shortcut_that_is_not_in_the_table_is_found() -> None:
    """The two checks above do find one."""
    assert called(ast.parse("QShortcut(keys, self)")) & set(MAKERS)
    assert called(ast.parse("button.setShortcut('F5')")) & set(MAKERS)
    assert keys_handled(ast.parse("event.key() == Qt.Key.Key_F5")) == {"Key_F5"}


def test_no_key_does_two_things_in_one_place() -> None:
    for place in Place:
        here = [each for each in shortcuts.table() if each.place == place and not each.handled_in]
        everywhere = [each for each in shortcuts.table() if each.place == Place.EVERYWHERE and each not in here]
        texts = Counter(
            key.toString() for each in (*here, *everywhere) if not each.handled_in for key in each.sequences()
        )
        assert [text for text, count in texts.items() if count > 1] == []


def test_the_table_is_sorted_by_place_and_says_what_each_does() -> None:
    table = shortcuts.table()
    assert [each.place for each in table] == sorted((each.place for each in table), key=list(Place).index)
    assert {each.place for each in table} == set(Place)
    assert all(each.what and each.what[0].isupper() and not each.what.endswith(".") for each in table)
    assert all(not sequence.isEmpty() for each in table for sequence in each.sequences())


def test_keys_are_written_as_the_system_does() -> None:
    assert shortcuts.GENERATE.text() == "Ctrl+Enter"
    assert shortcuts.REDO_SETTINGS.text() == "Ctrl+Shift+Z or Ctrl+Y"
    assert shortcuts.ROOMS[1].text() == "Ctrl+2"


@pytest.mark.usefixtures("dressed")
def test_what_is_bound_answers_to_its_keys(qtbot: QtBot) -> None:
    place, button, done = QWidget(), QPushButton("x"), []
    qtbot.addWidget(place)
    button.setParent(place)
    field = QWidget(place)
    field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    action = QAction(place)
    field.addAction(action)
    shortcuts.bind(shortcuts.REDO_SETTINGS, field, lambda: done.append("redo"))
    shortcuts.bind_in_window(shortcuts.SETTINGS, place, lambda: done.append("settings"))
    shortcuts.bind_button(shortcuts.CANCEL_INSPECTION, button)
    shortcuts.bind_action(shortcuts.SAVE_IMAGE, action)
    button.clicked.connect(lambda: done.append("button"))
    action.triggered.connect(lambda: done.append("action"))
    place.show()
    qtbot.waitExposed(place)
    place.activateWindow()
    field.setFocus()
    qtbot.waitUntil(field.hasFocus)
    modifiers = Qt.KeyboardModifier
    qtbot.keyClick(field, Qt.Key.Key_Z, modifiers.ControlModifier | modifiers.ShiftModifier)
    qtbot.keyClick(field, Qt.Key.Key_Y, modifiers.ControlModifier)
    qtbot.keyClick(field, Qt.Key.Key_Comma, modifiers.ControlModifier)
    qtbot.keyClick(field, Qt.Key.Key_S, modifiers.ControlModifier)
    qtbot.keyClick(field, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: done == ["redo", "redo", "settings", "action", "button"])
    button.setFocus()
    qtbot.keyClick(button, Qt.Key.Key_Y, modifiers.ControlModifier)
    assert done.count("redo") == 2, "the focus is elsewhere"


def test_native_text_names_the_enter_key() -> None:
    assert shortcuts.native_text(QKeySequence("Ctrl+Return")) == "Ctrl+Enter"
