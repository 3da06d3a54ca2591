"""The pipeline class of a diffusers folder, if it is a text-to-image pipeline of diffusers itself.

Code that comes with a folder is never run.
"""

from __future__ import annotations

import inspect
from typing import Any

from diffstudio.errors import CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.files.file_access import read_json_object
from diffstudio.models.files.folder_check import needs_code
from diffstudio.models.files.formats import INDEX

_CONTROLLED = "needs a control image"
_OTHER_TASKS = (  # by a substring of a pipeline's parameter names
    ("video", "generates video"),
    ("frame", "generates video"),
    ("audio", "generates audio"),
    ("waveform", "generates audio"),
    ("gen_length", "generates text"),
    ("class_label", "generates images of numbered classes"),
    ("control_image", _CONTROLLED),
    ("controlnet", _CONTROLLED),
    ("adapter_conditioning", _CONTROLLED),
)
_IMAGE_INPUTS = frozenset({"image", "images", "mask_image", "reference_image"})  # of img2img and inpainting


def pipeline_class(checkpoint: Checkpoint) -> Any:
    """diffusers' own class that the folder names. CheckpointDamaged; CheckpointUnknown if it is not text-to-image."""
    import diffusers
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    index = read_json_object(checkpoint.path / INDEX)
    name = index.get("_class_name")
    if not isinstance(name, str) or any(checkpoint.path.rglob("*.py")):
        raise needs_code(checkpoint.name)
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise CheckpointUnknown(
            f"{checkpoint.name} needs an unknown pipeline",
            f"diffusers {diffusers.__version__} has no {name[:80]}",
            "Update diffusers, or choose another",
        )
    task = _other_task(kind, kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values())
    if task or not any(component.endswith("scheduler") for component in index):
        raise CheckpointUnknown(
            f"{checkpoint.name} {task or 'has no scheduler'}",
            f"it is a {name}, and only text-to-image pipelines are supported",
            "Choose a text-to-image checkpoint",
        )
    return kind


def _other_task(kind: Any, known: bool) -> str:
    """What a pipeline does, by its parameters; empty for text-to-image. `known` ones may take images as well."""
    parameters = inspect.signature(kind.__call__).parameters
    for substring, task in _OTHER_TASKS:
        if any(substring in name for name in parameters):
            return task
    if not known and _IMAGE_INPUTS & parameters.keys():
        return "edits images"
    required = {
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD and name != "self"
    }
    if "prompt" not in parameters:
        return "is not text-to-image"
    return "is one half of a pipeline" if required - {"prompt"} or kind.__name__.endswith("PriorPipeline") else ""
