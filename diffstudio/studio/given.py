"""The pictures a person gives: one to start from, and a mask of what is painted anew. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from diffstudio.errors import BadRequest
from diffstudio.studio.events import Picture
from diffstudio.studio.requests import GenerateRequest
from diffstudio.training.pictures import read_picture

BACKGROUND = (255, 255, 255)  # what transparency is laid on


@dataclass(frozen=True, slots=True)
class Given:
    """Both at the size of the picture to be made: the centre that fits, scaled."""

    init: Picture                       # [H,W,3]
    mask: NDArray[np.uint8] | None      # [H,W]: 255 is painted anew, 0 is kept to the bit

    def composed(self, made: Picture) -> Picture:
        """`made` inside the mask, the given picture outside, mixed where the mask is grey."""
        if self.mask is None:
            return made
        share = self.mask[..., None].astype(np.float32) / 255.0
        mixed = np.rint(share * made + (1.0 - share) * self.init).astype(np.uint8)
        return np.where(self.mask[..., None] == 0, self.init, mixed)


def read_given(request: GenerateRequest, width: int, height: int) -> Given | None:
    """What the request gives, or None.

    ImageProblem when a file is no whole picture, BadRequest for a mask that paints nothing.
    """
    if request.init is None:
        return None
    init = _fitted(request.init, width, height)
    if request.mask is None:
        return Given(init, None)
    mask = np.array(Image.fromarray(_fitted(request.mask, width, height)).convert("L"))
    if not mask.any():
        raise BadRequest("The mask is black everywhere", "black is kept and white is painted anew", "Paint some of it white")
    return Given(init, mask)


def _fitted(path: Path, width: int, height: int) -> Picture:
    picture, _ = read_picture(path)
    if picture.mode == "RGBA":
        ground = Image.new("RGBA", picture.size, (*BACKGROUND, 255))
        picture = Image.alpha_composite(ground, picture).convert("RGB")
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return np.array(picture)
