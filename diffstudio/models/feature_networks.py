"""Feature networks from the person's own files: DINOv2 and CLIP as transformers folders, and the Inception of FID.

Nothing is downloaded. transformers is imported when such a folder is opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffstudio.errors import CheckpointDamaged, CheckpointMissing, CheckpointUnknown
from diffstudio.plurals import by_number, count_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffstudio.evaluation.features.feature_network import FeatureNetwork

KINDS = ("inception", "dinov2", "clip")
_MODEL_TYPES = {"dinov2": "dinov2", "dinov2_with_registers": "dinov2", "clip": "clip", "clip_vision_model": "clip"}
_TITLES = {"inception": "Inception", "dinov2": "DINOv2", "clip": "CLIP"}
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DEEPEST = 4  # folders below a model folder
_INCEPTION_SUFFIXES = (".pth", ".pt", ".safetensors")
_WHERE = {
    "inception": "Put pt_inception-2015-12-05-6726825d.pth of pytorch-fid or the file of torch-fidelity into a model "
    "folder, or give its path",
    "dinov2": "Put a folder of transformers' Dinov2Model, with config.json and model.safetensors, into a model folder, or "
    "give its path",
    "clip": "Put a folder of transformers' CLIPModel, with config.json and model.safetensors, into a model folder, or give "
    "its path",
}


def find_network(kind: str, folders: Iterable[Path]) -> Path:
    """The folder or file of this kind of network in the model folders. CheckpointMissing says what to put there."""
    for folder in folders:
        for path in _candidates(folder):
            if kind == "inception" and _looks_like_inception(path) or kind == _kind_of_folder(path):
                return path
    raise CheckpointMissing(f"There is no {_TITLES[kind]} in the model folders", remedy=_WHERE[kind])


def open_network(path: Path, device: torch.device) -> FeatureNetwork:
    """The network in a transformers folder or in a file of FID's Inception.

    CheckpointMissing where nothing is at the path, CheckpointUnknown for other networks, CheckpointDamaged.
    """
    if not path.exists():
        names = ", ".join(("auto", "imagenet", "folder", *KINDS))
        raise CheckpointMissing(
            f"There is no feature network at {str(path)[:200]}", remedy=f"Give the path of one, or one of: {names}"
        )
    if path.is_file():
        return _inception(path, device)
    kind = _kind_of_folder(path)
    if kind == "dinov2":
        return _dinov2(path, device)
    if kind == "clip":
        return _clip(path, device)
    raise CheckpointUnknown(
        f"{path.name} is not a feature network that can be used",
        "its config.json names neither DINOv2 nor CLIP",
        "Choose a folder of transformers' Dinov2Model or CLIPModel",
    )


def _candidates(folder: Path) -> Iterator[Path]:
    """Folders with a config.json, and weights files, the shallowest first."""
    base = len(folder.parts)
    for current, subfolders, files in os.walk(folder):
        path = Path(current)
        subfolders.sort()
        if len(path.parts) - base >= _DEEPEST:
            subfolders.clear()
        if "config.json" in files:
            yield path
        yield from (path / name for name in sorted(files) if name.lower().endswith(_INCEPTION_SUFFIXES))


def _looks_like_inception(path: Path) -> bool:
    return path.is_file() and "inception" in path.name.casefold()


def _kind_of_folder(path: Path) -> str:
    return _MODEL_TYPES.get(str(_json(path / "config.json").get("model_type")), "") if path.is_dir() else ""


def _json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _dinov2(path: Path, device: torch.device) -> FeatureNetwork:
    from transformers import Dinov2Model, Dinov2WithRegistersModel

    with_registers = _json(path / "config.json").get("model_type") == "dinov2_with_registers"
    model = _loaded(path, Dinov2WithRegistersModel if with_registers else Dinov2Model, device)
    preprocessing = _Preprocessing.of(path, int(model.config.image_size))
    width = int(model.config.hidden_size)

    def features(images: Tensor) -> Tensor:
        found: Tensor = model(pixel_values=preprocessing(images, device)).last_hidden_state[:, 0]
        return found

    return _network(f"DINOv2 ({path.name}), class token", width, preprocessing, features)


def _clip(path: Path, device: torch.device) -> FeatureNetwork:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    about = _json(path / "config.json")
    vision = about.get("vision_config", about)  # of a CLIPModel, or of its vision model alone
    width = about.get("projection_dim", vision.get("projection_dim", 512))  # where both have one, that of the whole
    model = _loaded(path, CLIPVisionModelWithProjection, device, CLIPVisionConfig(**vision | {"projection_dim": width}))
    preprocessing = _Preprocessing.of(path, int(model.config.image_size))

    def features(images: Tensor) -> Tensor:
        found: Tensor = model(pixel_values=preprocessing(images, device)).image_embeds
        return found

    return _network(f"CLIP ({path.name}), image embedding", int(model.config.projection_dim), preprocessing, features)


def _loaded(path: Path, kind: Any, device: torch.device, config: Any = None) -> Any:
    from diffstudio.models.files.file_access import first_line

    try:
        with _quiet():
            model, about = kind.from_pretrained(
                path,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                dtype="float32",
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointDamaged(
            f"The feature network in {path.name} cannot be loaded",
            first_line(error) or "its weights do not match its configuration",
            "It needs its weights as model.safetensors",
        ) from error
    missing = sorted({*about["missing_keys"], *(name for name, *_ in about["mismatched_keys"])})
    if missing:
        raise CheckpointDamaged(
            f"The feature network in {path.name} is incomplete",
            f"{count_of(len(missing), 'tensor')} "
            f"{by_number(len(missing), 'is missing or has another shape', 'are missing or have other shapes')}, as {missing[0]}",
        )
    return model.to(device).eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar, and its list of the tensors of a text encoder, which is not needed."""
    from transformers.utils import logging

    verbosity, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()


class _Preprocessing:
    """Images [N,C,S,S] in [-1,1] to what a network takes: resized to its side, mean and deviation as it was trained with."""

    def __init__(self, side: int, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        self.side, self._mean, self._deviation = side, mean, deviation

    @classmethod
    def of(cls, path: Path, side: int) -> _Preprocessing:
        """By preprocessor_config.json; ImageNet's mean and deviation where it says nothing."""
        values = _json(path / "preprocessor_config.json")
        mean, deviation = _triple(values.get("image_mean")), _triple(values.get("image_std"))
        crop = values.get("crop_size")
        if isinstance(crop, dict) and isinstance(crop.get("height"), int) and 0 < crop["height"] <= 4096:
            side = crop["height"]
        return cls(side, mean or _IMAGENET_MEAN, deviation or _IMAGENET_DEVIATION)

    def __call__(self, images: Tensor, device: torch.device) -> Tensor:
        import torch
        import torch.nn.functional as F

        from diffstudio.evaluation.features.feature_network import as_rgb

        pixels = (as_rgb(images.to(device, torch.float32)) + 1) / 2
        resized = F.interpolate(pixels, (self.side, self.side), mode="bicubic", antialias=True, align_corners=False)
        mean, deviation = (
            torch.tensor(values, device=device)[:, None, None] for values in (self._mean, self._deviation)
        )
        return (resized.clamp(0, 1) - mean) / deviation


def _triple(values: object) -> tuple[float, ...]:
    """Three numbers of a JSON file; empty if it has none."""
    is_one = isinstance(values, list) and len(values) == 3 and all(type(value) in (int, float) for value in values)
    return tuple(values) if is_one and isinstance(values, list) else ()


def _network(name: str, width: int, preprocessing: _Preprocessing, features: Any) -> FeatureNetwork:
    import torch

    from diffstudio.evaluation.features.feature_network import FeatureNetwork, resized

    return FeatureNetwork(name, width, resized(preprocessing.side), torch.inference_mode()(features))


def _inception(path: Path, device: torch.device) -> FeatureNetwork:
    import torch

    from diffstudio.evaluation.features.feature_network import FeatureNetwork, as_rgb
    from diffstudio.models.files.weights_reader import load_weights
    from diffstudio.networks.inception import FEATURES, SIDE, FidInception, resize_like_tensorflow

    tensors = load_weights(path)
    network = FidInception()
    wanted = network.state_dict()
    ours = {name: tensor.float() for name, tensor in tensors.items() if name in wanted}
    missing = sorted(name for name in wanted if name not in ours and not name.endswith("num_batches_tracked"))
    if missing or any(ours[name].shape != wanted[name].shape for name in ours):
        raise CheckpointUnknown(
            f"{path.name} is not the Inception network of FID",
            f"it has no {missing[0]}" if missing else "its tensors have other shapes",
            _WHERE["inception"],
        )
    network.load_state_dict(ours, strict=False)
    network.to(device).eval().requires_grad_(False)

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        pixels = ((as_rgb(images.to(device, torch.float32)) + 1) * 127.5).round().clamp(0, 255)
        found: Tensor = network((resize_like_tensorflow(pixels, SIDE) - 128) / 128)
        return found

    return FeatureNetwork("Inception (FID)", FEATURES, f"resized to {SIDE} px, bilinear as in TensorFlow 1", features)
