"""The user's corrections of a model's family, edition and prediction type, where detection is unsure or wrong. No torch.

Stored in `models.json` in the data folder, which may also be edited by hand:

    {"format": 1, "files": {"/models/odd.safetensors": {"family": "sd2", "prediction": "v", "size_bytes": 1, "sha256":
    "…"}}}

A file that was moved is recognised by its SHA-256, if that was computed before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import (
    BadRequest,
    CheckpointDamaged,
    StorageProblem,
    UnexpectedValue,
    why_unreadable,
    wrong_format,
)
from diffstudio.models.checkpoint import Checkpoint, with_detection
from diffstudio.models.detection.editions import EDITIONS
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.types import Detection, Layout, Role
from diffstudio.models.files.hashes import cached_sha256

FORMAT = 1
PREDICTIONS = ("eps", "v", "flow", "x0")


@dataclass(frozen=True, slots=True)
class Override:
    """The user's correction for one file; empty fields stay as detected."""

    family: str = ""
    prediction: str = ""
    size_bytes: int = 0
    sha256: str = ""
    edition: str = ""

    def applied(self, checkpoint: Checkpoint) -> Checkpoint:
        family = self.family or checkpoint.family
        prediction = self.prediction or (
            checkpoint.prediction if family == checkpoint.family else _usual_prediction(family)
        )
        role = Role.CHECKPOINT if checkpoint.role is Role.UNKNOWN and self.family else checkpoint.role
        edition = self.edition or (checkpoint.edition if family == checkpoint.family else "")
        title = FAMILIES[family].title if self.family else ""
        parts = (f"{title} {self.edition}".strip(), self.prediction and f"predicts {prediction}")
        reason = f"Set by you: {', '.join(part for part in parts if part)}."
        return with_detection(
            checkpoint,
            Detection(
                role,
                family,
                prediction,
                checkpoint.inpainting,
                checkpoint.layout,
                reason,
                edition,
                control_types=checkpoint.control_types,
            ),
        )


def _usual_prediction(family: str) -> str:
    return "flow" if FAMILIES[family].flow else "eps"


class Overrides:
    """All overrides, as they were when `models.json` was read."""

    def __init__(self, file: Path | None = None) -> None:
        """Read `models.json`. CheckpointDamaged if it exists and cannot be read."""
        self.file = file or paths.overrides()
        self._files: dict[Path, Override] = {}
        try:
            stored = json.loads(self.file.read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise UnexpectedValue(wrong_format(stored["format"], FORMAT))
            for path, entry in stored["files"].items():
                self._files[Path(path)] = _checked(
                    Override(
                        _text(entry, "family"),
                        _text(entry, "prediction"),
                        int(entry.get("size_bytes", 0)),
                        _text(entry, "sha256"),
                        _text(entry, "edition"),
                    )
                )
        except FileNotFoundError:
            return
        except (OSError, BadRequest, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointDamaged(
                f"{self.file} cannot be read",
                str(error)[:200].rstrip(".") if isinstance(error, BadRequest) else why_unreadable(error),
                "Correct it, or delete it and set the types of your models again",
            ) from error

    def applied(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with its override, if it has one."""
        override = self.of(checkpoint)
        return checkpoint if override is None else override.applied(checkpoint)

    def of(self, checkpoint: Checkpoint) -> Override | None:
        if (own := self._files.get(checkpoint.path.absolute())) is not None:
            return own
        for path, override in self._files.items():
            if (
                override.sha256
                and override.size_bytes == checkpoint.size_bytes
                and not path.exists()
                and cached_sha256(checkpoint.path) == override.sha256
            ):
                return override
        return None

    def put(self, checkpoint: Checkpoint, family: str = "", prediction: str = "", edition: str = "") -> None:
        """Set and save an override; empty arguments keep what was set.

        BadRequest for unknown names and for checkpoints trained here, StorageProblem.
        """
        if checkpoint.layout is Layout.OURS:
            raise BadRequest(
                f"The type of {checkpoint.name} cannot be changed",
                "it was trained with diffstudio, and its header says what it is",
                "Only the types of other files can be corrected",
            )
        before = self.of(checkpoint) or Override()
        override = _checked(
            Override(
                family or before.family,
                prediction or before.prediction,
                checkpoint.size_bytes,
                cached_sha256(checkpoint.path),
                edition or before.edition,
            )
        )
        self._write(self._files | {checkpoint.path.absolute(): override})

    def clear(self, checkpoint: Checkpoint) -> bool:
        """Back to what was detected. False if there was no override."""
        override = self.of(checkpoint)
        if override is None:
            return False
        self._write({path: other for path, other in self._files.items() if other is not override})
        return True

    def moved(self, old: Path, new: Path) -> None:
        """The file at `old` is now at `new`, with what was set for it. StorageProblem."""
        if (override := self._files.get(old.absolute())) is not None:
            others = {path: other for path, other in self._files.items() if path != old.absolute()}
            self._write(others | {new.absolute(): override})

    def _write(self, files: Mapping[Path, Override]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageProblem(
                f"{self.file} cannot be written", error.strerror or str(error), "Allow writing to its folder"
            ) from error
        stored = {str(path): asdict(override) for path, override in sorted(files.items())}
        write_text(self.file, json.dumps({"format": FORMAT, "files": stored}, indent=1, ensure_ascii=False))
        self._files = dict(files)


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise UnexpectedValue(f"{key} is {str(value)[:40]}, and it must be text")
    return value


def _checked(override: Override) -> Override:
    if override.family and override.family not in FAMILIES:
        raise BadRequest(
            f"There is no family called {override.family[:40]!r}", remedy=f"Choose one of {', '.join(FAMILIES)}"
        )
    known = EDITIONS.get(override.family, sorted({name for names in EDITIONS.values() for name in names}))
    if override.edition and override.edition not in known:
        raise BadRequest(
            f"There is no edition called {override.edition[:40]!r}", remedy=f"Choose one of {', '.join(known)}"
        )
    if override.prediction and override.prediction not in PREDICTIONS:
        raise BadRequest(
            f"No network predicts {override.prediction[:40]!r}", remedy=f"Choose one of {', '.join(PREDICTIONS)}"
        )
    return override
