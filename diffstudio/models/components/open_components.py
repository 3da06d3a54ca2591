"""Open the components of a checkpoint, whether it is a diffusers folder or a single file."""

from __future__ import annotations

from diffstudio.errors import CheckpointUnknown
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.components.components import Components, FolderComponents
from diffstudio.models.components.single_file import FolderWithVae, SingleFileComponents
from diffstudio.models.detection.types import Layout
from diffstudio.models.files.header import Headers
from diffstudio.models.library.library import Library

_FILES = (Layout.ORIGINAL, Layout.DIFFUSERS, Layout.GGUF, Layout.PICKLE)


def open_components(
    checkpoint: Checkpoint,
    library: Library | None = None,
    *,
    vae: Checkpoint | None = None,
    dense_bytes: float = float("inf"),
    headers: Headers | None = None,
) -> Components:
    """The components of a checkpoint: its own, then those of the model folders that the `library` knows.

    `vae` replaces the checkpoint's own; packed weights that would take more than `dense_bytes` unpacked stay packed.
    `headers` are those of the files that were read already. CheckpointUnknown for a file that cannot be opened and a
    VAE that does not fit, and whatever `SingleFileComponents` raises.
    """
    if checkpoint.layout is Layout.FOLDER:
        return FolderComponents(checkpoint.path, headers) if vae is None else FolderWithVae(checkpoint, vae, headers)
    if checkpoint.layout in _FILES:
        return SingleFileComponents(checkpoint, library=library, vae=vae, dense_bytes=dense_bytes, headers=headers)
    raise CheckpointUnknown(
        f"{checkpoint.name} is stored in a format that cannot be opened", remedy="Choose another checkpoint"
    )
