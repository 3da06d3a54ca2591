"""The ControlNets of a request: found in the library, loaded beside its model, shown their pictures. No torch is imported here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffstudio.errors import BadRequest, ImageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.detection.types import Role
from diffstudio.models.files.hashes import autov2, sha256_of
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_model
from diffstudio.studio.requests import ControlNetUse, PictureRequest, ResizeName

if TYPE_CHECKING:
    from diffstudio.models.model import ControlNetInput, Model
    from diffstudio.studio.generation.init_image import InitImage

STEERED = ("sd1", "sd2", "sdxl")  # the families that ControlNets are made for here
_OLD_HASH = (0x100000, 0x10000)  # which bytes of a file are hashed for it
_OLD_DIGITS = 8


def cannot_steer(network: Checkpoint, checkpoint: Checkpoint) -> str:
    """Why a ControlNet cannot steer a checkpoint, a clause; empty where it may."""
    theirs, ours = family_of(network.family), family_of(checkpoint.family)
    if ours is None or ours.name not in STEERED:
        return f"{ours.title if ours is not None else 'this kind of checkpoint'} takes no ControlNet here"
    if network.family in STEERED and theirs is not None and theirs is not ours:
        return f"it was made for {theirs.title}, and the checkpoint is {ours.title}"
    if theirs is not None and network.family not in STEERED:
        return f"it was made for {theirs.title}, whose ControlNets are not used here"
    return ""


def find_controlnet(library: Library, name: str) -> Checkpoint:
    """The ControlNet of that name, in any case, or at that path. CheckpointMissing suggests similar names."""
    return find_model(library, name, (Role.CONTROLNET,), "ControlNet")


class RequestControlNets:
    """Of one request and for one thread."""

    def __init__(self, request: PictureRequest, library: Library | None, checkpoint: Checkpoint | None) -> None:
        self._uses: Sequence[ControlNetUse] = getattr(request, "controls", ())
        self._resize: ResizeName = getattr(request, "resize", ResizeName.CROP)
        self._in_part = bool(getattr(request, "masked_only", False))
        self._library, self._checkpoint = library, checkpoint
        self._found: dict[str, Checkpoint] = {}
        self._hints: dict[tuple[int, int], tuple[ControlNetInput, ...]] = {}

    def look_up(self) -> None:
        """Find every network and picture, so that what is not there is said before anything is loaded.

        CheckpointMissing; BadRequest for a network that cannot steer this checkpoint; ImageProblem for a picture that is gone.
        """
        for use in self._uses:
            network = self._found[use.network] = find_controlnet(self._library or Library(), use.network)
            if self._checkpoint is not None and (why := cannot_steer(network, self._checkpoint)):
                raise BadRequest(
                    f"{network.name} cannot steer {self._checkpoint.name}",
                    why,
                    "Choose a ControlNet of the checkpoint's family, or take it away",
                )
            if not use.image.is_file():
                raise ImageProblem(
                    f"The picture {use.image} is not there", "a ControlNet was to be shown it", "Choose it again"
                )

    def load(
        self,
        model: Model,
        say: Callable[[str, float | None], None] = lambda what, fraction: None,
        cancelled: Callable[[], bool] = lambda: False,
        make_room: Callable[[Model, int], bool] = lambda model, wanted: True,
    ) -> None:
        """Have all of them in memory beside the model. `make_room` hears how many bytes are wanted and says whether there is room.

        As `look_up`, and CheckpointDamaged, CheckpointUnknown, Interrupted.
        """
        if not self._uses:
            return
        self.look_up()
        nets: Any = getattr(model, "controlnets", None)
        if nets is None:
            raise BadRequest(
                "This checkpoint takes no ControlNet", remedy="Choose another checkpoint, or take the ControlNet away"
            )
        wanted = list({network.path: network for network in self._found.values()}.values())
        for network in wanted:
            if nets.get(network) is None:
                if not make_room(model, network.parameters * model.dtype.itemsize):
                    nets.keep_only(wanted)
                self._load_one(model, network, say, cancelled)

    def _load_one(
        self, model: Any, network: Checkpoint, say: Callable[[str, float | None], None], cancelled: Callable[[], bool]
    ) -> None:
        from diffstudio.models.conditioning.controlnet import load_controlnet
        from diffstudio.models.memory.offload import Offload, lie_beside, state_of

        level, what = state_of(model), f"Loading {network.title or network.name}"
        place: Any = "cpu" if level is Offload.LAYERS else model.device
        say(what, 0.0)
        loaded = load_controlnet(
            network, model.network, place, model.dtype, None, lambda done: say(what, done), cancelled
        )
        lie_beside(loaded, level, model.device)
        model.controlnets.put(network, loaded)
        if network.path.is_file():
            sha256_of(network.path, None, cancelled)  # for the picture's record: now, while it can be stopped

    def hints(
        self, model: Model, width: int, height: int, given: InitImage | None = None
    ) -> tuple[ControlNetInput, ...]:
        """What steers a picture of width × height px, where `load` was called before. ImageProblem for what is no picture."""
        if not self._uses:
            return ()
        if (width, height) not in self._hints:
            self._hints[width, height] = tuple(self._hint(use, model, width, height, given) for use in self._uses)
        return self._hints[width, height]

    def _hint(
        self, use: ControlNetUse, model: Any, width: int, height: int, given: InitImage | None
    ) -> ControlNetInput:
        import torch

        from diffstudio.models.model import ControlNetInput
        from diffstudio.studio.generation.control_preprocess import control_picture

        part = given if self._in_part else None
        whole, box = (None, None) if part is None else ((part.whole.shape[1], part.whole.shape[0]), part.box)
        picture = control_picture(use, (width, height), self._resize, whole, box)
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        return ControlNetInput(model.controlnets.get(self._found[use.network]), image, use.scale, use.begins, use.ends)

    def about(self) -> dict[str, Any]:
        """What a picture's record says of them: `controlnets`, in their order, each with name and hashes; nothing without any."""
        told = []
        for use in self._uses:
            network = self._found[use.network]
            sha256 = autov2(sha256_of(network.path)) if network.path.is_file() else ""
            told.append({"name": network.name, "hash": sha256, "old_hash": old_hash(network.path)})
        return {"controlnets": told} if told else {}


def old_hash(path: Path) -> str:
    """How AUTOMATIC1111 and its ControlNet extension tell models apart: by 64 KiB of the file. Empty where it cannot be read."""
    start, length = _OLD_HASH
    try:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(length)).hexdigest()[:_OLD_DIGITS]
    except OSError:
        return ""
