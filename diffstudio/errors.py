"""Every error a person can meet.

    DiffstudioError
    ├── BadRequest              what was asked cannot be done: a size, a seed, a name
    ├── FolderProblem           a folder of pictures that cannot be trained on
    ├── ImageProblem            one picture that cannot be read or written
    ├── CheckpointProblem       a checkpoint that is missing, damaged or of an unknown kind
    │   ├── CheckpointMissing
    │   ├── CheckpointDamaged
    │   ├── CheckpointDangerous    it would have run something of its own
    │   └── CheckpointUnknown
    ├── RunProblem              a training run that cannot be started, found or resumed
    │   └── Diverged            its loss is no longer a number, or has left all bounds
    ├── StorageProblem          the disk is full, or a place cannot be written to
    ├── OutOfMemory             the job did not fit, also in smaller pieces
    └── Stopped                 a person asked for the end: not a failure

Each says what happened, why, and what to do next; `str(error)` is one sentence a person can act on.
"""

from __future__ import annotations


class DiffstudioError(Exception):
    """A thing that went wrong in a way a person can understand.

    `what` happened, `why`, and the `remedy`: each a clause without its final full stop; the last two may be empty.
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(what, why, remedy)
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.why}" if self.why else self.what
        return f"{sentence}. {self.remedy}." if self.remedy else f"{sentence}."


class BadRequest(DiffstudioError):
    exit_code = 2


class FolderProblem(DiffstudioError):
    exit_code = 2


class ImageProblem(DiffstudioError):
    pass


class CheckpointProblem(DiffstudioError):
    pass


class CheckpointMissing(CheckpointProblem):
    """`pieces`: the text encoders, autoencoders and tokenizers that are not there, by their names in models/components/requirements.py."""

    exit_code = 2
    pieces: tuple[str, ...] = ()


class CheckpointDamaged(CheckpointProblem):
    pass


class CheckpointDangerous(CheckpointProblem):
    pass


class CheckpointUnknown(CheckpointProblem):
    pass


class RunProblem(DiffstudioError):
    pass


class Diverged(RunProblem):
    pass


class StorageProblem(DiffstudioError):
    pass


class OutOfMemory(DiffstudioError):
    pass


class Interrupted(DiffstudioError):
    exit_code = 130
