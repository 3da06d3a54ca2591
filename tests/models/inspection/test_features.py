"""Features of blocks in every family, and encoded prompts without a word's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffstudio.diffusion.noise import SeededNoise
from diffstudio.models.inspection.features import block_features, pooled
from tests.models.inspection.models import FAMILIES, load, size_of

BLOCKS = {
    "pixel": ["block 0"],
    "flux": ["block 0", "block 1", "single 0", "single 1"],
    "sd3": ["block 0", "block 1", "block 2"],
    "qwen_image": ["block 0", "block 1"],
    "z_image": ["block 0", "block 1"],
    "sd1": [*(f"down {n}" for n in range(4)), "middle", *(f"up {n}" for n in range(4))],
    "sdxl": [*(f"down {n}" for n in range(3)), "middle", *(f"up {n}" for n in range(3))],
}


def test_image_tokens_are_averaged() -> None:
    x = torch.arange(48.0).reshape(1, 2, 4, 6)
    torch.testing.assert_close(pooled(x, (4, 6)), x.flatten(2).mean(2))
    tokens = x.flatten(2).transpose(1, 2)  # [1,24,2] of patches of 2 px
    torch.testing.assert_close(pooled(tokens, (8, 12)), x.flatten(2).mean(2))
    parts = pooled(tokens, (8, 12), 2)
    assert parts.shape == (1, 8) and float(parts[0, 0]) == float(x[0, 0, :2, :3].mean())
    torch.testing.assert_close(parts, pooled(x, (8, 12), 2))
    assert pooled(x, (4, 6), 9).shape == (1, 2 * 16)  # as many parts as there are tokens
    torch.testing.assert_close(pooled(tokens[:, :7], (8, 12), 2), tokens[:, :7].mean(1))  # that cover no grid


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_features_and_masks(family: str, tmp_path: Path) -> None:
    model = load(family, tmp_path)
    assert [block.name for block in model.blocks] == BLOCKS[family]
    width, height = size_of(family)
    shape = model.state_shape(width, height)
    x = SeededNoise([0, 1]).start(shape)
    t = torch.full((2,), 0.5 * model.schedule.t_max, dtype=torch.float64)
    guidance = min(1.0, model.unguided_scale)
    denoiser = model.denoiser(model.encode_prompt("", count=2), guidance)
    features = block_features(denoiser, model.blocks, x, t)
    assert all(one.ndim == 2 and len(one) == 2 and torch.isfinite(one).all() for one in features)
    alone = block_features(model.denoiser(model.encode_prompt(""), guidance), model.blocks, x[1:], t[1:])
    for both, one in zip(features, alone, strict=True):  # rows do not mix
        torch.testing.assert_close(both[1:], one, rtol=1e-3, atol=1e-4)
    assert not any(module._forward_hooks for module in model.network.modules())

    # An encoded prompt whose words are all masked differs from the prompt, and a mask of nothing changes nothing.
    prompt = model.encode_prompt("red apple")
    words = model.prompt_words("red apple")
    assert [word.text for word in words] == ["red", "apple"]
    plain = model.denoiser(prompt, guidance)(x[:1], t[:1])
    same = model.denoiser(model.masked(prompt, [()]), guidance)(x[:1], t[:1])
    changed = model.denoiser(model.masked(prompt, [words[1].tokens]), guidance)(x[:1], t[:1])
    assert torch.equal(plain, same) and not torch.equal(plain, changed)
    assert torch.equal(model.denoiser(prompt, guidance)(x[:1], t[:1]), plain)  # the prompt itself is as it was


def test_a_class_has_no_tokens_to_mask(tmp_path: Path) -> None:
    from diffstudio.models.families import pixel
    from diffstudio.models.library.records import read_checkpoint
    from diffstudio.networks.conditioning import Conditioning
    from tests.models.tiny import write_tiny_checkpoint

    for conditioning, context in ((Conditioning.CLASS, 1), (Conditioning.NONE, 0)):
        path = tmp_path / f"{conditioning.name}.safetensors"
        write_tiny_checkpoint(path, conditioning=conditioning)
        model = pixel.load(read_checkpoint(path), torch.device("cpu"), torch.float32)
        assert model.prompt_words("apple") == () and model.network.context_tokens == context
        prompt = model.encode_prompt("apple" if context else "")
        assert model.masked(prompt, [()]) == prompt
        denoiser = model.denoiser(prompt, 1.0)
        (features,) = block_features(denoiser, model.blocks, torch.zeros(1, 3, 16, 16), torch.tensor([0.5]))
        assert features.shape == (1, 16)
