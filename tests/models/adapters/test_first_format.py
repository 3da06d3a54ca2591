"""LoRAs of cloneofsimo's trainer, the first there were: layers named by their position, or a plain list in a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffstudio.models.adapters.adapters import Adapters, AdapterUse
from diffstudio.models.detection.types import Role
from diffstudio.models.library.library import Library
from tests.models import small
from tests.models.adapter_files import lora_for, write

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def pipe() -> Any:
    return small.small_sd1()


def in_2023(root: nn.Module, ancestors: set[str], kinds: tuple[type[nn.Module], ...]) -> list[str]:
    """The layers below modules of these classes, as `_find_modules_v2` of lora_diffusion walked diffusers 0.12: a
    transformer block began with `attn1`, `ff`, `attn2` then, and CLIP's attention with k, v, q, out.
    """
    found: list[str] = []

    def walk(path: str, module: nn.Module) -> None:
        children = dict(module.named_children())
        if type(module).__name__ == "BasicTransformerBlock":
            children = {name: children[name] for name in ("attn1", "ff", "attn2")}
        if type(module).__name__ in ancestors:
            inner = [f"{path}.{name}" for name, one in module.named_modules() if isinstance(one, kinds)]
            if type(module).__name__ == "CLIPAttention":
                order = ("k_proj", "v_proj", "q_proj", "out_proj")
                inner.sort(key=lambda name: order.index(name.rpartition(".")[2]))
            found.extend(inner)
            return
        for name, child in children.items():
            walk(f"{path}.{name}" if path else name, child)

    walk("", root)
    return found


def pairs(root: nn.Module, paths: list[str], seed: int) -> list[tuple[Tensor, Tensor]]:
    """Up and down of each layer."""
    made = [lora_for(root.get_submodule(path), 2, seed + 2 * number) for number, path in enumerate(paths)]
    return [(up, down) for down, up in made]


def assert_added(
    root: nn.Module, before: dict[str, Tensor], paths: list[str], factors: list[tuple[Tensor, Tensor]]
) -> None:
    for path, (up, down) in zip(paths, factors, strict=True):
        name = f"{path}.weight"
        change = (up.flatten(1) @ down.flatten(1)).view(before[name].shape)
        torch.testing.assert_close(root.state_dict()[name], before[name] + change, msg=name)


CLASSES = {"Attention", "GEGLU"}


@pytest.mark.parametrize("extended", [False, True], ids=["attention", "attention and resnets"])
def test_positions_are_those_of_the_trainer(extended: bool, pipe: Any, tmp_path: Path) -> None:
    unet, encoder = pipe.unet, pipe.text_encoder
    classes = CLASSES | ({"ResnetBlock2D"} if extended else set())
    paths = in_2023(unet, classes, (nn.Linear, nn.Conv2d) if extended else (nn.Linear,))
    texts = in_2023(encoder, {"CLIPAttention"}, (nn.Linear,))
    assert len(paths) > 100 and len(texts) == 12
    parts = {"unet": (paths, pairs(unet, paths, 0)), "text_encoder": (texts, pairs(encoder, texts, 5000))}
    tensors = {
        f"{name}:{index}:{side}": value
        for name, (_, factors) in parts.items()
        for index, pair in enumerate(factors)
        for side, value in zip(("up", "down"), pair, strict=True)
    } | {"<s1>": torch.randn(32)}
    metadata = {name: json.dumps(sorted(classes)) for name in parts} | {"<s1>": "<embed>"}
    write(tmp_path / "first.safetensors", tensors, metadata)
    lora = Library([tmp_path]).find("first")
    assert lora.role is Role.LORA
    before = [{name: value.clone() for name, value in root.state_dict().items()} for root in (unet, encoder)]
    adapters = Adapters(unet, {"text_encoder": encoder})
    (report,) = adapters.use([AdapterUse(lora.path, lora.name, header=lora.header)])
    assert report.matched == report.layers == len(paths) + 12
    assert "<s1>" in report.note
    assert_added(unet, before[0], *parts["unet"])
    assert_added(encoder, before[1], *parts["text_encoder"])
    adapters.detach()
    for root, known in zip((unet, encoder), before, strict=True):
        assert all(torch.equal(value, known[name]) for name, value in root.state_dict().items())


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_list_of_matrices_in_a_pickle_is_used_for_the_part_that_it_fits(part: str, pipe: Any, tmp_path: Path) -> None:
    root = getattr(pipe, part)
    paths = in_2023(root, CLASSES | {"CLIPAttention"}, (nn.Linear,))
    factors = pairs(root, paths, 0)
    torch.save([value for pair in factors for value in pair], tmp_path / "lora_weight.pt")
    lora = Library([tmp_path]).find("lora_weight")
    assert lora.role is Role.LORA and "first format" in lora.reason
    before = {name: value.clone() for name, value in root.state_dict().items()}
    adapters = Adapters(pipe.unet, {"text_encoder": pipe.text_encoder})
    (report,) = adapters.use([AdapterUse(lora.path, lora.name, header=lora.header)])
    assert (report.matched, report.note) == (len(paths), "")
    assert_added(root, before, paths, factors)
    adapters.detach()


def test_positions_beyond_the_fitting_component_are_not_taken_from_another(tmp_path: Path) -> None:
    """Five pairs, of which the first four fit the text encoder, and the fifth the fifth layer of the network."""
    inner = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj")
    network = nested({f"down.transformer_blocks.0.{name}": nn.Linear(8, 8) for name in inner})
    encoder = nested({f"layers.0.self_attn.{name}_proj": nn.Linear(4, 4) for name in ("k", "v", "q", "out")})
    sides = (4, 4, 4, 4, 8)
    torch.save([torch.randn(shape) for side in sides for shape in ((side, 2), (2, side))], tmp_path / "a.pt")
    (report,) = Adapters(network, {"text_encoder": encoder}).use([AdapterUse(tmp_path / "a.pt", "a")])
    assert report.matched == 4 and "Not applied: :4" in report.note


def nested(layers: Mapping[str, nn.Module]) -> nn.Module:
    """A module with these layers at these paths."""
    root = nn.Module()
    for path, layer in layers.items():
        module = root
        *outer, last = path.split(".")
        for name in outer:
            if name not in module._modules:
                module.add_module(name, nn.Module())
            module = module.get_submodule(name)
        module.add_module(last, layer)
    return root


def test_positions_beyond_the_model_are_named(pipe: Any, tmp_path: Path) -> None:
    paths = in_2023(pipe.unet, CLASSES, (nn.Linear,))
    tensors = {
        f"unet:{index}:{side}": value
        for index, pair in enumerate([*pairs(pipe.unet, paths, 0), (torch.randn(4, 2), torch.randn(2, 4))])
        for side, value in zip(("up", "down"), pair, strict=True)
    }
    adapters = Adapters(pipe.unet, {})
    (report,) = adapters.use([AdapterUse(write(tmp_path / "a.safetensors", tensors), "a")])
    assert report.matched == len(paths) and f"unet:{len(paths)}" in report.note
    adapters.detach()
