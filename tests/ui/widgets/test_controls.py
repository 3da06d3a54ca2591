"""The controls: what they report, what they do not, by mouse and by keyboard."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, QRect, Qt
from PySide6.QtGui import QColor, QFontMetrics, QHelpEvent, QKeyEvent, QTextDocumentFragment
from PySide6.QtWidgets import QApplication, QDialog, QLineEdit, QToolButton, QToolTip, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from diffstudio.ui.widgets.banner import Banner
from diffstudio.ui.widgets.controls import Card, EmptyState, PrimaryButton, ProgressLine, SecondaryButton
from diffstudio.ui.widgets.formatting import human_bytes, human_count, human_duration
from diffstudio.ui.widgets.helpers import ElidedLabel, PartsLabel, limit_length
from diffstudio.ui.widgets.images.image_reading import numpy_to_qimage
from diffstudio.ui.widgets.images.thumbnail import Thumbnail
from diffstudio.ui.widgets.inputs import combo_box
from diffstudio.ui.widgets.inputs.check_box import CheckBox
from diffstudio.ui.widgets.inputs.chip_row import ChipRow
from diffstudio.ui.widgets.inputs.combo_box import ComboBox
from diffstudio.ui.widgets.inputs.search_field import SearchField
from diffstudio.ui.widgets.inputs.sliders import LabelledSlider
from diffstudio.ui.widgets.layout.flow_layout import FlowLayout

pytestmark = pytest.mark.usefixtures("dressed")


def shown(qtbot: QtBot, widget: QWidget, width: int = 300, height: int = 80) -> None:
    qtbot.addWidget(widget)
    widget.resize(width, height)
    widget.show()
    qtbot.waitExposed(widget)


def test_a_field_says_what_it_does_not_take(qtbot: QtBot) -> None:
    field = QLineEdit()
    limit_length(field, 4)
    shown(qtbot, field)
    qtbot.keyClicks(field, "long")
    assert not QToolTip.isVisible()
    qtbot.keyClicks(field, "er")
    assert field.text() == "long" and QToolTip.text() == "At most 4 characters fit here."
    QToolTip.hideText()
    qtbot.waitUntil(lambda: not QToolTip.isVisible())
    field.clear()
    QApplication.clipboard().setText("longer")
    field.paste()
    assert field.text() == "long" and QToolTip.isVisible()
    QToolTip.hideText()


def test_a_slider_tells_what_a_person_did_and_not_what_the_program_did(qtbot: QtBot) -> None:
    slider = LabelledSlider("Guidance", 0, 15, 3.0, step=0.1, decimals=1)
    shown(qtbot, slider)
    emitted: list[float] = []
    slider.value_changed.connect(emitted.append)
    slider.set_value(4.5)
    assert (slider.value(), emitted) == (4.5, [])
    qtbot.keyClick(slider._slider, Qt.Key.Key_Right)
    assert (slider.value(), emitted) == (4.6, [4.6])
    slider._box.setFocus()
    slider._box.selectAll()
    qtbot.keyClicks(slider._box, "7.2")
    qtbot.keyClick(slider._box, Qt.Key.Key_Return)
    assert (slider.value(), slider._slider.value()) == (7.2, 72)


def test_a_whole_slider_gives_whole_numbers_and_keeps_to_its_range(qtbot: QtBot) -> None:
    slider = LabelledSlider("Steps", 1, 100, 20)
    qtbot.addWidget(slider)
    assert isinstance(slider.value(), int)
    slider.set_value(1000)
    assert slider.value() == 100


def hovered(combo: ComboBox, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is shown when the pointer rests on a drop-down; empty for its own tooltip."""
    told: list[str] = []
    monkeypatch.setattr(combo_box, "show_tooltip", lambda at, text, widget: told.append(text))
    QApplication.sendEvent(combo, QHelpEvent(QEvent.Type.ToolTip, QPoint(5, 5), QPoint(5, 5)))
    return "".join(told)


def test_a_text_that_does_not_fit_is_shortened_and_whole_in_the_tooltip(
    qtbot: QtBot, dressed: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    combo = ComboBox(
        "Scheduler", [("f", "Fitted to this checkpoint"), ("a", "Align your steps <b>")], "The <b>spacing</b>"
    )
    shown(qtbot, combo)
    combo.resize(400, combo.height())
    combo.set_short_texts({"Fitted to this checkpoint": "Fitted"})
    assert combo.shown_text() == "Fitted to this checkpoint" and hovered(combo, monkeypatch) == ""
    combo.resize(110, combo.height())
    assert combo.shown_text() == "Fitted"
    assert hovered(combo, monkeypatch) == "Fitted to this checkpoint. The <b>spacing</b>"
    combo.set_value("a")
    assert combo.shown_text().endswith("…") and hovered(combo, monkeypatch).startswith("Align your steps <b>. ")
    assert [combo.itemText(place) for place in range(2)] == ["Fitted to this checkpoint", "Align your steps <b>"]


def test_a_drop_down_that_cannot_be_used_says_why_and_has_no_arrow(qtbot: QtBot, dressed: QApplication) -> None:
    combo = ComboBox("Layout", [("a", "PCA")], "The layout")
    shown(qtbot, combo)

    def colours_of_the_arrow() -> set[int]:
        image = combo.grab().toImage()
        return {image.pixel(across, image.height() // 2) for across in range(image.width() - 24, image.width() - 8)}

    assert len(colours_of_the_arrow()) > 1
    combo.set_unavailable("There is only one")
    assert not combo.isEnabled() and combo.toolTip() == "The layout. There is only one"
    assert combo.accessibleDescription() == "There is only one" and len(colours_of_the_arrow()) == 1
    combo.set_unavailable("")
    assert combo.isEnabled() and combo.toolTip() == "The layout" and len(colours_of_the_arrow()) > 1


def test_a_combo_keeps_its_value_when_its_choices_change(qtbot: QtBot) -> None:
    combo = ComboBox("Sampler", [("a", "A"), ("b", "B")])
    qtbot.addWidget(combo)
    emitted: list[object] = []
    combo.chosen.connect(emitted.append)
    assert combo.set_value("b")
    assert not combo.set_value("nothing")
    combo.set_value("b")
    combo.set_choices([("b", "B again"), ("c", "C")])
    assert (combo.value(), emitted) == ("b", [])
    shown(qtbot, combo)
    combo.setFocus()
    qtbot.keyClick(combo, Qt.Key.Key_Down)
    assert emitted == ["c"]


def test_chips_are_one_of_many_or_any_of_many(qtbot: QtBot) -> None:
    one, many = ChipRow([(1, "One"), (2, "Two")]), ChipRow([(1, "One"), (2, "Two")], exclusive=False)
    for row in (one, many):
        shown(qtbot, row)
    emitted: list[object] = []
    one.value_changed.connect(emitted.append)
    assert one.value() == 1
    qtbot.mouseClick(one.chip(2), Qt.MouseButton.LeftButton)
    assert (one.value(), emitted) == (2, [2])
    many.set_value((1, 2))
    assert many.value() == (1, 2)
    qtbot.keyClick(many.chip(1), Qt.Key.Key_Space)
    assert many.value() == (2,)


def test_chips_wrap_where_the_width_ends(qtbot: QtBot) -> None:
    row = ChipRow([(index, f"Choice {index}") for index in range(6)])
    shown(qtbot, row, 600)
    in_one_row = row.heightForWidth(600)
    assert row.heightForWidth(160) >= 3 * in_one_row


def test_a_long_text_ends_in_an_ellipsis_and_is_whole_in_the_tooltip(qtbot: QtBot) -> None:
    text = ElidedLabel("a castle in the mountains " * 20)
    shown(qtbot, text, 120, 24)
    text.grab()
    assert text.shown_text().endswith("…")
    assert text.toolTip() == text.text()
    text.setText("short")
    text.grab()
    assert (text.shown_text(), text.toolTip()) == ("short", "")


def test_a_summary_loses_whole_parts(qtbot: QtBot) -> None:
    text = PartsLabel("Pixel transformer  ·  8.5 M  ·  64 px")
    shown(qtbot, text, 600, 24)
    assert (text.shown_text(), text.toolTip()) == ("Pixel transformer · 8.5 M · 64 px", "")
    for shorter in ("Pixel transformer · 8.5 M", "Pixel transformer"):
        text.resize(QFontMetrics(text.font()).horizontalAdvance(shorter) + 12, 24)
        text.grab()
        assert (text.shown_text(), text.toolTip()) == (shorter, text.text())
    text.resize(30, 24)
    assert text.shown_text().endswith("…")


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Space])
def test_what_can_be_clicked_can_be_opened_by_keyboard(qtbot: QtBot, key: Qt.Key) -> None:
    for widget in (Card(interactive=True, name="A card"), Thumbnail(48, clickable=True)):
        shown(qtbot, widget)
        with qtbot.waitSignal(widget.clicked):
            qtbot.keyClick(widget, key)
        with qtbot.waitSignal(widget.clicked):
            qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=QPoint(10, 10))


def test_a_banner_says_acts_and_goes(qtbot: QtBot) -> None:
    banner = Banner("bad", "The disk is full: 12 MB are left. Free some space.", "Try again")
    shown(qtbot, banner)
    assert "disk is full" in banner.accessibleName()
    with qtbot.waitSignal(banner.acted):
        qtbot.mouseClick(banner.action, Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(banner.dismissed):
        qtbot.mouseClick(banner.close_button, Qt.MouseButton.LeftButton)
    assert not banner.isVisible()


def test_an_empty_state_invites(qtbot: QtBot) -> None:
    empty = EmptyState("sparkle", "Nothing here", "Make a picture.", "Make one")
    shown(qtbot, empty, 400, 300)
    with qtbot.waitSignal(empty.clicked):
        qtbot.mouseClick(empty.button, Qt.MouseButton.LeftButton)
    empty.set_content("cube", "Nothing to do", "Wait.")
    assert not empty.button.isVisible()


def test_examples_wrap_where_the_room_is_narrow(qtbot: QtBot) -> None:
    empty = EmptyState("sparkle", "Ready", "Describe the image.", "Generate")
    empty.set_examples(["red apple", "robot", "jack-o-lantern", "sun with face"])
    shown(qtbot, empty, 600, 400)
    assert len({button.y() for button in empty.example_buttons}) == 1
    empty.resize(290, 500)
    qtbot.waitUntil(lambda: len({button.y() for button in empty.example_buttons}) > 1)
    for button in empty.example_buttons:
        assert button.width() >= button.sizeHint().width() and empty.rect().contains(button.geometry())
    first = [button.geometry() for button in empty.example_buttons if button.y() == empty.example_buttons[0].y()]
    assert abs(first[0].left() - (empty.width() - 1 - first[-1].right())) <= 1  # centred
    assert not empty.button.geometry().intersects(empty.example_buttons[-1].geometry())


def test_progress_moves_only_while_it_is_seen(qtbot: QtBot) -> None:
    line = ProgressLine()
    shown(qtbot, line)
    line.set_fraction(None)
    assert line._timer.isActive()
    line.hide()
    assert not line._timer.isActive()
    line.set_fraction(7.0)
    assert line.fraction() == 1.0


def test_a_slider_that_is_not_chosen_leaves_the_wheel_to_the_column(qtbot: QtBot, qapp: QApplication) -> None:
    from PySide6.QtCore import QPointF
    from PySide6.QtGui import QWheelEvent

    slider = LabelledSlider("Steps", 1, 100, 20)
    shown(qtbot, slider)

    def turn(part: QWidget) -> None:
        point = QPointF(10, 10)
        qapp.sendEvent(
            part,
            QWheelEvent(
                point,
                part.mapToGlobal(point),
                QPoint(),
                QPoint(0, 120),
                Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier,
                Qt.ScrollPhase.NoScrollPhase,
                False,
            ),
        )

    for chosen, other in ((slider._box, slider._slider), (slider._slider, slider._box)):
        chosen.setFocus()
        turn(other)
        assert slider.value() == 20
        assert other.focusPolicy() is Qt.FocusPolicy.StrongFocus  # nor does it become the chosen one by that


def test_a_picture_keeps_its_pixels_after_its_buffer_is_gone(qapp: QApplication) -> None:
    pixels = np.zeros((5, 7, 3), np.uint8)  # a row of 21 bytes, which Qt would pad to 24
    pixels[2, 3] = (200, 100, 50)
    image = numpy_to_qimage(pixels[:, :, :])
    pixels[:] = 255
    assert (image.width(), image.height()) == (7, 5)
    assert image.pixelColor(3, 2) == QColor(200, 100, 50)
    assert image.pixelColor(6, 4) == QColor(0, 0, 0)
    assert numpy_to_qimage(pixels[::2, ::2]).size().toTuple() == (4, 3)


def test_words_for_numbers() -> None:
    assert [human_bytes(count) for count in (512, 1536, 17_000_000, 3.2e9, 5e13)] == [
        "512 B",
        "1.5 KB",
        "17.0 MB",
        "3.2 GB",
        "50.0 TB",
    ]
    assert [human_count(count) for count in (7, 8_500, 8_500_000, 24_000_000, 2.6e9)] == [
        "7",
        "8.5 k",
        "8.5 M",
        "24 M",
        "2.6 B",
    ]
    assert [
        human_duration(seconds) for seconds in (0.04, 2, 59.6, 75, 3600, 5000, 1e6, float("inf"), float("nan"))
    ] == ["0.04 s", "2 s", "1 min", "1 min 15 s", "1 h", "1 h 23 min", "12 days", "–", "–"]


def test_the_one_button_shows_its_shortcut_where_there_is_room(qtbot: QtBot) -> None:
    button = PrimaryButton("Generate", "Ctrl+Enter")
    shown(qtbot, button, 60, 36)
    assert button.accessibleName() == "Generate"
    assert "Ctrl+Enter" in button.toolTip()
    button.grab()
    assert PrimaryButton("x").minimumHeight() == 36


def test_hidden_widgets_take_no_room_in_a_flow(qtbot: QtBot) -> None:

    whole = QWidget()
    qtbot.addWidget(whole)
    flow, parts = FlowLayout(whole, spacing=8), [QWidget() for _ in range(3)]
    for part in parts:
        part.setFixedSize(50, 20)
        flow.addWidget(part)
    parts[1].hide()
    whole.show()
    flow.setGeometry(QRect(0, 0, 200, 100))
    assert [part.x() for part in (parts[0], parts[2])] == [0, 58]
    assert flow.heightForWidth(108) == 20
    parts[1].show()
    flow.setGeometry(QRect(0, 0, 200, 100))
    assert [part.x() for part in parts] == [0, 58, 116]
    assert flow.heightForWidth(108) == 48


def test_what_qt_puts_into_a_search_field_has_a_name(qtbot: QtBot) -> None:
    field = SearchField("Search", "Words to look for")
    qtbot.addWidget(field)
    assert [
        (button.accessibleName() or button.text(), bool(button.toolTip())) for button in field.findChildren(QToolButton)
    ] == [("Clear", True), ("Search", True)]


def test_a_message_that_is_too_long_for_a_banner_is_whole_in_its_tooltip(qtbot: QtBot) -> None:
    banner = Banner("warn", "xx " * 200)
    shown(qtbot, banner)
    assert banner.text() == "xx " * 200 and banner._text.toolTip() == ""
    banner.show_message("warn", "yy " * 201)
    assert banner.text() == "yy " * 200 + " …" and banner._text.toolTip() == banner.message == "yy " * 201


def test_a_long_name_is_cut_in_the_middle_where_no_line_can_be_broken(qtbot: QtBot) -> None:
    banner = Banner("warn", f"/home/{'a' * 200}.png holds no settings.")
    shown(qtbot, banner)
    assert banner.text() == f"/home/{'a' * 40}…{'a' * 16}.png holds no settings."
    assert "a" * 200 in banner._text.toolTip()
    banner.show_message("warn", "/".join(["folder"] * 20))  # lines are broken at slashes
    assert banner.text() == "/".join(["folder"] * 20)


def test_a_message_does_not_scroll_where_all_of_it_has_room(qtbot: QtBot) -> None:
    """Its text gets its width after the banner has its own, and wraps then."""
    place = QWidget()
    qtbot.addWidget(place)
    banner = Banner("info", "Stopped at step 49; it can be resumed")
    column = QVBoxLayout(place)
    column.addWidget(banner)
    column.addStretch(1)
    place.resize(320, 400)
    place.show()
    banner.close_button.hide()
    for width in (900, 240, 320):
        place.resize(width, 400)
        qtbot.waitUntil(lambda width=width: place.width() == width)
        QApplication.processEvents()
        assert banner._area.verticalScrollBar().maximum() == 0


def test_the_tooltip_of_an_elided_button_has_its_text(qtbot: QtBot) -> None:
    button = SecondaryButton("Use for img2img", "image", "Start from this image")
    shown(qtbot, button, width=400)
    for width, said in ((400, "Start from this image"), (80, "Use for img2img: Start from this image")):
        button.resize(width, 32)
        at = button.rect().center()
        QApplication.sendEvent(button, QHelpEvent(QEvent.Type.ToolTip, at, button.mapToGlobal(at)))
        assert QTextDocumentFragment.fromHtml(QToolTip.text()).toPlainText() == said
        QToolTip.hideText()


def test_enter_held_down_presses_a_button_once(qtbot: QtBot) -> None:
    button = SecondaryButton("Star")
    shown(qtbot, button)
    clicks: list[object] = []
    button.clicked.connect(lambda: clicks.append(0))
    held = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Return, Qt.KeyboardModifier.NoModifier, "\r", True)
    qtbot.keyClick(button, Qt.Key.Key_Return)
    for _ in range(3):
        QApplication.sendEvent(button, held)
    assert len(clicks) == 1


def test_enter_in_a_dialog_is_left_to_its_main_button(qtbot: QtBot) -> None:
    dialog = QDialog()
    column = QVBoxLayout(dialog)
    combo, box, main = ComboBox("Device", [(1, "One"), (2, "Two")]), CheckBox("Live preview"), PrimaryButton("Done")
    for part in (combo, box, main):
        column.addWidget(part)
    shown(qtbot, dialog, height=160)
    presses: list[object] = []
    main.clicked.connect(lambda: presses.append(0))
    for part in (combo, box):
        part.setFocus()
        qtbot.keyClick(part, Qt.Key.Key_Return)
    assert len(presses) == 2 and not box.isChecked() and not combo.view().isVisible()


def test_keys_open_a_drop_down_that_acts_and_choose_nothing(qtbot: QtBot) -> None:
    """Down would add the first checkpoint of a list, again and again, and never another one."""
    combo = ComboBox("Add", [(None, "Add a checkpoint…"), ("a", "anna"), ("b", "berta")], acts=True)
    shown(qtbot, combo)
    chosen: list[object] = []
    combo.chosen.connect(chosen.append)
    combo.setFocus()
    qtbot.keyClick(combo, Qt.Key.Key_B)
    assert not chosen and combo.value() is None
    qtbot.keyClick(combo, Qt.Key.Key_Down)
    qtbot.waitUntil(combo.view().isVisible)
    assert not chosen
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Return):
        qtbot.keyClick(combo.view(), key)
    assert chosen == ["b"]
