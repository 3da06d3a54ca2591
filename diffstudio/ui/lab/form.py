"""LabForm: the fields of one verb, and the command that they produce."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.library.references import ModelRenamed
from diffstudio.ui.lab.fields import Field
from diffstudio.ui.widgets.controls import SectionLabel
from diffstudio.ui.widgets.images.drag_and_drop import DroppedItem, DropTarget


class LabForm(QWidget):
    """The form of a verb: `fields` in the order on screen, and the `positional` ones in the order of the command."""

    changed = Signal()
    failed = Signal(str)  # why what was dropped could not be used

    def __init__(
        self,
        sections: Sequence[tuple[str, Sequence[Field]]],
        positional: Sequence[Field],
        name: Callable[[], str],
        about: Callable[[], str] = lambda: "",
    ) -> None:
        super().__init__()
        self.fields = [field for _, fields in sections for field in fields]
        self._positional, self._name, self._about = tuple(positional), name, about
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        for place, (title, fields) in enumerate(sections):
            column.addSpacing(8 if place else 0)
            column.addWidget(SectionLabel(title))
            for field in fields:
                column.addWidget(field)
                field.changed.connect(self.changed)
                DropTarget(field, field.drop_text, field.take, self.failed.emit)  # before the form, which finds one
        self.setFocusProxy(self.fields[0])

    def arguments(self) -> list[str]:
        """The arguments of the verb, positional ones first; disabled fields add none."""
        flagged = [field for field in self.fields if field not in self._positional]
        used = filter(self._is_used, (*self._positional, *flagged))
        return [argument for field in used for argument in field.arguments()]

    def problem(self) -> str:
        """Why the job cannot be started yet; empty if it can."""
        return next((problem for field in filter(self._is_used, self.fields) if (problem := field.problem())), "")

    def job_name(self) -> str:
        return self._name()

    def about(self) -> str:
        """A sentence about what the job will do with these settings; may be empty."""
        return self._about()

    def fill(self, arguments: Sequence[str]) -> None:
        """Show the arguments of an earlier job."""
        rest = list(arguments)
        for field in self.fields:
            if field not in self._positional:
                field.fill(rest)
        if "--" in rest:  # what follows it is positional
            rest.remove("--")
        for field in reversed(self._positional):  # the last field is one argument, the first takes all others
            field.fill(rest)

    def offer(self, checkpoints: Sequence[Checkpoint]) -> None:
        for field in self.fields:
            field.offer(checkpoints)

    def follow_renamed(self, change: ModelRenamed) -> None:
        for field in self.fields:
            field.follow_renamed(change)

    def drop_text(self, items: Sequence[DroppedItem]) -> str:
        """The effect of dropping these items; empty if no field accepts them."""
        field = self._taker(items)
        return field.drop_text(items) if field is not None else ""

    def take(self, items: Sequence[DroppedItem]) -> None:
        field = self._taker(items)
        if field is not None:
            field.take(items)

    def _is_used(self, field: Field) -> bool:
        return field.isEnabledTo(self)

    def _taker(self, items: Sequence[DroppedItem]) -> Field | None:
        """The first incomplete field that accepts these items, or else the first field that accepts them."""
        takers = [field for field in self.fields if field.drop_text(items)]
        return next((field for field in takers if field.problem()), takers[0] if takers else None)
