"""The network that images are compared with, by the name or the path in a request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diffstudio.errors import BadRequest
from diffstudio.models.feature_networks import KINDS, find_network, open_network
from diffstudio.plurals import count_of
from diffstudio.studio.evaluations.folders.real_folder import RealFolder
from diffstudio.studio.evaluations.progress import OnProgress
from diffstudio.studio.evaluations.request import AUTO, FOLDER, IMAGENET

if TYPE_CHECKING:
    import torch

    from diffstudio.evaluation.features.feature_network import FeatureNetwork

_COLOUR_CHANNELS = (1, 3)


def feature_network(
    name: str,
    real: RealFolder,
    folders: tuple[Path, ...],
    device: torch.device,
    report: OnProgress,
    check: Callable[[], None],
) -> FeatureNetwork:
    """`auto` is the ImageNet network that comes with the program, or for images that are neither grey nor RGB one trained
    on the folder. `inception`, `dinov2` and `clip` are searched in the model `folders`; anything else is a path.

    CheckpointMissing for a network that is not there, BadRequest for one that cannot take the images.
    """
    from diffstudio.evaluation.features.feature_network import imagenet_network

    channels = _channels_of(real)
    if _is_trained_here(name, channels):
        return _trained(real, device, report, check)
    if channels not in _COLOUR_CHANNELS:
        raise BadRequest(
            f"Images of {count_of(channels, 'channel')} cannot be compared with {name}",
            "it is a network for colour images",
            f"Choose the features {FOLDER!r}",
        )
    if name in (AUTO, IMAGENET):
        return imagenet_network(device)
    report("Loading the feature network", 0, 0)
    return open_network(find_network(name, folders) if name in KINDS else Path(name).expanduser(), device)


def check_feature_network(name: str, real: RealFolder, folders: tuple[Path, ...], device: torch.device) -> None:
    """The errors of `feature_network`, before hours of work that needs it at the end. Opens it, and trains nothing."""
    if not _is_trained_here(name, _channels_of(real)):
        feature_network(name, real, folders, device, lambda what, done, total: None, lambda: None)


def _channels_of(real: RealFolder) -> int:
    return int(real.dataset.batch(real.training[:1]).shape[1])


def _is_trained_here(name: str, channels: int) -> bool:
    return name == FOLDER or name == AUTO and channels not in _COLOUR_CHANNELS


def _trained(real: RealFolder, device: torch.device, report: OnProgress, check: Callable[[], None]) -> FeatureNetwork:
    from diffstudio.evaluation.features import folder_network

    def on_step(step: int) -> None:
        check()
        report("Training the feature network", step + 1, folder_network.STEPS)

    labels = real.dataset.labels[real.training].tolist() if len(real.dataset.classes) > 1 else []
    return folder_network.folder_network(
        lambda indices: real.dataset.batch(real.training[indices]),
        len(real.training),
        labels,
        steps=folder_network.STEPS,
        device=device,
        check=on_step,
    )
