"""Clip skip: read a prompt from a lower layer of the CLIP text encoders. No torch is imported here.

It counts as in AUTOMATIC1111: 1 is the last layer, 2 the one before (ComfyUI's -1 and -2). diffusers' `clip_skip` is
the number of layers left out instead. Counts up to the layer that a family was trained on mean that layer, which is 2
for Stable Diffusion 2 and XL.
"""

from __future__ import annotations

from typing import Any

from diffstudio.errors import BadRequest, must_be_between


def layer_count(text_encoder: Any) -> int:
    """The number of layers of a CLIP text encoder of transformers."""
    return int(text_encoder.config.num_hidden_layers)


def skipped_layers(clip_skip: int | None, trained_on: int, most: int) -> int:
    """The number of layers between the one to read and the family's own, `trained_on`. BadRequest for more than `most`.

    Both are counts of clip skip; None is the family's own.
    """
    skipped = max(0, (clip_skip or 0) - trained_on)
    if skipped > most:
        raise BadRequest(
            f"The clip skip is {clip_skip}, and the text encoder of this checkpoint has too few layers",
            must_be_between(1, trained_on + most),
        )
    return skipped
