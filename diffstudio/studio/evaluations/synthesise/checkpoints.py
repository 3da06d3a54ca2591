"""The checkpoints of a request for synthetic images: the one that generates, and the one that guides it. No torch."""

from __future__ import annotations

from diffstudio.errors import BadRequest
from diffstudio.models.library.library import Library
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects


def generating_checkpoint(name: str, library: Library) -> CheckpointSubject:
    """The checkpoint of this name or path. BadRequest for a folder of images."""
    (found,) = find_subjects((name,), library)
    if not isinstance(found, CheckpointSubject):
        raise BadRequest(
            f"{found.name} is a folder of images",
            "synthetic images are generated with a checkpoint",
            "Name a checkpoint or the folder of a run",
        )
    return found


def check_autoguidance(name: str, subject: CheckpointSubject, library: Library) -> None:
    """BadRequest for a weaker checkpoint that does not generate from the same classes or captions."""
    if not name:
        return
    (earlier,) = find_subjects((name,), library)
    one = subject.checkpoint
    two = earlier.checkpoint if isinstance(earlier, CheckpointSubject) else None
    if two is None or (one.conditioning, one.classes) != (two.conditioning, two.classes):
        raise BadRequest(
            f"{earlier.name} cannot guide {subject.name}",
            "it does not generate from the same classes or captions",
            f"Choose an earlier checkpoint of the run of {subject.name}",
        )
