"""AttentionRecording in every family: the image stays what it is, and the maps are those of an explicit softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.transformers import transformer_flux, transformer_qwenimage, transformer_z_image
from torch import Tensor

from diffstudio.models.inspection.layers import MapKind, WantedRow
from diffstudio.models.inspection.recording import LARGEST_SIDE, AttentionRecording, StepWords
from diffstudio.models.model import Model
from diffstudio.networks import transformer_layers
from tests.models.inspection.models import FAMILIES, load, size_of
from tests.models.sampled import sample

PROMPT, NEGATIVE, STEPS = "red apple", "ugly", 2
Call = tuple[Tensor, Tensor]  # probabilities [B,heads,M,M'] and outputs [B,M,D] of one attention


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    known: dict[str, Model] = {}

    def model(family: str) -> Model:
        if family not in known:
            known[family] = load(family, tmp_path_factory.mktemp(family))
        return known[family]

    return model


def drawn(model: Model, family: str, prompt: str = PROMPT, recording: AttentionRecording | None = None) -> Tensor:
    width, height = size_of(family)
    conditioning = model.encode_prompt(prompt, NEGATIVE)
    wrap = recording.wrap if recording is not None else None
    for step in sample(
        model,
        conditioning=conditioning,
        seeds=[5],
        width=width,
        height=height,
        steps=STEPS,
        sampler="euler",
        guidance=3.0,
        wrap=wrap,
    ):
        last = step.x
        if recording is not None:
            recording.next_step()
    return last


def recording_of(model: Model, family: str, kind: MapKind, prompts: Sequence[str] = (PROMPT,)) -> AttentionRecording:
    layers = [layer for layer in model.attention_layers if layer.kind is kind]
    words: list[tuple[tuple[int, tuple[int, ...]], ...]] = []
    number = 0
    for prompt in prompts:
        found = model.prompt_words(prompt)
        words.append(tuple((number + place, word.tokens) for place, word in enumerate(found)))
        number += len(found)
    width, height = size_of(family)
    _, *state = model.state_shape(width, height)
    return AttentionRecording(layers, [StepWords(tuple(words))] * STEPS, number, (state[0], state[1]))


@contextmanager
def explicit_softmax(monkeypatch: pytest.MonkeyPatch, model: Model) -> Iterator[list[Call]]:
    """All attentions of the network, computed with an explicit softmax in float64, in the order of their calls."""
    calls: list[Call] = []
    running = [False]  # the network, and not a text encoder
    hooks = [
        model.network.register_forward_pre_hook(lambda *_: running.__setitem__(0, True)),
        model.network.register_forward_hook(lambda *_: running.__setitem__(0, False)),
    ]

    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """[B,heads,N,d]."""
        q, k, v = (tensor.double() for tensor in (query, key, value))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask.bool(), -math.inf)
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        out = (weights @ v).to(query)
        calls.append((weights, out.transpose(1, 2).flatten(2).double()))
        return out

    def dispatched(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
        swapped = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return attend(*swapped, attn_mask).transpose(1, 2)

    usual = F.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **named: Any) -> Tensor:
        if not running[0]:
            return usual(query, key, value, attn_mask, **named)
        return attend(query, key, value, attn_mask)

    with monkeypatch.context() as patch:
        for module in (transformer_flux, transformer_qwenimage, transformer_z_image):
            patch.setattr(module, "dispatch_attention_fn", dispatched)
        patch.setattr(F, "scaled_dot_product_attention", fused)
        patch.setattr(transformer_layers, "attention", lambda q, k, v: attend(q, k, v, None))
        yield calls
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", MapKind)
def test_the_image_is_the_same_to_the_bit(models: Callable[[str], Model], family: str, kind: MapKind) -> None:
    model = models(family)
    recording = recording_of(model, family, kind)
    before = drawn(model, family)
    with recording.attached(model.network):
        recorded = drawn(model, family, recording=recording)
    assert torch.equal(recorded, before)
    assert torch.equal(drawn(model, family), before)  # and nothing stays behind
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.network.modules())
    if recording.maps.shape[1]:
        assert torch.isfinite(recording.maps).all() and not recording.other_grids
        assert (recording.maps.std(dim=(3, 4)) > 0).all()  # maps say something


@pytest.mark.parametrize("family", ["pixel", "flux", "sd3", "qwen_image", "z_image"])
def test_maps_of_outputs_are_those_of_an_explicit_softmax(
    models: Callable[[str], Model], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models(family)
    recording = recording_of(model, family, MapKind.OUTPUTS)
    with recording.attached(model.network):
        drawn(model, family, recording=recording)
    width, height = size_of(family)
    _, h, w = model.state_shape(width, height)
    patch = 8 if family == "pixel" else 2
    tokens = (h // patch) * (w // patch)
    padded = -(-tokens // 32) * 32  # of Z-Image
    with explicit_softmax(monkeypatch, model) as calls:
        drawn(model, family)
    joint = [out for _, out in calls if family != "z_image" or out.shape[1] > padded]  # not the refiners of Z-Image
    words = model.prompt_words(PROMPT)
    assert [word.text for word in words] == ["red", "apple"] and all(word.tokens for word in words)
    names = len(recording.maps[0])
    expected: list[list[Tensor]] = [[] for _ in range(names)]
    # In one call of the network all layers come one after the other; Qwen-Image calls it for the negative prompt too.
    per_call = names + (family == "sd3")  # the last block of Stable Diffusion 3 has no output for the text
    groups = [joint[first : first + per_call] for first in range(0, len(joint), per_call)]
    if family == "qwen_image":
        groups = groups[::2]
    for group in groups:
        for layer, out in enumerate(group[:names]):
            row = out[0]
            if family in ("pixel",):
                text, image = row[: len(row) - tokens], row[len(row) - tokens :]
            elif family == "z_image":
                image, text = row[:tokens], row[padded:]
            elif family == "sd3":
                image, text = row[:tokens], row[tokens:]
            else:
                text, image = row[: len(row) - tokens], row[len(row) - tokens :]
            scores = image @ text.T / math.sqrt(row.shape[-1])
            maps = torch.stack([scores[:, list(word.tokens)].mean(1) for word in words])
            expected[layer].append(maps.reshape(len(words), h // patch, w // patch))
    assert len(groups) == STEPS
    for layer, steps in enumerate(expected):
        for step, maps in enumerate(steps):
            scaled = F.interpolate(maps[None], recording.grid, mode="bilinear", align_corners=False)[0]
            torch.testing.assert_close(recording.maps[:, layer, step].double(), scaled, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_maps_of_weights_are_those_of_an_explicit_softmax(
    models: Callable[[str], Model], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models(family)
    recording = recording_of(model, family, MapKind.WEIGHTS)
    with recording.attached(model.network):
        drawn(model, family, recording=recording)
    width, height = size_of(family)
    _, h, w = model.state_shape(width, height)
    words = model.prompt_words(PROMPT)
    with explicit_softmax(monkeypatch, model) as calls:
        drawn(model, family)
    cross = [weights for weights, _ in calls if weights.shape[-1] == 77 and weights.shape[-2] != 77]
    layers = recording.maps.shape[1]
    assert len(cross) == layers * STEPS
    for step in range(STEPS):
        for layer in range(layers):
            weights = cross[step * layers + layer][0].mean(0)  # [N,77] of the row of the prompt
            factor = 2 ** round(math.log2(h * w / len(weights)) / 2)  # by which the U-Net halved both sides
            maps = torch.stack([weights[:, list(word.tokens)].sum(1) for word in words])
            maps = maps.reshape(len(words), -(-h // factor), -(-w // factor))
            scaled = F.interpolate(maps[None], recording.grid, mode="bilinear", align_corners=False)[0]
            torch.testing.assert_close(recording.maps[:, layer, step].double(), scaled, rtol=1e-4, atol=1e-6)


def test_own_weights_are_those_of_an_explicit_softmax(
    models: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models("pixel")
    recording = recording_of(model, "pixel", MapKind.WEIGHTS)
    with recording.attached(model.network):
        drawn(model, "pixel", recording=recording)
    with explicit_softmax(monkeypatch, model) as calls:
        drawn(model, "pixel")
    words = model.prompt_words(PROMPT)
    assert len(calls) == STEPS
    for step, (weights, _) in enumerate(calls):
        image = weights[0].mean(0)[-6:]  # 3 x 2 patches over all tokens
        maps = torch.stack([image[:, list(word.tokens)].sum(1) for word in words]).reshape(2, 2, 3)
        scaled = F.interpolate(maps[None], recording.grid, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(recording.maps[:, 0, step].double(), scaled, rtol=1e-4, atol=1e-6)


def test_the_parts_of_and_have_maps_of_their_own(models: Callable[[str], Model]) -> None:
    """Rows of a batch are matched with subprompts: swapping them swaps the maps."""
    for family in ("pixel", "sd1", "sd3", "qwen_image"):
        model = models(family)
        kind = model.attention_layers[0].kind
        maps = []
        for prompts in (("red apple", "blue heart", "green cat"), ("blue heart", "red apple", "green cat")):
            recording = recording_of(model, family, kind, prompts)
            with recording.attached(model.network):
                drawn(model, family, " AND ".join(prompts), recording)
            maps.append(recording.maps[:, :, :1])  # of the first step, whose state is the same
        assert torch.isfinite(maps[0]).all()
        torch.testing.assert_close(maps[0][[0, 1, 2, 3]], maps[1][[2, 3, 0, 1]], rtol=1e-3, atol=1e-5)
        assert not torch.allclose(maps[0][[0, 1]], maps[0][[2, 3]], rtol=1e-2)


def test_a_word_that_is_not_in_a_step_has_no_map(models: Callable[[str], Model]) -> None:
    model = models("pixel")
    layers = [layer for layer in model.attention_layers if layer.kind is MapKind.OUTPUTS]
    steps = [StepWords((((0, (0,)),),)), StepWords((((1, (0,)),),))]
    recording = AttentionRecording(layers, steps, 2, (16, 24))
    with recording.attached(model.network):
        drawn(model, "pixel", "[red:apple:1]", recording)
    assert torch.isfinite(recording.maps[0, :, 0]).all() and torch.isnan(recording.maps[0, :, 1]).all()
    assert torch.isnan(recording.maps[1, :, 0]).all() and torch.isfinite(recording.maps[1, :, 1]).all()
    with recording.attached(model.network):  # steps beyond the last are not recorded
        before = recording.maps.clone()
        drawn(model, "pixel", "red", recording)
    torch.testing.assert_close(recording.maps, before, equal_nan=True)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [StepWords(((),))] * 50
    fine = AttentionRecording([], steps, 3, (64, 128))
    assert fine.grid == (LARGEST_SIDE // 2, LARGEST_SIDE)
    many = AttentionRecording([object()] * 60, steps, 40, (64, 128))  # type: ignore[list-item]
    assert many.grid == (8, 16) and many.maps.numel() <= 16_000_000
    monkeypatch.setattr("diffstudio.models.inspection.recording.MOST_VALUES", 10)
    assert AttentionRecording([object()], steps, 1, (64, 64)).grid == (1, 1)  # type: ignore[list-item]


def test_a_layer_with_another_grid_is_named() -> None:
    class Odd:
        name, kind = "odd", MapKind.WEIGHTS

        def attach(self, reading: Any) -> list[Any]:
            reading.found(WantedRow(0, 0, ((0,),)), torch.ones(1, 7))
            return []

    recording = AttentionRecording([Odd()], [StepWords((((0, (0,)),),))], 1, (8, 8))
    with recording.attached(torch.nn.Identity()):
        pass
    assert recording.other_grids == {"odd"} and torch.isnan(recording.maps).all()
