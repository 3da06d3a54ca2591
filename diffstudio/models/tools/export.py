"""Exporting: a checkpoint as a diffusers folder, which `DiffusionPipeline.from_pretrained` of diffusers opens.

Weights go over tensor by tensor; only a component that the checkpoint's own file lacks, and that lies elsewhere, is loaded for it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffstudio.atomic import atomic_folder
from diffstudio.errors import CheckpointDamaged, CheckpointMissing, CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint, Layout
from diffstudio.models.components.components import Components, empty_module
from diffstudio.models.components.open_components import open_components
from diffstudio.models.detection.families_table import family_of
from diffstudio.models.files.formats import INDEX, PICKLES, SAFETENSORS
from diffstudio.models.library.library import Library
from diffstudio.models.state_dicts.prefixes import TEXT_ENCODERS, unused_for_inference
from diffstudio.models.state_dicts.split import State, split_components
from diffstudio.models.tools.convert import Narrowed, check_precision
from diffstudio.models.tools.spec import Made, Making, Precision
from diffstudio.models.tools.weights_writer import check_place, open_weights, size_of, write_tensors

_PIPELINES = {  # family -> what diffusers runs it with, and with a mask
    "sd1": ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline"),
    "sd2": ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline"),
    "sdxl": ("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"),
    "sdxl_refiner": ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
}
_SAID: Mapping[str, Mapping[str, Any]] = {  # in model_index.json, besides the components
    "sd1": {"requires_safety_checker": False},
    "sd2": {"requires_safety_checker": False},
    "sdxl": {"force_zeros_for_empty_prompt": True},
    "sdxl_refiner": {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
}
_UNUSED = ("feature_extractor", "image_encoder")
_ABSENT = {
    "sd1": ("safety_checker", *_UNUSED),
    "sd2": ("safety_checker", *_UNUSED),
    "sdxl": _UNUSED,
    "sdxl_refiner": ("text_encoder", "tokenizer", *_UNUSED),
}
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_ENCODERS_WEIGHTS = "model.safetensors"
_CONFIGURATION_BYTES = 16 << 20


def exportable(checkpoint: Checkpoint) -> bool:
    """Whether a diffusers folder can be made of it, as far as its record tells."""
    return checkpoint.can_generate and (checkpoint.layout is Layout.FOLDER or checkpoint.family in _PIPELINES)


def export(
    checkpoint: Checkpoint, target: Path, precision: Precision = Precision.KEEP, *, library: Library | None = None
) -> Making:
    """A diffusers folder at `target`; components that the checkpoint lacks are taken from the `library`.

    CheckpointUnknown where no folder can be made, CheckpointMissing and CheckpointDamaged for missing components and weights.
    """
    target = target.absolute()
    if checkpoint.family == "pixel":
        raise CheckpointUnknown(
            f"{checkpoint.name} has no pipeline in diffusers",
            "it was made with this program",
            f"Its file is what to give away: {checkpoint.path}",
        )
    if not exportable(checkpoint):
        family = family_of(checkpoint.family)
        raise CheckpointUnknown(
            f"{checkpoint.name} cannot become a diffusers folder",
            f"that is done for Stable Diffusion 1, 2 and XL, not for {family.title if family else 'its kind'}",
            "Use it as it is",
        )
    check_precision(checkpoint, precision)
    narrowed = Narrowed()
    with open_weights(checkpoint) as weights:
        if checkpoint.layout is Layout.FOLDER:
            components = _folder_components(weights.tensors)
            parts = None
        else:
            parts = open_components(checkpoint, library)
            components = _components(checkpoint, weights.tensors, parts)
        stored = {part: narrowed.stored(state, precision) for part, state in components.items()}
        whole = sum(size_of(state) for state in stored.values())
        check_place(target, whole + _CONFIGURATION_BYTES)
        with atomic_folder(target) as folder:
            if parts is None:
                _copy_all_but_weights(checkpoint.path, folder)
            else:
                _write_about(checkpoint, parts, folder, tuple(components))
            done = 0
            for part, state in stored.items():
                (folder / part).mkdir(exist_ok=True)
                name = _file_of(part, folder / part)
                with (folder / part / name).open("xb") as file:
                    for fraction in write_tensors(file, name, state, {"format": "pt"}):
                        yield (done + fraction * size_of(state)) / max(1, whole)
                done += size_of(state)
    yield Made(target, whole, narrowed.notes(precision))


def _file_of(part: str, folder: Path) -> str:
    """transformers' modules have another name for their weights than diffusers' do."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    return _WEIGHTS if "_class_name" in config or part in ("unet", "vae", "transformer") else _ENCODERS_WEIGHTS


# ---- from one file ---------------------------------------------------------------------------------------------------


def _components(checkpoint: Checkpoint, tensors: State, parts: Components) -> dict[str, dict[str, Tensor]]:
    """All that the pipeline has weights of, each whole: those of the file, and those that lie elsewhere."""
    found = split_components(
        {name: tensor for name, tensor in tensors.items() if not unused_for_inference(name)},
        checkpoint.family,
        parts.config,
    )
    wanted = [
        part
        for part in ("unet", "vae", *TEXT_ENCODERS[:2])
        if part not in _ABSENT[checkpoint.family] and (part != "text_encoder_2" or checkpoint.family.startswith("sdxl"))
    ]
    for part in wanted:
        kind = component_class(parts.config(part))
        if part not in found:
            if not parts.has(part):
                raise CheckpointMissing(
                    f"{checkpoint.name} has no {part}",
                    "a diffusers folder holds all of a pipeline",
                    "Use a file that has it, or put one of the same family into a folder of models",
                )
            found[part] = dict(parts.module(part, kind, torch.float16).state_dict())
        _check_whole(checkpoint, part, found[part], empty_module(kind, parts.config(part)))
    return {part: {name: tensor.contiguous() for name, tensor in found[part].items()} for part in wanted}


def _check_whole(checkpoint: Checkpoint, part: str, state: dict[str, Tensor], module: nn.Module) -> None:
    expected = {name.removeprefix("text_model."): value for name, value in module.state_dict().items()}
    plain = {name.removeprefix("text_model."): name for name in state}
    missing = sorted(expected.keys() - plain.keys())
    wrong = next(
        (name for name, value in expected.items() if name in plain and state[plain[name]].shape != value.shape), None
    )
    if missing or wrong:
        why = (
            f"{missing[0]} is missing" if missing else f"{wrong} has the shape {tuple(state[plain[str(wrong)]].shape)}"
        )
        raise CheckpointDamaged(f"The {part} of {checkpoint.name} is incomplete or damaged", why, "Download it again")
    for name in plain.keys() - expected.keys():
        del state[plain[name]]


def component_class(config: Mapping[str, Any]) -> type[Any]:
    """The class that a component's configuration names: diffusers' or transformers'."""
    import diffusers
    import transformers

    if "_class_name" in config:
        found: type[Any] = getattr(diffusers, config["_class_name"])
    else:
        found = getattr(transformers, config["architectures"][0])
    return found


def _write_about(checkpoint: Checkpoint, parts: Components, folder: Path, components: tuple[str, ...]) -> None:
    """Configurations, tokenizers, and the index that names them."""
    import diffusers
    from transformers import CLIPTokenizer

    pipeline = _PIPELINES[checkpoint.family][checkpoint.inpainting]
    index: dict[str, Any] = {
        "_class_name": pipeline,
        "_diffusers_version": diffusers.__version__,
        **_SAID[checkpoint.family],
    }
    index |= {name: [None, None] for name in _ABSENT[checkpoint.family]}
    if pipeline == "StableDiffusionXLInpaintPipeline" and checkpoint.family == "sdxl":
        index["requires_aesthetics_score"] = False
    for part in components:
        config = dict(parts.config(part))
        kind = component_class(config)
        index[part] = [kind.__module__.partition(".")[0], kind.__name__]
        _write_json(folder / part / "config.json", config)
        if part in TEXT_ENCODERS:
            tokenizer = part.replace("text_encoder", "tokenizer")
            parts.tokenizer(tokenizer, CLIPTokenizer).save_pretrained(folder / tokenizer)
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
    scheduler = dict(parts.config("scheduler"))
    index["scheduler"] = ["diffusers", scheduler["_class_name"]]
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(folder / INDEX, dict(sorted(index.items())))


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


# ---- from a folder ---------------------------------------------------------------------------------------------------


def _folder_components(tensors: State) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        found.setdefault(part, {})[inner] = tensor
    return found


def _copy_all_but_weights(source: Path, target: Path) -> None:
    def weights(folder: str, names: list[str]) -> set[str]:
        return {
            name
            for name in names
            if name.lower().endswith(
                (*SAFETENSORS, *PICKLES, ".safetensors.index.json", ".msgpack", ".h5", ".onnx", ".bin.index.json")
            )
            or name.startswith(".")
        }

    shutil.copytree(source, target, ignore=weights, dirs_exist_ok=True)
