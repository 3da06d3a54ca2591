"""The ControlNets of a request: found in the library, loaded next to the model, given their preprocessed images.

No torch is imported here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffstudio.errors import BadRequest, ImageProblem
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.families_table import CONTROLNET_FAMILIES, family_of
from diffstudio.models.detection.types import Role
from diffstudio.models.files.hashes import autov2, sha256_of
from diffstudio.models.library.library import Library
from diffstudio.models.library.lookup import find_model
from diffstudio.plurals import count_of
from diffstudio.studio.requests import ControlNetUse, GenerateRequest
from diffstudio.studio.requests.choices import PreprocessorName
from diffstudio.studio.requests.control_types import CONTROL_TYPES, ControlTypeName

if TYPE_CHECKING:
    from torch import nn

    from diffstudio.models.conditioning.image_inputs import ControlNetInput
    from diffstudio.models.model import Model
    from diffstudio.studio.generation.init_image import InitImage

_MADE_BY = {PreprocessorName.CANNY: ControlTypeName.LINES, PreprocessorName.SCRIBBLE: ControlTypeName.SOFT_EDGE}
_OLD_HASH = (0x100000, 0x10000)  # the offset and length in bytes that are hashed for it
_OLD_DIGITS = 8


def controlnet_misfit(network: Checkpoint, checkpoint: Checkpoint) -> str:
    """Why a ControlNet cannot be used with a checkpoint, as a clause; empty if it can."""
    theirs, ours = family_of(network.family), family_of(checkpoint.family)
    if ours is None or ours.name not in CONTROLNET_FAMILIES:
        return f"{ours.title if ours is not None else 'this type of checkpoint'} does not support ControlNet"
    if network.family in CONTROLNET_FAMILIES and theirs is not None and theirs is not ours:
        return f"it was made for {theirs.title}, and the checkpoint is {ours.title}"
    if theirs is not None and network.family not in CONTROLNET_FAMILIES:
        return f"it was made for {theirs.title}, whose ControlNets are not supported"
    return ""


def control_types_of(network: Checkpoint) -> tuple[ControlTypeName, ...]:
    """The control types among which a union ControlNet must be given one; empty for any other."""
    return CONTROL_TYPES[: network.control_types]


def made_control_type(preprocessor: PreprocessorName) -> ControlTypeName:
    """The control type that a preprocessor makes; AUTO where that depends on the image."""
    return _MADE_BY.get(preprocessor, ControlTypeName.AUTO)


def control_type_of(use: ControlNetUse) -> ControlTypeName:
    """What the control image shows: as chosen, else what the preprocessor makes; AUTO where that does not say."""
    return made_control_type(use.prepare) if use.control_type is ControlTypeName.AUTO else use.control_type


def _check_control_type(use: ControlNetUse, network: Checkpoint) -> None:
    """BadRequest for a control type that the ControlNet does not have, or that is missing."""
    types, chosen = control_types_of(network), control_type_of(use)
    if not types:
        if use.control_type is ControlTypeName.AUTO:
            return
        raise BadRequest(
            f"{network.name} has no control types to choose from",
            "it is not a union ControlNet",
            "Leave the control type at auto, or choose a union ControlNet",
        )
    if chosen is ControlTypeName.AUTO:
        raise BadRequest(
            f"{network.name} needs to know what {use.image.name} shows",
            "it is a union ControlNet, and neither the control type nor the preprocessor tells",
            f"Choose the control type: {', '.join(types)}",
        )
    if chosen not in types:
        raise BadRequest(
            f"{network.name} does not have the control type {chosen}",
            f"it was trained on {count_of(len(types), 'type')} of control image",
            f"Choose one of {', '.join(types)}; tile and repaint need the ProMax edition",
        )


def find_controlnet(library: Library | None, name: str) -> Checkpoint:
    """The ControlNet with this name (in any case) or path. CheckpointMissing suggests similar names."""
    return find_model(library, name, (Role.CONTROLNET,), "ControlNet")


def find_controlnets(
    request: GenerateRequest, library: Library | None, checkpoint: Checkpoint | None
) -> tuple[Checkpoint, ...]:
    """The ControlNet of each of the request's `controls`; their images are checked too.

    CheckpointMissing; BadRequest for a ControlNet that does not fit the checkpoint, and for a control type that it does
    not have or needs; ImageProblem for a missing image.
    """
    return tuple(_find(use, library, checkpoint) for use in request.controls)


def _find(use: ControlNetUse, library: Library | None, checkpoint: Checkpoint | None) -> Checkpoint:
    network = find_controlnet(library, use.network)
    if checkpoint is not None and (why := controlnet_misfit(network, checkpoint)):
        raise BadRequest(
            f"{network.name} cannot be used with {checkpoint.name}",
            why,
            "Choose a ControlNet of the checkpoint's family, or remove it",
        )
    _check_control_type(use, network)
    if not use.image.is_file():
        raise ImageProblem(f"The image {use.image} does not exist", "a ControlNet needs it", "Choose another image")
    return network


def load_controlnets(
    networks: Sequence[Checkpoint],
    model: Model,
    on_progress: Callable[[str, float | None], None] = lambda what, fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
    make_room: Callable[[Model, int], bool] = lambda model, needed_bytes: True,
) -> None:
    """Load these ControlNets next to the model.

    `make_room(model, needed_bytes)` frees memory for the next one and returns whether it fits.

    BadRequest, CheckpointDamaged, CheckpointUnknown, Interrupted.
    """
    if not networks:
        return
    if model.controlnets is None:
        raise BadRequest(
            "This checkpoint does not support ControlNet", remedy="Choose another checkpoint, or remove the ControlNet"
        )
    needed = list({network.path: network for network in networks}.values())
    for network in needed:
        if model.controlnets.get(network) is None:
            if not make_room(model, network.parameters * model.dtype.itemsize):
                model.controlnets.keep_only(needed)
            if network.edition == "difference" and model.adapters is not None:
                model.adapters.detach()  # from the checkpoint's own weights; LoRAs are attached after this
            model.controlnets.put(network, _load(network, model, on_progress, cancelled))
            if network.path.is_file():
                sha256_of(network.path, None, cancelled)  # for the metadata: computed now, while it can be interrupted


def _load(
    network: Checkpoint, model: Model, on_progress: Callable[[str, float | None], None], cancelled: Callable[[], bool]
) -> nn.Module:
    import torch

    from diffstudio.models.conditioning.controlnet import load_controlnet
    from diffstudio.models.memory.offload import place_controlnet
    from diffstudio.models.model import OffloadLevel

    what = f"Loading {network.title or network.name}"
    device = torch.device("cpu") if model.offload_level is OffloadLevel.LAYERS else model.device
    on_progress(what, 0.0)
    loaded = load_controlnet(
        network, model.network, device, model.dtype, None, lambda done: on_progress(what, done), cancelled
    )
    place_controlnet(loaded, model.offload_level, model.device)
    return loaded


class RequestControlNets:
    """The ControlNets of one request with their preprocessed images; `files` has one for each of its `controls`."""

    def __init__(self, request: GenerateRequest, files: Sequence[Checkpoint]) -> None:
        self._request, self._files = request, files
        self._inputs: dict[tuple[int, int], tuple[ControlNetInput, ...]] = {}

    def inputs(
        self, model: Model, width: int, height: int, init_image: InitImage | None = None
    ) -> tuple[ControlNetInput, ...]:
        """The preprocessed inputs for an image of width × height px, after `load_controlnets`.

        ImageProblem for an unreadable file.
        """
        if (width, height) not in self._inputs:
            self._inputs[width, height] = tuple(
                self._input(use, file, model, width, height, init_image)
                for use, file in zip(self._request.controls, self._files, strict=True)
            )
        return self._inputs[width, height]

    def _input(
        self, use: ControlNetUse, file: Checkpoint, model: Model, width: int, height: int, init_image: InitImage | None
    ) -> ControlNetInput:
        import torch

        from diffstudio.models.conditioning.image_inputs import ControlNetInput
        from diffstudio.studio.generation.control_preprocess import control_image

        assert model.controlnets is not None
        network = model.controlnets.get(file)
        assert network is not None, "load_controlnets must be called first"
        inpainted = init_image if self._request.masked_only else None
        whole, box = (
            (None, None) if inpainted is None else ((inpainted.whole.shape[1], inpainted.whole.shape[0]), inpainted.box)
        )
        pixels = control_image(use, (width, height), self._request.resize, whole, box)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        control_type = CONTROL_TYPES.index(control_type_of(use)) if file.control_types else None
        return ControlNetInput(network, image, use.scale, use.begins, use.ends, control_type)

    def metadata(self) -> dict[str, Any]:
        """`controlnets` for the image's metadata, in their order, each with name and hashes; empty without any.

        For a union ControlNet also the control type that was used.
        """
        controlnets = []
        for use, file in zip(self._request.controls, self._files, strict=True):
            sha256 = autov2(sha256_of(file.path)) if file.path.is_file() else ""
            about = {"name": file.name, "hash": sha256, "old_hash": old_hash(file.path)}
            controlnets.append(about | ({"control_type": control_type_of(use).value} if file.control_types else {}))
        return {"controlnets": controlnets} if controlnets else {}


def old_hash(path: Path) -> str:
    """AUTOMATIC1111's old model hash, which its ControlNet extension still uses: of 64 KiB of the file.

    Empty where it cannot be read.
    """
    start, length = _OLD_HASH
    try:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(length)).hexdigest()[:_OLD_DIGITS]
    except OSError:
        return ""
