"""Upscalers: networks that upscale an image in one forward pass (ESRGAN, Real-ESRGAN), tile by tile.

Nearly all files have one of two architectures: the residual-in-residual dense network of ESRGAN (Wang et al. 2018,
arXiv 1809.00219) and Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833), and the latter's compact network of plain
convolutions. Both are recognised by the names and shapes of their tensors. Others are loaded with the spandrel library
if it is installed; diffstudio does not depend on it, because its dependency torchvision pins another torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffstudio.diffusion.noise import SeededNoise
from diffstudio.diffusion.restoration.degradations import Reduced
from diffstudio.errors import CheckpointDamaged, CheckpointUnknown, OutOfMemory
from diffstudio.models import loading
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.files.file_access import DOWNLOAD_AGAIN, first_line
from diffstudio.models.files.weights_reader import load_weights
from diffstudio.models.memory import devices, limits
from diffstudio.models.model import Model
from diffstudio.models.tiling import Tile, each_tile, finish
from diffstudio.models.upper_level import UpperLevel
from diffstudio.plurals import count_of

_SLOPE = 0.2  # of the leaky ReLUs in ESRGAN
_RESIDUAL = 0.2  # the residual scaling of ESRGAN
_UPPER_SEED = 0  # of the noise of an upper level
_PROJECTIONS = 16
SMALLER_SCALE = "Close other programs, or choose a smaller scale"  # against out-of-memory errors


class DenseBlock(nn.Module):
    """Five convolutions, each with all earlier outputs as input (ESRGAN, figure 4)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            nn.Conv2d(width + index * growth, width if index == 4 else growth, 3, padding=1) for index in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:  # [B,width,h,w]
        features = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            features.append(F.leaky_relu(conv(torch.cat(features, 1)), _SLOPE))
        residual: Tensor = self.conv5(torch.cat(features, 1))
        return x + _RESIDUAL * residual


class ResidualDenseBlock(nn.Module):
    """Three dense blocks with a residual connection around them (RRDB)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + _RESIDUAL * residual


class DenseNetwork(nn.Module):
    """ESRGAN's generator: RRDB blocks, then `ups` upsamplings by 2.

    For smaller factors, Real-ESRGAN first applies pixel-unshuffle: `unshuffle` px along a side become channels.
    """

    def __init__(self, width: int, growth: int, depth: int, ups: int, unshuffle: int = 1) -> None:
        super().__init__()
        self.ups, self.unshuffle = ups, unshuffle
        self.scale = 2**ups // unshuffle
        self.conv_first = nn.Conv2d(3 * unshuffle**2, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualDenseBlock(width, growth) for _ in range(depth)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        for index in range(ups):
            setattr(self, f"conv_up{index + 1}", nn.Conv2d(width, width, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [B,3,H,W] in [0,1] -> [B,3,scale H,scale W]
        height, width = x.shape[-2:]
        if self.unshuffle > 1:
            x = F.pad(x, (0, -width % self.unshuffle, 0, -height % self.unshuffle), mode="replicate")
            x = F.pixel_unshuffle(x, self.unshuffle)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for index in range(self.ups):
            x = F.leaky_relu(
                getattr(self, f"conv_up{index + 1}")(F.interpolate(x, scale_factor=2.0, mode="nearest")), _SLOPE
            )
        x = self.conv_last(F.leaky_relu(self.conv_hr(x), _SLOPE))
        return x[..., : self.scale * height, : self.scale * width]


class CompactNetwork(nn.Module):
    """Real-ESRGAN's compact network: plain convolutions and pixel-shuffle, added to the image upscaled by repetition."""

    def __init__(self, width: int, depth: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 3 * scale**2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:  # [B,3,H,W] in [0,1] -> [B,3,scale H,scale W]
        return F.pixel_shuffle(self.body(x), self.scale) + F.interpolate(
            x, scale_factor=float(self.scale), mode="nearest"
        )


class Upscaler:
    """An upscaler network on its device; `scale` is its upscale factor."""

    def __init__(self, network: nn.Module, scale: int, device: torch.device) -> None:
        self.network, self.scale, self.device = network.to(device).eval().requires_grad_(False), scale, device

    def __call__(
        self,
        image: Tensor,
        *,
        tile_size: int = limits.UPSCALER_TILE_SIZE,
        overlap: int = limits.UPSCALER_TILE_OVERLAP,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """[B,3,H,W] in [0,1] -> [B,3,scale H,scale W] in [0,1], on the CPU. Tiles have `tile_size` px. OutOfMemory."""
        return finish(self.each_tile(image, tile_size=tile_size, overlap=overlap), progress)

    def each_tile(
        self,
        image: Tensor,
        *,
        downscale: int = 1,
        tile_size: int = limits.UPSCALER_TILE_SIZE,
        overlap: int = limits.UPSCALER_TILE_OVERLAP,
    ) -> Generator[tuple[int, int], None, Tensor]:
        """The same as a generator that yields (tiles done, tiles) and returns the image.

        Each tile is downscaled by `downscale`, a divisor of `scale`, as soon as it is computed: a network for 4× can upscale
        2× without the memory for 4×. OutOfMemory if not even the smallest tile fits.
        """

        @torch.no_grad()
        def upscale(tile: Tensor, _: Tile) -> Tensor:
            upscaled: Tensor = self.network(tile.to(self.device)).float()
            if downscale > 1:
                upscaled = F.interpolate(upscaled, scale_factor=1 / downscale, mode="bicubic", antialias=True)
            return upscaled.cpu()

        while True:
            try:
                upscaled = yield from each_tile(upscale, image.cpu(), tile_size, overlap, scale=self.scale // downscale)
                return upscaled.clamp_(0, 1)
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error):
                    raise
            devices.free_unused()  # after the `except`, whose traceback keeps the tensors alive
            if tile_size <= limits.SMALLEST_UPSCALER_TILE:
                raise OutOfMemory(
                    "The image could not be upscaled", "there is not enough memory for the upscaler", SMALLER_SCALE
                )
            tile_size, overlap = tile_size // 2, overlap // 2


class UpperUpscaler(Upscaler):
    """The upper level of a checkpoint trained here as an upscaler: its results equal the image when they are reduced.

    Tiles have the size of its training images. The noise is the same in every tile and call.
    """

    def __init__(self, model: Model) -> None:
        """CheckpointUnknown for a model whose images are not grey or RGB of 8 bits."""
        assert model.upper is not None
        if not model.output.is_grey_or_rgb_of_8_bits:
            raise CheckpointUnknown(
                f"{model.checkpoint.name if model.checkpoint is not None else 'The model'} cannot enlarge images",
                "it was not trained on 8-bit grey or RGB images",
                "Choose another upscaler, or lanczos",
            )
        super().__init__(_UpperNetwork(model, model.upper), model.upper.factor, model.device)
        self._tile_size = model.network_size[0]

    def each_tile(
        self, image: Tensor, *, downscale: int = 1, tile_size: int = 0, overlap: int = 0
    ) -> Generator[tuple[int, int], None, Tensor]:
        side = tile_size or self._tile_size
        upscaled = yield from super().each_tile(
            image, downscale=downscale, tile_size=side, overlap=overlap or side // 4
        )
        return _consistent(upscaled, image.to(upscaled), self.scale // downscale)


class _UpperNetwork(nn.Module):
    """Images [B,3,h,w] in [0,1] -> [B,3,factor h,factor w], enlarged by the upper level of a model."""

    def __init__(self, model: Model, upper: UpperLevel) -> None:
        super().__init__()
        self.network = model.network
        self._model, self._upper = model, upper

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        multiple, factor = self._upper.multiple // self._upper.factor, self._upper.factor
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        low = self._model.encode_image(2 * x - 1)
        *_, last = self._upper.enlarged(low, SeededNoise([_UPPER_SEED] * len(low)))
        return self._model.decode(last.x)[..., : factor * height, : factor * width] / 2 + 0.5


def _consistent(larger: Tensor, image: Tensor, factor: int) -> Tensor:
    """`larger` within [0,1] and changed so that means of squares of `factor` px are those of `image`.

    Alternating projections onto the two sets, which intersect: von Neumann 1933.
    """
    if factor == 1:
        return larger
    reduction = Reduced(factor)
    for _ in range(_PROJECTIONS):
        larger = reduction.proximal(image, larger, larger.new_zeros(())).clamp_(0, 1)
    return larger


def load_upscaler(checkpoint: Checkpoint, device: torch.device) -> Upscaler:
    """Load an upscaler's file, or a checkpoint with an upper level.

    CheckpointMissing, CheckpointDamaged, CheckpointUnknown, CheckpointDangerous.
    """
    if checkpoint.upper_factor:
        return UpperUpscaler(loading.load(checkpoint, device))
    if checkpoint.role is not Role.UPSCALER:
        raise CheckpointUnknown(
            f"{checkpoint.name} is not an upscaler", checkpoint.reason.rstrip("."), "Choose an upscaler, or lanczos"
        )
    return build_upscaler(load_weights(checkpoint.path, checkpoint.header), checkpoint.name, device)


def build_upscaler(weights: Mapping[str, Any], name: str, device: torch.device) -> Upscaler:
    """The upscaler with these weights; `name` is the file's, for messages.

    CheckpointUnknown for an unsupported architecture; CheckpointDamaged for missing tensors or wrong shapes.
    """
    state = _unwrapped(weights)
    renamed = _rename_keys(state)
    try:
        if "conv_first.weight" in renamed and any(re.match(r"body\.\d+\.rdb\d\.", key) for key in renamed):
            network: DenseNetwork | CompactNetwork = _dense(renamed)
        elif "body.0.weight" in state and "body.1.weight" in state and state["body.1.weight"].dim() == 1:
            network, renamed = _compact(state), dict(state)
        elif find_spec("spandrel") is not None:
            return _by_spandrel(state, name, device)
        else:
            raise _unsupported(
                name,
                "ESRGAN, Real-ESRGAN and its compact networks are supported",
                "Choose one of those, or install the package spandrel",
            )
        network.load_state_dict({key: value.float() for key, value in renamed.items()})
    except (KeyError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise CheckpointDamaged(
            f"{name} is an incomplete or damaged upscaler", first_line(error), DOWNLOAD_AGAIN
        ) from error
    return Upscaler(network, network.scale, device)


def _unsupported(name: str, why: str, remedy: str) -> CheckpointUnknown:
    return CheckpointUnknown(f"{name} is an upscaler of an unsupported architecture", why, remedy)


def _unwrapped(weights: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict inside a training checkpoint; EMA weights are preferred."""
    for wrapper in ("params_ema", "params", "state_dict"):
        if isinstance(weights.get(wrapper), Mapping):
            return _unwrapped(weights[wrapper])
    return weights


def _rename_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename keys to BasicSR's names, from those of the original ESRGAN and the numbered ones (`model.0`)."""
    renamed: dict[str, Tensor] = {}
    numbers = sorted(
        {int(found[1]) for key in weights if (found := re.fullmatch(r"model\.(\d+)\.(?:weight|bias)", key))}
    )
    trunk = max((int(found[1]) for key in weights if (found := re.match(r"model\.1\.sub\.(\d+)\.", key))), default=-1)
    by_number = {number: f"conv_up{index + 1}" for index, number in enumerate(numbers[1:-2])}
    if len(numbers) >= 3:
        by_number |= {numbers[0]: "conv_first", numbers[-2]: "conv_hr", numbers[-1]: "conv_last"}
    for key, value in weights.items():
        new = re.sub(r"^RRDB_trunk\.(\d+)\.RDB", r"body.\1.rdb", key)
        new = re.sub(r"^upconv(\d)\.", r"conv_up\1.", new)
        new = new.replace("trunk_conv.", "conv_body.").replace("HRconv.", "conv_hr.")
        new = re.sub(rf"^model\.1\.sub\.{trunk}\.", "conv_body.", new)
        new = re.sub(r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3.", new)
        if (found := re.fullmatch(r"model\.(\d+)\.(weight|bias)", new)) and int(found[1]) in by_number:
            new = f"{by_number[int(found[1])]}.{found[2]}"
        renamed[new] = value
    return renamed


def _dense(weights: Mapping[str, Tensor]) -> DenseNetwork:
    width, channels = weights["conv_first.weight"].shape[:2]
    depth = 1 + max(int(found[1]) for key in weights if (found := re.match(r"body\.(\d+)\.", key)))
    ups = sum(re.fullmatch(r"conv_up\d\.weight", key) is not None for key in weights)
    unshuffle = round((channels / 3) ** 0.5)
    if 3 * unshuffle**2 != channels:
        raise RuntimeError(f"its first convolution takes {count_of(channels, 'channel')}")
    return DenseNetwork(width, weights["body.0.rdb1.conv1.weight"].shape[0], depth, ups, unshuffle)


def _compact(weights: Mapping[str, Tensor]) -> CompactNetwork:
    last = max(int(found[1]) for key in weights if (found := re.match(r"body\.(\d+)\.", key)))
    width = weights["body.0.weight"].shape[0]
    scale = round((weights[f"body.{last}.weight"].shape[0] / 3) ** 0.5)
    return CompactNetwork(width, (last - 2) // 2, scale)


def _by_spandrel(weights: Mapping[str, Tensor], name: str, device: torch.device) -> Upscaler:
    spandrel: Any = import_module("spandrel")
    try:
        found = spandrel.ModelLoader().load_from_state_dict(dict(weights))
    except (spandrel.UnsupportedModelError, RuntimeError, KeyError, ValueError) as error:
        raise _unsupported(name, str(error)[:200], "Choose another upscaler") from error
    return Upscaler(found.model, int(found.scale), device)
