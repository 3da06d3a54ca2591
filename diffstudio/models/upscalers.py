"""Plain upscalers: networks that make a picture larger in one call, as people have them beside their checkpoints.

Two architectures carry nearly all files that go round: the residual-in-residual dense network of ESRGAN (Wang et al. 2018, arXiv
1809.00219) and Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833), and the latter's small one, a straight line of convolutions.
Both are known by the names and shapes of their tensors alone. Any other opens through the spandrel library where a person has it
installed; diffstudio does not bring it, because it brings torchvision, and with it another torch.
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

from diffstudio.errors import CheckpointDamaged, CheckpointUnknown, OutOfMemory
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.models.detection.types import Role
from diffstudio.models.files.weights_reader import load_weights
from diffstudio.models.memory import devices
from diffstudio.models.tiling import Tile, each_tile, finish

_SLOPE = 0.2  # of the leaky rectifiers in ESRGAN
_RESIDUAL = 0.2  # how much of a block's answer is added to what went in
_WINDOW, _OVERLAP = 256, 32  # px of the given picture
_SMALLEST_WINDOW = 64


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it (ESRGAN, figure 4)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            nn.Conv2d(width + index * growth, width if index == 4 else growth, 3, padding=1) for index in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:  # [B,width,h,w]
        seen = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), _SLOPE))
        answer: Tensor = self.conv5(torch.cat(seen, 1))
        return x + _RESIDUAL * answer


class ResidualDenseBlock(nn.Module):
    """Three dense blocks and a way around them."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + _RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))


class DenseNetwork(nn.Module):
    """ESRGAN's generator. `ups` doublings at the end; where it is to enlarge less than that, the picture is folded first."""

    def __init__(self, width: int, growth: int, depth: int, ups: int, folds: int = 1) -> None:
        super().__init__()
        self.ups, self.folds = ups, folds  # px that are folded into channels, a side
        self.scale = 2**ups // folds
        self.conv_first = nn.Conv2d(3 * folds**2, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualDenseBlock(width, growth) for _ in range(depth)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        for index in range(ups):
            setattr(self, f"conv_up{index + 1}", nn.Conv2d(width, width, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [B,3,H,W] in [0,1] -> [B,3,scale H,scale W]
        height, width = x.shape[-2:]
        if self.folds > 1:
            x = F.pad(x, (0, -width % self.folds, 0, -height % self.folds), mode="replicate")
            x = F.pixel_unshuffle(x, self.folds)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for index in range(self.ups):
            x = F.leaky_relu(
                getattr(self, f"conv_up{index + 1}")(F.interpolate(x, scale_factor=2.0, mode="nearest")), _SLOPE
            )
        x = self.conv_last(F.leaky_relu(self.conv_hr(x), _SLOPE))
        return x[..., : self.scale * height, : self.scale * width]


class CompactNetwork(nn.Module):
    """Real-ESRGAN's small network: convolutions in a line, then pixels unfolded, added to the picture itself."""

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
    """A network that enlarges by `scale`, on its device."""

    def __init__(self, network: nn.Module, scale: int, device: torch.device) -> None:
        self.network, self.scale, self.device = network.to(device).eval().requires_grad_(False), scale, device

    def __call__(
        self,
        picture: Tensor,
        *,
        window: int = _WINDOW,
        overlap: int = _OVERLAP,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """[B,3,H,W] in [0,1] -> [B,3,scale H,scale W] in [0,1], on the CPU; worked on in windows of so many px."""
        return finish(self.each_tile(picture, window=window, overlap=overlap), progress)

    def each_tile(
        self, picture: Tensor, *, fold: int = 1, window: int = _WINDOW, overlap: int = _OVERLAP
    ) -> Generator[tuple[int, int], None, Tensor]:
        """Yields how many of how many windows are done. `fold`, a divisor of `scale`: made that much smaller again at once.

        So a network that enlarges four times can enlarge twice without the memory for four. OutOfMemory when not even the
        smallest window fits.
        """

        @torch.no_grad()
        def enlarge(tile: Tensor, _: Tile) -> Tensor:
            made: Tensor = self.network(tile.to(self.device)).float()
            if fold > 1:
                made = F.interpolate(made, scale_factor=1 / fold, mode="bicubic", antialias=True)
            return made.cpu()

        while True:
            try:
                made = yield from each_tile(enlarge, picture.cpu(), window, overlap, scale=self.scale // fold)
                return made.clamp_(0, 1)
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error):
                    raise
            devices.free_unused()  # outside the `except`, whose traceback would keep the tensors
            if window <= _SMALLEST_WINDOW:
                raise OutOfMemory(
                    "The picture could not be enlarged",
                    "the upscaler does not fit into memory beside it",
                    "Close other programs, or enlarge it less",
                )
            window, overlap = window // 2, overlap // 2


def load_upscaler(checkpoint: Checkpoint, device: torch.device) -> Upscaler:
    """Of a file that is one. CheckpointMissing, CheckpointDamaged, CheckpointUnknown, CheckpointDangerous."""
    if checkpoint.role is not Role.UPSCALER:
        raise CheckpointUnknown(
            f"{checkpoint.name} is not an upscaler", checkpoint.reason.rstrip("."), "Choose one that is, or lanczos"
        )
    return upscaler_of(load_weights(checkpoint.path, checkpoint.header), checkpoint.name, device)


def upscaler_of(weights: Mapping[str, Any], name: str, device: torch.device) -> Upscaler:
    """The network that these tensors are of; `name` is the file's, for what is said when it is none.

    CheckpointUnknown for an architecture that is not known here; CheckpointDamaged when tensors are missing or misshapen.
    """
    weights = _unwrapped(weights)
    renamed = _new_names(weights)
    try:
        if "conv_first.weight" in renamed:
            network: nn.Module = _dense(renamed)
        elif "body.0.weight" in weights and "body.1.weight" in weights and weights["body.1.weight"].dim() == 1:
            network, renamed = _compact(weights), dict(weights)
        elif find_spec("spandrel") is not None:
            return _by_spandrel(weights, name, device)
        else:
            raise CheckpointUnknown(
                f"{name} is an upscaler of a kind that is not known here",
                "ESRGAN, Real-ESRGAN and its compact form are",
                "Use one of those, or install the spandrel package beside diffstudio",
            )
        network.load_state_dict({key: value.float() for key, value in renamed.items()})
    except (KeyError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise CheckpointDamaged(
            f"{name} is not a whole upscaler",
            (str(error).splitlines() or [""])[0][:200],
            "Get it again from where it came",
        ) from error
    return Upscaler(network, int(getattr(network, "scale", 1)), device)


def _unwrapped(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Trainers put the weights below a name; the averaged ones are the better where there are both."""
    for wrapper in ("params_ema", "params", "state_dict"):
        if isinstance(weights.get(wrapper), Mapping):
            return _unwrapped(weights[wrapper])
    return weights


def _new_names(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors under the names of today, of which there were two others: ESRGAN's first, and the numbered ones (`model.0`)."""
    renamed: dict[str, Any] = {}
    numbers = sorted(
        {int(found[1]) for key in weights if (found := re.fullmatch(r"model\.(\d+)\.(?:weight|bias)", key))}
    )
    trunk = max((int(found[1]) for key in weights if (found := re.match(r"model\.1\.sub\.(\d+)\.", key))), default=-1)
    later = {number: f"conv_up{index + 1}" for index, number in enumerate(numbers[1:-2])}
    if len(numbers) >= 3:
        later |= {numbers[0]: "conv_first", numbers[-2]: "conv_hr", numbers[-1]: "conv_last"}
    for key, value in weights.items():
        new = re.sub(r"^RRDB_trunk\.(\d+)\.RDB", r"body.\1.rdb", key)
        new = re.sub(r"^upconv(\d)\.", r"conv_up\1.", new)
        new = new.replace("trunk_conv.", "conv_body.").replace("HRconv.", "conv_hr.")
        new = re.sub(rf"^model\.1\.sub\.{trunk}\.", "conv_body.", new)
        new = re.sub(r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3.", new)
        if (found := re.fullmatch(r"model\.(\d+)\.(weight|bias)", new)) and int(found[1]) in later:
            new = f"{later[int(found[1])]}.{found[2]}"
        renamed[new] = value
    return renamed


def _dense(weights: Mapping[str, Any]) -> DenseNetwork:
    width, channels = weights["conv_first.weight"].shape[:2]
    depth = 1 + max(int(found[1]) for key in weights if (found := re.match(r"body\.(\d+)\.", key)))
    ups = sum(re.fullmatch(r"conv_up\d\.weight", key) is not None for key in weights)
    folds = round((channels / 3) ** 0.5)
    if 3 * folds**2 != channels:
        raise RuntimeError(f"its first convolution takes {channels} channels")
    return DenseNetwork(width, weights["body.0.rdb1.conv1.weight"].shape[0], depth, ups, folds)


def _compact(weights: Mapping[str, Any]) -> CompactNetwork:
    last = max(int(found[1]) for key in weights if (found := re.match(r"body\.(\d+)\.", key)))
    width = weights["body.0.weight"].shape[0]
    scale = round((weights[f"body.{last}.weight"].shape[0] / 3) ** 0.5)
    return CompactNetwork(width, (last - 2) // 2, scale)


def _by_spandrel(weights: Mapping[str, Any], name: str, device: torch.device) -> Upscaler:
    spandrel: Any = import_module("spandrel")
    try:
        found = spandrel.ModelLoader().load_from_state_dict(dict(weights))
    except (spandrel.UnsupportedModelError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointUnknown(
            f"{name} is an upscaler of a kind that is not known here", str(error)[:200], "Use another"
        ) from error
    return Upscaler(found.model, int(found.scale), device)
