"""A small, upright copy of an image file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from diffstudio.errors import ImageProblem
from diffstudio.studio.metadata.image_text import LARGEST_PIXELS, UNREADABLE


def read_thumbnail(path: Path, side: int) -> Image.Image:
    """A picture of at most `side` px, turned as its EXIF says, RGB or RGBA. Raises ImageProblem."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise ImageProblem(
                    f"{path.name} is too large to show",
                    f"{image.width:,} × {image.height:,} px",
                    "Make it smaller with another program",
                )
            image.draft("RGB", (side, side))
            turned = ImageOps.exif_transpose(image)
            turned = turned.convert("RGBA" if turned.has_transparency_data else "RGB")
            turned.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return turned
    except FileNotFoundError:
        raise ImageProblem(f"There is no picture at {path}", remedy="It may have been moved or deleted") from None
    except UnidentifiedImageError:
        raise ImageProblem(
            f"{path.name} is not a picture that can be read here", remedy="Delete it or replace it"
        ) from None
    except UNREADABLE as error:
        raise ImageProblem(f"{path.name} cannot be read", str(error).rstrip("."), "Delete it or replace it") from error
