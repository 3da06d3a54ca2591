"""The header of a weights file, whatever its format: read once, then passed on from the library to the loaded model.

No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from diffstudio.models.files.file_access import FileStamp, file_stamp
from diffstudio.models.files.formats import WeightsFormat, weights_format
from diffstudio.models.files.gguf_header import GgufHeader, read_gguf_header
from diffstudio.models.files.pickle_scan import PickleScan, scan_pickle
from diffstudio.models.files.safetensors_header import SafetensorsHeader, read_safetensors_header


@dataclass(frozen=True, slots=True)
class Header:
    """What one file declares, and the file's stamp from just before it was read."""

    path: Path
    stamp: FileStamp
    content: SafetensorsHeader | GgufHeader | PickleScan

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self.content.shapes

    def check(self) -> None:
        """CheckpointDangerous for a pickle that would run something; CheckpointDamaged for one whose weights cannot be
        read.
        """
        if isinstance(self.content, PickleScan):
            self.content.check()

    def is_of(self, path: Path) -> bool:
        """Whether it is this file's header, and the file has not changed since."""
        return self.path == path and file_stamp(path) == self.stamp


def read_header(path: Path) -> Header:
    """By the file's content, whatever its suffix. A pickle is scanned, and nothing in it is run.

    CheckpointMissing, CheckpointDamaged, CheckpointUnknown. Whether a pickle is dangerous is for `check` to say.
    """
    stamp = file_stamp(path)
    content: SafetensorsHeader | GgufHeader | PickleScan
    match weights_format(path):
        case WeightsFormat.GGUF:
            content = read_gguf_header(path)
        case WeightsFormat.PICKLE:
            content = scan_pickle(path)
        case _:
            content = read_safetensors_header(path)
    return Header(path, stamp or FileStamp(0, 0), content)


class Headers:
    """The headers of several files, each read once for as long as its file does not change."""

    def __init__(self, known: Iterable[Header] = ()) -> None:
        self._known = {header.path: header for header in known}

    def of(self, path: Path) -> Header:
        """Raises as `read_header` does."""
        known = self._known.get(path)
        if known is None or not known.is_of(path):
            known = self._known[path] = read_header(path)
        return known
