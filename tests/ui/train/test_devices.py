"""The devices of a new run, and the command for other machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from diffstudio.training.distributed import cluster
from diffstudio.training.distributed.cluster import ALL_DEVICES, LOCAL, Cluster
from diffstudio.ui.train import devices
from diffstudio.ui.train.devices import DevicesForm


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_NOWHERE", (LOCAL, 9))


@pytest.mark.parametrize(
    ("gpus", "accelerated", "offered"),
    [(0, False, [(1, "CPU")]), (1, True, [(1, "GPU")]), (4, True, [(1, "1 GPU"), (ALL_DEVICES, "All 4 GPUs")])],
)
def test_the_devices_of_this_machine_are_offered(
    gpus: int, accelerated: bool, offered: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: gpus)
    monkeypatch.setattr(devices, "seems_accelerated", lambda: accelerated)
    assert devices.device_choices() == offered


def test_another_machine_gets_a_command_which_is_copied_with_one_click(qtbot: QtBot) -> None:
    form = DevicesForm()
    qtbot.addWidget(form)
    form.show()
    form.set_folder(Path("/home/me/my cats"))
    assert form.cluster() == Cluster()
    assert not (form.command.isVisible() or form.copy.isVisible() or form.note.isVisible())
    form.machines.combo.setFocus()
    qtbot.keyClick(form.machines.combo, Qt.Key.Key_Down)
    assert form.cluster() == Cluster(machines=2)
    assert "on the other machine" in form.note.text()
    qtbot.mouseClick(form.copy, Qt.MouseButton.LeftButton)
    copied = QGuiApplication.clipboard().text()
    assert copied == form.command.text() == "diffstudio train '/home/me/my cats' --join 127.0.0.1:29500"
    form.machines.combo.set_value(3)
    form.set_folder(None)
    assert "each other machine" in form.note.text() and form.command.text().startswith("diffstudio train FOLDER ")


def test_all_gpus_are_one_process_each(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: 2)
    form = DevicesForm()
    qtbot.addWidget(form)
    assert form.cluster() == Cluster()
    form.devices.set_value(ALL_DEVICES)
    assert form.cluster() == Cluster(processes=ALL_DEVICES)
