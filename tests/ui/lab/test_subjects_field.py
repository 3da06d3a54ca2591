"""The checkpoints that are chosen in a form follow a new name, and are named when they are gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from diffstudio.models.detection.types import Role
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.library.references import ModelRenamed
from diffstudio.ui.lab.noise_schedule.view import NoiseScheduleView
from diffstudio.ui.lab.pages.forward import ForwardView
from diffstudio.ui.lab.room import LabRoom
from diffstudio.ui.lab.subjects_field import SubjectsField
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.samples import checkpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "tiny.safetensors")


def renamed(file: Path) -> ModelRenamed:
    new = file.with_stem("small")
    file.rename(new)
    return ModelRenamed(Role.CHECKPOINT, "tiny", file, "small", new)


def test_a_renamed_checkpoint_stays_chosen(make_room: Callable[[], LabRoom], file: Path) -> None:
    room = make_room()
    room.set_checkpoints([checkpoint("tiny", path=file)])
    view = room.show_form("reverse")
    view.form.fill([str(file), "--prompt", "tiny"])
    by_name = room.form_view("evaluate").form
    by_name.fill(["Tiny", "/photos"])
    change = renamed(file)
    room.follow_renamed(change)
    room.set_checkpoints([checkpoint("small", path=change.new_path)])
    assert view.form.arguments() == [str(change.new_path), "--prompt=tiny"] and view.start.isEnabled()
    assert by_name.arguments()[0] == str(change.new_path)


def test_a_checkpoint_that_is_gone_is_named_before_the_start(make_room: Callable[[], LabRoom], file: Path) -> None:
    room = make_room()
    room.set_checkpoints([checkpoint("tiny", path=file)])
    view = room.show_form("reverse")
    view.form.fill([str(file)])
    assert view.start.isEnabled()
    content = file.read_bytes()
    file.unlink()
    room.set_checkpoints([])
    assert not view.start.isEnabled()
    assert view.problem.text() == "tiny is not there any more: remove it, or choose another one."
    field = view.form.fields[0]
    assert isinstance(field, SubjectsField)
    file.write_bytes(content)  # restored from the trash
    room.set_checkpoints([checkpoint("tiny", path=file)])
    assert view.start.isEnabled()
    file.unlink()
    room.set_checkpoints([])
    field.remove(str(file))
    assert view.problem.text() == "Choose a checkpoint."


@pytest.mark.parametrize("key", ["forward-process", "noise-schedule"])
def test_interactive_pages_keep_a_renamed_model(
    make_room: Callable[[], LabRoom], qtbot: QtBot, file: Path, key: str
) -> None:
    room = make_room()
    room.set_checkpoints([checkpoint("other"), read_checkpoint(file)])
    view = room.show_interactive(key)
    assert isinstance(view, ForwardView | NoiseScheduleView)
    combo = view.schedule if isinstance(view, ForwardView) else view.controls.model
    combo.set_value(str(file))
    combo.value_changed.emit(str(file))
    change = renamed(file)
    before = [checkpoint("other"), replace(checkpoint("tiny"), path=file)]
    room.follow_renamed(change)
    room.set_checkpoints(before)  # by a scan that was under way
    assert combo.value() == str(file)
    room.set_checkpoints([checkpoint("other"), read_checkpoint(change.new_path)])
    assert combo.value() == str(change.new_path)
    if isinstance(view, NoiseScheduleView):
        sampling = view.controls.sampling()
        assert sampling is not None and sampling.checkpoint.path == change.new_path
