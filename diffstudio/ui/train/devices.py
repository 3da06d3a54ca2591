"""The devices of a new run: those of this machine, and other machines with the command that joins them."""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QLineEdit, QVBoxLayout, QWidget

from diffstudio.plurals import count_of
from diffstudio.studio.jobs.device_guess import gpu_count, seems_accelerated
from diffstudio.training.distributed.cluster import ALL_DEVICES, Cluster, join_command
from diffstudio.ui.train.form_parts import without_padding
from diffstudio.ui.widgets import actions, theme
from diffstudio.ui.widgets.controls import SecondaryButton
from diffstudio.ui.widgets.helpers import describe, label
from diffstudio.ui.widgets.inputs.combo_box import LabelledComboBox

_MOST_MACHINES = 8


def device_choices() -> list[tuple[int, str]]:
    """Numbers of processes, and what they train on."""
    gpus = gpu_count()
    if gpus > 1:
        return [(1, "1 GPU"), (ALL_DEVICES, f"All {gpus} GPUs")]
    return [(1, "GPU" if seems_accelerated() else "CPU")]


class DevicesForm(QWidget):
    """Devices and machines, and below them the command for the other machines where there are any."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._folder: Path | None = None
        self.devices = LabelledComboBox(
            "Devices",
            device_choices(),
            f"Devices of this machine: one process per GPU, or the CPU with its {count_of(os.cpu_count() or 1, 'thread')}",
        )
        self.machines = LabelledComboBox(
            "Machines",
            [(1, "This machine"), *((count, f"{count} machines") for count in range(2, _MOST_MACHINES + 1))],
            "Train on several machines together. The run waits until the others have joined",
        )
        self.note = label("", "dim", pixels=theme.SMALL_PIXELS, wrap=True)
        self.command = QLineEdit()
        self.command.setReadOnly(True)
        describe(self.command, "Command for the other machines", "Enter this on each other machine")
        self.copy = SecondaryButton(actions.COPY_COMMAND, "copy", "Copy the command for the other machines")
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.addWidget(self.devices, 0, 0)
        grid.addWidget(self.machines, 0, 1)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(grid)
        for part in (self.note, self.command, self.copy):
            column.addWidget(part)
        without_padding(self.devices.combo, self.machines.combo)
        self.machines.value_changed.connect(self._show)
        for box in (self.devices, self.machines):
            box.value_changed.connect(self.changed)
        self.copy.clicked.connect(self._copy)
        self._show()

    def cluster(self) -> Cluster:
        return Cluster(self.devices.value(), self.machines.value())

    def set_cluster(self, cluster: Cluster) -> bool:
        """Show these devices; whether all of them are here."""
        found = self.devices.set_value(cluster.processes), self.machines.set_value(cluster.machines)
        self._show()
        return all(found)

    def set_folder(self, folder: Path | None) -> None:
        """The images of the run, which the others need too."""
        self._folder = folder
        self._show()

    def _show(self, *_: object) -> None:
        cluster = self.cluster()
        others = cluster.machines - 1
        for part in (self.note, self.command, self.copy):
            part.setVisible(others > 0)
        if others:
            self.note.setText(
                f"Start training, then enter this on {'the other machine' if others == 1 else 'each other machine'}, "
                "with the path of the same images there. Use it in a network that you trust."
            )
            self.command.setText(join_command(self._folder, cluster.port))
            self.command.setCursorPosition(0)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.command.text())
