"""Two other programs on a folder: `python -m tests.benchmarks.peers FOLDER PEER [--seconds 570 5700]`.

PEER is `denoising-diffusion-pytorch` (its README's U-Net of 64 channels, and the settings of its `Trainer`) or `diffusers`
(the U-Net and settings of its example `train_unconditional.py`, whose learning rate falls until the longest of the times).
Neither reads captions. Each trains at 32 px in bfloat16, with one thread, on the nine tenths of the folder that
`tests.benchmarks.equal_time` trains on. At each time its averaged weights generate images with DDIM, which are judged as
there. Only the time of training counts.

    pip install denoising-diffusion-pytorch==2.3.4          # needs torchvision
    python -m tests.benchmarks.peers emoji denoising-diffusion-pytorch --seconds 570 5700 --state peer.pt

With `--state`, a file, the training goes on where an earlier call ended.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diffstudio import paths
from diffstudio.evaluation.features.feature_network import extract
from diffstudio.training.data.dataset import ImageDataset, build_dataset
from diffstudio.training.data.inspect_folder import finish_inspection
from diffstudio.training.recipe import DataRecipe
from tests.benchmarks.equal_time import AT_ONCE, Judge

SIZE, EVERY = 32, 300.0  # px, processor-seconds between two saved states


class Peer(Protocol):
    """A program to compare with, made for a number of network calls per image."""

    batch: int
    network: nn.Module
    average: Any  # of the weights; has state_dict() and load_state_dict()
    optimiser: torch.optim.Optimizer

    def loss(self, images: Tensor) -> Tensor:
        """Of images [B,3,S,S] in [-1,1]."""

    def rate(self, step: int, progress: float) -> float:
        """The factor of the learning rate."""

    def after_step(self) -> None:
        """Update the average."""

    def draw(self, count: int) -> Tensor:
        """Images [count,3,S,S] in [-1,1] of the averaged weights."""


class DenoisingDiffusionPytorch:
    """`Trainer` with batches of 16, accumulated twice, EMA of 0.995 every ten steps, and flips."""

    batch = 32

    def __init__(self, calls: int) -> None:
        library: Any = importlib.import_module("denoising_diffusion_pytorch")
        averages: Any = importlib.import_module("ema_pytorch")
        self.network = library.GaussianDiffusion(
            library.Unet(dim=64, dim_mults=(1, 2, 4, 8), flash_attn=True),
            image_size=SIZE,
            timesteps=1000,
            sampling_timesteps=calls,
        )
        self.average = averages.EMA(self.network, beta=0.995, update_every=10)
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(self.network.parameters(), lr=8e-5, betas=(0.9, 0.99))

    def loss(self, images: Tensor) -> Tensor:
        loss: Tensor = self.network((images + 1) / 2)
        return loss

    def rate(self, step: int, progress: float) -> float:
        return 1.0

    def after_step(self) -> None:
        self.average.update()

    def draw(self, count: int) -> Tensor:
        drawn: Tensor = self.average.ema_model.sample(batch_size=count)
        return drawn * 2 - 1


class Diffusers:
    """`train_unconditional.py`: predicted noise, AdamW, 500 steps of warm-up, a cosine, `EMAModel`."""

    batch = 16

    def __init__(self, calls: int) -> None:
        from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        down = ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D")
        up = ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4
        settings: dict[str, Any] = {
            "sample_size": SIZE,
            "layers_per_block": 2,
            "block_out_channels": (128, 128, 256, 256, 512, 512),
            "down_block_types": down,
            "up_block_types": up,
        }
        self.network, self._averaged = UNet2DModel(**settings), UNet2DModel(**settings)
        self.average = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6
        )
        self._noised, self._sampler = DDPMScheduler(1000), DDIMScheduler(1000)
        self._sampler.set_timesteps(calls)

    def loss(self, images: Tensor) -> Tensor:
        noise, k = torch.randn_like(images), torch.randint(0, 1000, (len(images),))
        predicted = self.network(self._noised.add_noise(images, noise, k), k).sample
        return nn.functional.mse_loss(predicted.float(), noise)

    def rate(self, step: int, progress: float) -> float:
        return min(1.0, step / 500) * (1 + math.cos(math.pi * progress)) / 2

    def after_step(self) -> None:
        self.average.step(self.network.parameters())

    def draw(self, count: int) -> Tensor:
        self.average.copy_to(self._averaged.parameters())
        images = torch.randn(count, 3, SIZE, SIZE)
        for k in self._sampler.timesteps:
            images = self._sampler.step(self._averaged(images, k).sample.float(), k, images).prev_sample
        return images


PEERS: dict[str, Callable[[int], Peer]] = {
    "denoising-diffusion-pytorch": DenoisingDiffusionPytorch,
    "diffusers": Diffusers,
}


class Training:
    """A peer's training, which counts its processor time."""

    def __init__(self, peer: Peer, dataset: ImageDataset, seconds: float) -> None:
        self.peer, self.step, self.spent = peer, 0, 0.0
        self._dataset, self._seconds = dataset, seconds
        self._rates = [group["lr"] for group in peer.optimiser.param_groups]

    def until(self, seconds: float, state: Path | None) -> None:
        while self.spent < seconds:
            began, saved = time.process_time(), self.spent // EVERY
            self._one()
            self.spent += time.process_time() - began
            if state is not None and self.spent // EVERY > saved:
                self.save(state)

    def _one(self) -> None:
        peer = self.peer
        chosen = torch.from_numpy(self._dataset.training_indices)[
            torch.randint(len(self._dataset.training_indices), (peer.batch,))
        ]
        images = self._dataset.batch(chosen)
        images = torch.where(torch.rand(peer.batch, 1, 1, 1) < 0.5, images, images.flip(-1))
        with torch.autocast("cpu", torch.bfloat16):
            loss = peer.loss(images)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.network.parameters(), 1.0)
        for group, rate in zip(peer.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * peer.rate(self.step, self.spent / self._seconds)
        peer.optimiser.step()
        peer.optimiser.zero_grad()
        peer.after_step()
        self.step += 1

    def save(self, path: Path) -> None:
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        torch.save(parts | {"step": self.step, "spent": self.spent}, path)

    def load(self, path: Path) -> None:
        stored = torch.load(path)
        for name, part in self._parts().items():
            part.load_state_dict(stored[name])
        self.step, self.spent = stored["step"], stored["spent"]

    def _parts(self) -> dict[str, Any]:
        return {"network": self.peer.network, "average": self.peer.average, "optimiser": self.peer.optimiser}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[570.0, 5700.0], help="processor-seconds of training"
    )
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--calls", type=int, default=50, help="network calls per image")
    parser.add_argument("--state", type=Path, help="a file for the state of the training")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    report = finish_inspection(asked.folder, lambda _: None)
    dataset = build_dataset(report, DataRecipe(size=SIZE, held_out=0.1), paths.prepared_images())
    training = Training(PEERS[asked.peer](asked.calls), dataset, max(asked.seconds))
    if asked.state is not None and asked.state.is_file():
        training.load(asked.state)
    judge = Judge(dataset)
    print(
        "| images | kernel distance | recall of training images | copies | nearer to training |\n" + "| --- " * 5 + "|"
    )
    judge.row("training images", judge.training)
    for seconds in sorted(asked.seconds):
        training.until(seconds, asked.state)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            parts = [min(AT_ONCE, asked.images - first) for first in range(0, asked.images, AT_ONCE)]
            drawn = [training.peer.draw(count).float().clamp(-1, 1) for count in parts]
        judge.row(f"{asked.peer}, {training.step:,} steps, {training.spent:.0f} s", extract(judge.network, drawn))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
