"""The passes of training give the same values and gradients as automatic differentiation of the plain formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffstudio.networks import training_passes
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.transformer import Condition, PixelTransformer
from diffstudio.networks.transformer_config import TransformerConfig
from diffstudio.networks.transformer_layers import apply_rotary, modulate, rms_norm, rotary_embedding

CONFIG = TransformerConfig(
    image_size=16, patch_size=4, hidden_size=16, depth=2, num_heads=2, cond_dim=8, bottleneck_dim=8,
    conditioning=Conditioning.CLASS, num_classes=3,
)  # fmt: skip


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def same(ours: Sequence[Tensor], theirs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
    """The values are equal, and the gradients of a weighted sum of them."""
    weights = [torch.randn(one.shape, generator=torch.Generator().manual_seed(1), dtype=one.dtype) for one in theirs]
    found, expected = (
        torch.autograd.grad(sum((one * weight).sum() for one, weight in zip(made, weights, strict=True)), inputs)  # type: ignore[arg-type]
        for made in (ours, theirs)
    )
    for one, other in zip((*ours, *found), (*theirs, *expected), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6)  # the eps of float32 is added to float64 too


def test_modulated_norm() -> None:
    x, shift, scale = drawn((2, 5, 8), (2, 1, 8), (2, 1, 8))
    same([training_passes.modulated_norm(x, shift, scale)], [modulate(rms_norm(x), shift, scale)], (x, shift, scale))


def test_gated() -> None:
    (x,) = drawn((2, 5, 12))
    gate, value = x.chunk(2, dim=-1)
    same([training_passes.gated(x)], [F.silu(gate) * value], (x,))


def test_attention_inputs() -> None:
    x, weight, q_weight, k_weight = drawn((2, 20, 5), (3 * 2 * 8, 5), (8,), (8,))
    rotation = rotary_embedding(4, 4, 4, CONFIG, torch.device("cpu")).double()
    q, k, v = F.linear(x, weight).view(2, 20, 3, 2, 8).unbind(2)
    q, k = (apply_rotary(rms_norm(one) * scale, rotation) for one, scale in ((q, q_weight), (k, k_weight)))
    expected = [one.transpose(1, 2) for one in (q * 8**-0.5, k, v)]
    apart = F.linear(x, training_passes.pairs_apart(weight, heads=2))
    found = training_passes.attention_inputs(apart, q_weight, k_weight, rotation)
    same(found, expected, (x, weight, q_weight, k_weight))


def gradients(network: PixelTransformer, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    x, t = torch.randn(3, 3, 16, 16, generator=generator), torch.tensor([0.2, 0.5, 0.9])
    network.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        network(x, t, Condition(class_labels=torch.tensor([0, 1, 2]))).square().mean().backward()
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(("dtype", "closeness"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_a_network_has_the_same_gradients(
    dtype: torch.dtype, closeness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = PixelTransformer(CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    calls: list[str] = []
    for name in ("modulated_norm", "gated", "attention_inputs"):
        monkeypatch.setattr(training_passes, name, _counted(calls, getattr(training_passes, name)))
    ours = gradients(network, dtype)
    assert sorted(set(calls)) == ["attention_inputs", "gated", "modulated_norm"] and len(calls) == 8
    monkeypatch.setattr(training_passes, "fits", lambda x, training: False)
    theirs = gradients(network, dtype)
    assert len(calls) == 8 and len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= closeness * other.norm()


def _counted(calls: list[str], function: Callable[..., object]) -> Callable[..., object]:
    def counting(*arguments: object) -> object:
        calls.append(function.__name__)
        return function(*arguments)

    return counting


def test_images_are_drawn_by_the_plain_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: object) -> None:
        raise AssertionError

    for name in ("modulated_norm", "gated", "attention_inputs"):
        monkeypatch.setattr(training_passes, name, unexpected)
    network, x, t = PixelTransformer(CONFIG), torch.randn(1, 3, 16, 16), torch.tensor([0.5])
    with torch.no_grad():
        network(x, t)
    network.eval()(x.requires_grad_(), t)  # as for likelihoods
