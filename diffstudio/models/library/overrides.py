"""Overrides: what a person says that a file is, where its header leaves it open or detection is wrong. No torch.

Kept in `models.json` in the data folder, which a person may edit as well:

    {"format": 1, "files": {"/models/odd.safetensors": {"family": "sd2", "prediction": "v", "size_bytes": 1, "sha256": "…"}}}

A file that moved is known again by its SHA-256, if that was worked out for it before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from diffstudio import paths
from diffstudio.atomic import write_text
from diffstudio.errors import BadRequest, CheckpointDamaged, StorageProblem
from diffstudio.models.checkpoint import Checkpoint, Role, with_detection
from diffstudio.models.detection.families_table import FAMILIES
from diffstudio.models.detection.types import Detection
from diffstudio.models.files.hashes import cached_sha256

FORMAT = 1
PREDICTIONS = ("eps", "v", "flow", "x0")


@dataclass(frozen=True, slots=True)
class Override:
    """Of one file; what is empty is left as it was detected."""

    family: str = ""
    prediction: str = ""
    size_bytes: int = 0
    sha256: str = ""

    def applied(self, checkpoint: Checkpoint) -> Checkpoint:
        family = self.family or checkpoint.family
        prediction = self.prediction or (
            checkpoint.prediction if family == checkpoint.family else _usual_prediction(family)
        )
        role = Role.CHECKPOINT if checkpoint.role is Role.UNKNOWN and self.family else checkpoint.role
        said = (self.family and FAMILIES[family].title, self.prediction and f"it predicts {prediction}")
        reason = f"You said so: {', '.join(part for part in said if part)}."
        edition = checkpoint.edition if family == checkpoint.family else ""
        return with_detection(
            checkpoint, Detection(role, family, prediction, checkpoint.inpainting, checkpoint.layout, reason, edition)
        )


def _usual_prediction(family: str) -> str:
    return "flow" if FAMILIES[family].flow else "eps"


class Overrides:
    """All of them, as they were when the file was read."""

    def __init__(self, file: Path | None = None) -> None:
        """CheckpointDamaged when there is a file and it cannot be read."""
        self.file = file or paths.overrides()
        self._files: dict[Path, Override] = {}
        try:
            stored = json.loads(self.file.read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise ValueError(f"it is of format {stored['format']!r}, and this program reads {FORMAT}")
            for path, entry in stored["files"].items():
                self._files[Path(path)] = _checked(
                    Override(
                        str(entry.get("family", "")),
                        str(entry.get("prediction", "")),
                        int(entry.get("size_bytes", 0)),
                        str(entry.get("sha256", "")),
                    )
                )
        except FileNotFoundError:
            return
        except (OSError, BadRequest, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointDamaged(
                f"What you said about models cannot be read from {self.file}",
                str(error)[:200].rstrip("."),
                "Put it right, or delete it and say it again",
            ) from error

    def applied(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint as the person says it is; as it was where nothing was said."""
        said = self.of(checkpoint)
        return checkpoint if said is None else said.applied(checkpoint)

    def of(self, checkpoint: Checkpoint) -> Override | None:
        if (said := self._files.get(checkpoint.path.absolute())) is not None:
            return said
        for path, override in self._files.items():
            if (
                override.sha256
                and override.size_bytes == checkpoint.size_bytes
                and not path.exists()
                and cached_sha256(checkpoint.path) == override.sha256
            ):
                return override
        return None

    def put(self, checkpoint: Checkpoint, family: str = "", prediction: str = "") -> None:
        """What is empty stays as it is. BadRequest for names that there are not, StorageProblem when it cannot be kept."""
        before = self.of(checkpoint) or Override()
        said = _checked(
            Override(
                family or before.family,
                prediction or before.prediction,
                checkpoint.size_bytes,
                cached_sha256(checkpoint.path),
            )
        )
        self._write(self._files | {checkpoint.path.absolute(): said})

    def clear(self, checkpoint: Checkpoint) -> bool:
        """Back to what is detected. False when nothing had been said."""
        said = self.of(checkpoint)
        if said is None:
            return False
        self._write({path: override for path, override in self._files.items() if override is not said})
        return True

    def _write(self, files: Mapping[Path, Override]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageProblem(
                f"{self.file} cannot be written", error.strerror or str(error), "Allow writing there"
            ) from error
        stored = {str(path): asdict(override) for path, override in sorted(files.items())}
        write_text(self.file, json.dumps({"format": FORMAT, "files": stored}, indent=1, ensure_ascii=False))
        self._files = dict(files)


def _checked(override: Override) -> Override:
    if override.family and override.family not in FAMILIES:
        raise BadRequest(
            f"There is no family called {override.family[:40]!r}", remedy=f"Say one of {', '.join(FAMILIES)}"
        )
    if override.prediction and override.prediction not in PREDICTIONS:
        raise BadRequest(
            f"No network predicts {override.prediction[:40]!r}", remedy=f"Say one of {', '.join(PREDICTIONS)}"
        )
    return override
