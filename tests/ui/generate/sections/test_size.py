"""The size: the checkpoint's own, that of the init image, or what the user sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QSpinBox
from pytestqt.qtbot import QtBot

from diffstudio.ui.generate.sections.size import InitSize, SizeControl, SizeLimits, limits_of
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.usefixtures("dressed")
LIMITS = SizeLimits(512, 512, 8, 128, 2048)


@pytest.fixture
def control(qtbot: QtBot) -> SizeControl:
    control = SizeControl()
    qtbot.addWidget(control)
    control.resize(296, 200)
    control.show()
    qtbot.waitExposed(control)
    control.set_limits(LIMITS)
    return control


def type_into(qtbot: QtBot, box: QSpinBox, text: str) -> None:
    box.setFocus()
    box.selectAll()
    qtbot.keyClicks(box, text)
    qtbot.keyClick(box, Qt.Key.Key_Return)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((768, 512), (768, 512)),
        ((500, 333), (496, 336)),  # to multiples of 8
        ((4000, 2000), (1448, 728)),  # twice the training size is 1024 × 1024 px
        ((4096, 128), (2048, 128)),  # the longest side
        ((64, 96), (128, 192)),  # the shortest side
        ((5000, 10), (2048, 128)),
    ],
)
def test_the_size_for_an_init_image(image: tuple[int, int], size: tuple[int, int]) -> None:
    assert LIMITS.following(*image) == size


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_every_init_image_gets_a_size_that_the_checkpoint_supports(width: int, height: int) -> None:
    found = LIMITS.following(width, height)
    assert LIMITS.supports(*found) and min(found) >= LIMITS.smallest
    if LIMITS.supports(width, height) and min(width, height) >= 128 and width * height <= 1024 * 1024:
        assert found == (width, height)


def test_the_size_follows_the_init_image_and_says_what_was_changed(control: SizeControl, qtbot: QtBot) -> None:
    assert not control.follow_box.isVisible()
    with qtbot.waitSignal(control.changed):
        control.follow(InitSize(500, 333))
    assert control.requested_size() == (496, 336) and control.shapes.currentText() == "Init image · 496 × 336"
    assert control.follow_box.isVisible() and control.follow_box.isChecked()
    assert "500 × 333 px: sides are multiples of 8 px" in control.reason()
    control.follow(InitSize(4000, 3000))
    assert "more than twice the training size" in control.reason()
    control.follow(InitSize(100, 100))
    assert control.requested_size() == (128, 128) and "below 128 px" in control.reason()
    control.follow(InitSize(768, 512))
    assert control.requested_size() == (768, 512) and "Changed" not in control.reason()
    control.follow(None)
    assert control.requested_size() == (512, 512) and not control.follow_box.isVisible()


def test_a_size_set_by_hand_stays_until_the_image_is_followed_again(control: SizeControl, qtbot: QtBot) -> None:
    control.follow(InitSize(768, 512))
    type_into(qtbot, control.width_box, "640")
    assert control.requested_size() == (640, 512) and not control.follow_box.isChecked()
    control.follow(InitSize(1024, 768))
    assert control.requested_size() == (640, 512) and control.is_by_hand()
    qtbot.keyClick(control.follow_box, Qt.Key.Key_Space)
    assert control.requested_size() == (1024, 768) and not control.is_by_hand()
    qtbot.keyClick(control.follow_box, Qt.Key.Key_Space)
    control.follow(InitSize(512, 768))
    assert control.requested_size() == (1024, 768)  # kept as it was when following ended
    for change in (control.swap.click, lambda: control.shapes.chosen.emit((592, 440))):
        qtbot.keyClick(control.follow_box, Qt.Key.Key_Space)
        assert not control.is_by_hand() and control.requested_size() == (512, 768)
        change()
        assert control.is_by_hand() and not control.follow_box.isChecked()


def test_leaving_a_field_is_not_setting_it(control: SizeControl, qtbot: QtBot) -> None:
    control.follow(InitSize(768, 512))
    control.width_box.setFocus()
    control.height_box.setFocus()
    assert not control.is_by_hand()


def test_an_outpainting_leaves_the_size_to_the_request(control: SizeControl) -> None:
    """As on the command line: the whole canvas where the checkpoint generates that size, else the new area."""
    control.follow(InitSize(640, 512, outpainted=True))
    assert control.requested_size() == (None, None) and control.generated_size() == (640, 512)
    assert not control.pastes() and control.shapes.currentText() == "Init image · 640 × 512"
    control.follow(InitSize(96, 64, outpainted=True))  # smaller than what the fields offer otherwise
    assert control.generated_size() == (96, 64) and control.width_box.value() == 96
    control.follow(InitSize(601, 400, outpainted=True))
    assert control.requested_size() == (None, None) and control.generated_size() == (512, 512) and control.pastes()
    assert "601 × 400 px" in control.reason() and "512 × 512 px and pasted in" in control.reason()
    control.follow(InitSize(640, 512, outpainted=True, masked_only=True))
    assert control.generated_size() == (512, 512) and control.pastes() and control.requested_size() == (None, None)
    control.follow(InitSize(640, 512, masked_only=True))
    assert control.requested_size() == (512, 512) and control.pastes()
    control.set_size(768, 512)
    assert control.requested_size() == (768, 512) and control.pastes() and control.is_by_hand()


def test_sizes_of_loaded_requests(control: SizeControl) -> None:
    control.follow(InitSize(768, 512))
    control.set_size(768, 512)
    assert not control.is_by_hand()
    control.set_size(512, 512)
    assert control.is_by_hand()
    control.set_size(None, None)  # without outpainting, the checkpoint's own size
    assert control.requested_size() == (512, 512) and control.is_by_hand()
    control.follow(InitSize(768, 512, outpainted=True))
    control.set_size(None, None)
    assert control.requested_size() == (None, None) and control.generated_size() == (768, 512)
    control.set_size(768, 512)
    assert control.requested_size() == (768, 512)


def test_another_checkpoint_brings_its_size_unless_one_was_set(control: SizeControl, qtbot: QtBot) -> None:
    xl, small = SizeLimits(1024, 1024, 8, 128, 4096), SizeLimits(64, 64, 8, 16, 128)
    control.set_limits(xl)
    assert control.requested_size() == (1024, 1024)
    type_into(qtbot, control.width_box, "768")
    control.set_limits(LIMITS)
    assert control.requested_size() == (768, 1024)
    control.set_limits(small)  # which cannot make that
    assert control.requested_size() == (64, 64) and not control.is_by_hand()
    control.set_limits(LIMITS)
    assert control.requested_size() == (512, 512)
    type_into(qtbot, control.width_box, "768")
    control.shapes.chosen.emit((512, 512))  # "Native"
    control.set_limits(xl)
    assert control.requested_size() == (1024, 1024)


def test_a_checkpoint_with_one_size_outpaints_too(control: SizeControl) -> None:
    control.set_limits(SizeLimits(48, 48, 8, 48, 48))
    control.follow(InitSize(48, 48))
    assert control.requested_size() == (None, None) and not control.pastes() and not control.follow_box.isVisible()
    control.follow(InitSize(64, 48, outpainted=True))
    assert control.pastes() and control.generated_size() == (48, 48) and "64 × 48 px" in control.reason()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 96), (100, 100), (512, 512)])
def test_what_is_shown_is_requested_for_a_checkpoint_of_any_size(control: SizeControl, width: int, height: int) -> None:
    """Also for a latent one that was trained at less than the usual smallest size."""
    limits = limits_of(checkpoint("small", family="sd1", width=width, height=height, metadata={}))
    assert limits.smallest <= min(width, height) and limits.smallest % limits.step == 0
    control.set_limits(limits)
    assert control.requested_size() == (control.width_box.value(), control.height_box.value())
    control.set_size(*control.requested_size())
    assert not control.is_by_hand() or (width, height) == (100, 100)
    control.set_limits(LIMITS)
    control.follow(InitSize(96, 64, outpainted=True))
    control.keep_by_hand()
    assert control.requested_size() == (control.width_box.value(), control.height_box.value()) == (96, 64)
