"""Published weights that lie in `tests/data/published`; its README says where they are from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "data" / "published"
ANIME_VIDEO = FOLDER / "realesr-animevideov3-x4.bin"
_HALF = b"\x47\x6b\x30\1"  # marks float16 weights


def anime_video_weights() -> dict[str, Tensor]:
    """Real-ESRGAN's animevideov3 as its makers name and shape it, from ncnn's files.

    The layers are in the order of the `.param`; 6= is a convolution's number of weights, 0= its output channels.
    https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
    """
    data, at = ANIME_VIDEO.read_bytes(), 0
    state: dict[str, Tensor] = {}

    def floats(count: int) -> Tensor:
        nonlocal at
        at += 4 * count
        return torch.from_numpy(np.frombuffer(data, "<f4", count, at - 4 * count).copy())

    layers = [line.split() for line in ANIME_VIDEO.with_suffix(".param").read_text().splitlines()[2:]]
    learning = [layer for layer in layers if layer[0] in ("Convolution", "PReLU")]
    for index, layer in enumerate(learning):
        numbers = dict(part.split("=") for part in layer if "=" in part)
        width = int(numbers["0"])
        if layer[0] == "Convolution":
            assert data[at : at + 4] == _HALF
            weights = np.frombuffer(data, "<f2", int(numbers["6"]), at + 4).astype(np.float32)
            at += 4 + 2 * len(weights) + -2 * len(weights) % 4
            state[f"body.{index}.weight"] = torch.from_numpy(weights).reshape(width, -1, 3, 3)
            state[f"body.{index}.bias"] = floats(width)
        else:
            state[f"body.{index}.weight"] = floats(width)
    assert at == len(data)
    return state


def sample_image() -> Tensor:
    """[1,3,12,16] in [0,1]: waves, a gradient, a chessboard."""
    y, x = np.mgrid[0:12, 0:16].astype(np.float32)
    channels = (0.5 + 0.5 * np.sin(x / 3 + y / 7), (x / 15 + y / 11) / 2, ((x // 4 + y // 4) % 2) * 0.8 + 0.1)
    return torch.from_numpy(np.stack(channels).astype(np.float32))[None]


def anime_video_of_ncnn() -> Tensor:
    """What ncnn makes of the sample image: [1,3,48,64]."""
    return torch.from_numpy(np.load(ANIME_VIDEO.with_suffix(".npy")))[None]
