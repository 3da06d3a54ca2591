"""Measurements in a JSON file, so that a benchmark that was stopped goes on after the last one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class KeptResults:
    """What was measured, by a key; without a file it is only kept in memory."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.measured: dict[str, Any] = {}
        if file is not None and file.is_file():
            self.measured = json.loads(file.read_text(encoding="utf-8"))

    def of(self, key: str, measure: Callable[[], Any]) -> Any:
        """The result with this key; `measure` is called if there is none yet."""
        if key not in self.measured:
            self.measured[key] = measure()
            if self._file is not None:
                self._file.write_text(json.dumps(self.measured, indent=1), encoding="utf-8")
        return self.measured[key]
