"""Prompts that change with the steps, AND, and clip skip: what conditions the network in each step, on whole models."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.errors import BadRequest
from diffstudio.models import loading
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.conditioning.textual_inversion import TextualInversion
from diffstudio.models.families import flux, qwen_image, sd3, z_image
from diffstudio.models.families.flow import FlowModel, FlowPrompt
from diffstudio.models.families.pixel import PixelModel
from diffstudio.models.families.prompt_embeds import StableDiffusionPrompt
from diffstudio.models.families.stable_diffusion import StableDiffusion
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import EncodedPrompt
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import Noted
from diffstudio.studio.generation.preview import to_images
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.prompts.prompt_notes import PROMPT_NOT_USED
from diffstudio.studio.requests import GenerateRequest
from tests.models import small, small_flow
from tests.models.families.beside import load
from tests.models.sampled import sample
from tests.models.small_flow import checkpoint_of
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.generation.test_generate import InMemory
from tests.studio.run_request import run_request

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers, with NumPy 2
CPU = torch.device("cpu")
PROMPT, NEGATIVE = "a [red:(blue:1.2):0.5] [apple|heart|]", "[ugly::3] dark"
RED, BLUE = "a red {}", "a (blue:1.2) {}"
FLOWS: dict[str, tuple[Callable[..., Any], Callable[..., FlowModel]]] = {
    "sd3": (small_flow.small_sd3, sd3.load),
    "flux": (small_flow.small_flux, flux.load),
    "z_image": (small_flow.small_z_image, z_image.load),
    "qwen_image": (small_flow.small_qwen_image, qwen_image.load),
}
TABLE = [  # at 4 steps
    (RED.format("apple"), "ugly dark"),
    (RED.format("heart"), "ugly dark"),
    (BLUE.format(""), "ugly dark"),
    (BLUE.format("apple"), " dark"),
]


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, StableDiffusion]:
    folder = tmp_path_factory.mktemp("sd1")
    return small.small_sd1(folder), load(folder, "sd1")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, StableDiffusion]:
    folder = tmp_path_factory.mktemp("sdxl")
    return small.small_sdxl(folder), load(folder, "sdxl")


@pytest.fixture(scope="module")
def pixel(tmp_path_factory: pytest.TempPathFactory) -> PixelModel:
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("pixel") / "tiny.safetensors")
    model = loading.load(read_checkpoint(path), CPU)
    assert isinstance(model, PixelModel)
    return model


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """The text states of each call of a U-Net."""
    states: list[Tensor] = []
    real = StableDiffusion._prediction

    def prediction(self: StableDiffusion, embeds: Any, *rest: Any) -> Any:
        predict = real(self, embeds, *rest)

        def called(x_t: Tensor, t: Tensor) -> Tensor:
            states.append(embeds.prompt_embeds)
            return predict(x_t, t)

        return called

    monkeypatch.setattr(StableDiffusion, "_prediction", prediction)
    yield states


def states(model: StableDiffusion, text: str, negative: str) -> Tensor:
    """[2,L,D]: of a prompt and a negative prompt without any schedule."""
    encoded = model.encode_prompt(text, negative)
    assert isinstance(encoded, StableDiffusionPrompt)
    return torch.cat((encoded.positive.first.prompt_embeds, encoded.negative.prompt_embeds))


@pytest.mark.parametrize("sampler", ["euler", "heun", "unipc"])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_each_step_has_its_own_texts(
    family: str, sampler: str, seen: list[Tensor], request: pytest.FixtureRequest
) -> None:
    """A step of Heun's method is conditioned on one text in both of its calls."""
    model = request.getfixturevalue(family)[1]
    prompt = model.encode_prompt(PROMPT, NEGATIVE)
    per_step: list[list[Tensor]] = []
    for _ in sample(model, conditioning=prompt, seeds=(1,), steps=4, sampler=sampler, guidance=5.0):
        per_step.append(seen.copy())
        seen.clear()
    assert [len(calls) for calls in per_step] == ([2, 2, 2, 1] if sampler == "heun" else [1] * 4)
    for calls, texts in zip(per_step, TABLE, strict=True):
        expected = states(model, *texts)
        assert all(torch.equal(found, expected) for found in calls)


def test_a_batch_has_a_schedule_for_each_image(sd1: tuple[Any, StableDiffusion], seen: list[Tensor]) -> None:
    model = sd1[1]
    prompt = model.encode_prompt(["a [b|c]", "[d:e:1]"], "f")
    list(sample(model, conditioning=prompt, seeds=(1, 2), steps=3, sampler="euler", guidance=5.0))
    for found, texts in zip(seen, [("a b", "d"), ("a c", "e"), ("a b", "e")], strict=True):
        assert torch.equal(found[:2], torch.cat([states(model, text, "f")[:1] for text in texts]))


def test_each_distinct_text_is_encoded_once(sd1: tuple[Any, StableDiffusion]) -> None:
    model, calls = sd1[1], list[Tensor]()
    hook = model.text_encoders["text_encoder"].register_forward_hook(lambda module, args, out: calls.append(args[0]))
    try:
        prompt = model.encode_prompt("[a|b] AND a", "b")
        list(sample(model, conditioning=prompt, seeds=(1,), steps=5, sampler="euler", guidance=5.0))
        list(sample(model, conditioning=prompt, seeds=(3,), steps=3, sampler="euler", guidance=5.0, steps_before=5))
    finally:
        hook.remove()
    assert len(calls) == len({tuple(call.flatten().tolist()) for call in calls}) == 2  # a and b


def clean(denoiser: Denoiser, x: Tensor, t: float) -> Tensor:
    with torch.no_grad():
        return denoiser(x, torch.full((len(x),), t, dtype=torch.float64))


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FlowModel]:
    @lru_cache
    def made(family: str) -> FlowModel:
        build, read = FLOWS[family]
        folder = tmp_path_factory.mktemp(family)
        build(folder)
        return read(checkpoint_of(folder, family), FolderComponents(folder), CPU, torch.float32)

    return made


@pytest.mark.parametrize(
    ("family", "scale"),
    [
        ("sd1", 5.0),
        ("sdxl", 1.0),
        ("pixel", 3.0),
        ("sd3", 4.0),
        ("z_image", 0.0),
        ("z_image", 2.0),
        ("qwen_image", 1.0),
    ],
)
def test_and_is_the_composition_of_predictions(
    family: str, scale: float, flows: Callable[[str], FlowModel], request: pytest.FixtureRequest
) -> None:
    """unconditional + s * sum_i w_i (conditional_i - unconditional): Liu et al. 2022, eq. 11, as in AUTOMATIC1111."""
    found = flows(family) if family in FLOWS else request.getfixturevalue(family)
    model: Any = found[1] if isinstance(found, tuple) else found
    shape = model.state_shape(*((16, 16) if family == "pixel" else (64, 64)))
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    t = model.schedule.t_max / 2

    def alone(text: str) -> Tensor:
        prompt = model.encode_prompt([text, text])
        return clean(model.denoiser(prompt, 0.0 if family == "z_image" else 1.0), x, t)

    def composed(prompts: list[str], guidance: float) -> Tensor:
        return clean(model.denoiser(model.encode_prompt(prompts, "heart"), guidance), x, t)

    u, c = alone("heart"), [alone(text) for text in ("red apple", "rocket", "purple heart")]
    s = scale + 1 if family == "z_image" else scale
    together = composed(["red apple AND rocket :-0.5 AND purple heart:2", "rocket"], scale)
    expected = u + s * ((c[0] - u) - 0.5 * (c[1] - u) + 2 * (c[2] - u))
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * float(expected.abs().max())}
    torch.testing.assert_close(together[:1], expected[:1], **tolerance)
    torch.testing.assert_close(together[1:], (u + s * (c[1] - u))[1:], **tolerance)
    shares = composed(["red apple :0.25 AND rocket :0.75"] * 2, scale)
    torch.testing.assert_close(shares, u + s * (0.25 * (c[0] - u) + 0.75 * (c[1] - u)), **tolerance)


def test_shares_need_no_unconditional_prediction(sd1: tuple[Any, StableDiffusion], seen: list[Tensor]) -> None:
    model = sd1[1]
    x = torch.randn(1, 4, 8, 8)
    clean(model.denoiser(model.encode_prompt("a :0.25 AND b :0.75", "c"), 1.0), x, 500.0)
    assert [len(found) for found in seen] == [2]
    seen.clear()
    clean(model.denoiser(model.encode_prompt("a AND b AND c AND d", "e"), 5.0), x, 500.0)
    assert [len(found) for found in seen] == [2, 2, 1]  # no call takes more memory than guidance does


# Clip skip


def last_states(prompt: EncodedPrompt) -> Tensor:
    assert isinstance(prompt, StableDiffusionPrompt)
    return prompt.positive.first.prompt_embeds


def test_clip_skip_counts_as_a1111(sd1: tuple[Any, StableDiffusion], sdxl: tuple[Any, StableDiffusion]) -> None:
    """2 is the last layer but one. diffusers counts the layers left out, of XL from the last but one on."""
    encoder, model = sd1[0].text_encoder, sd1[1]
    ids = sd1[0].tokenizer("a red apple", padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = encoder(ids, output_hidden_states=True).hidden_states
    norm = next(module for name, module in encoder.named_modules() if name.endswith("final_layer_norm"))
    for clip_skip in (1, 2, 3)[: len(hidden) - 1]:
        found = last_states(model.encode_prompt("a red apple", clip_skip=clip_skip))
        torch.testing.assert_close(found, norm(hidden[-clip_skip]))
    assert torch.equal(
        last_states(model.encode_prompt("a", clip_skip=1)), last_states(model.encode_prompt("a", clip_skip=None))
    )
    pipeline, large = sdxl
    layers = len(large.text_encoders)
    assert layers == 2
    for clip_skip, theirs in ((1, None), (2, None), (None, None), (3, 1)):
        if clip_skip == 3 and min(e.config.num_hidden_layers for e in large.text_encoders.values()) < 3:
            continue
        expected = pipeline.encode_prompt("a red apple", None, "cpu", 1, False, clip_skip=theirs)[0]
        assert torch.equal(last_states(large.encode_prompt("a red apple", clip_skip=clip_skip)), expected)


def test_a_clip_skip_beyond_the_layers_is_refused(sd1: tuple[Any, StableDiffusion]) -> None:
    model: Any = sd1[1]
    layers = model.text_encoders["text_encoder"].config.num_hidden_layers
    assert model.encode_prompt("a", clip_skip=layers)
    with pytest.raises(BadRequest, match=f"must be between 1 and {layers}"):
        model.encode_prompt("a", clip_skip=layers + 1)


def test_clip_skip_of_stable_diffusion_3(tmp_path: Path) -> None:
    """diffusers counts from the last layer but one on, as in XL; T5 is read as ever."""
    pipeline = small_flow.small_sd3(tmp_path)
    model = sd3.load(checkpoint_of(tmp_path, "sd3"), FolderComponents(tmp_path), CPU, torch.float32)
    for clip_skip, theirs in ((None, None), (2, None), (3, 1)):
        prompt = model.encode_prompt("a red apple", clip_skip=clip_skip)
        assert isinstance(prompt, FlowPrompt)
        expected = pipeline.encode_prompt("a red apple", None, None, clip_skip=theirs)[0][0]
        torch.testing.assert_close(prompt.positive.first.prompt_embeds[0], expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(BadRequest, match="too few layers"):
        model.encode_prompt("a", clip_skip=12)


# Whole requests


def run(model: Any, request: GenerateRequest, **options: Any) -> tuple[list[Any], list[str]]:
    kept = InMemory()
    events = list(run_request(request, model, kept, **options))
    return kept.pixels, [event.text for event in events if isinstance(event, Noted)]


TINY = GenerateRequest("red apple", checkpoint="tiny", steps=4, sampler="euler", spacing="uniform")


def by_hand(model: PixelModel, texts: list[str], seed: int, steps: int = 4, **options: Any) -> Any:
    """The image of a loop that has another prompt for each step."""
    prompts = [model.encode_prompt(text) for text in texts]

    class Fixed(EncodedPrompt):
        def at_steps(self, steps: int, steps_before: int | None = None) -> list[EncodedPrompt]:
            return prompts

    *_, last = sample(model, conditioning=Fixed(), seeds=(seed,), steps=steps, **options)
    return to_images(model.decode(last.x))[0]


def test_models_trained_here_change_with_the_steps_too(pixel: PixelModel) -> None:
    request = dataclasses.replace(TINY, prompt="[red apple:rocket:0.5]", seed=3, count=2)
    pixels, notes = run(pixel, request)
    assert notes == []
    for index, found in enumerate(pixels):
        expected = by_hand(pixel, ["red apple"] * 2 + ["rocket"] * 2, 3 + index, sampler="euler")
        assert np.abs(found.astype(int) - expected).max() <= 1  # in a batch of two
    assert not np.array_equal(pixels[0], run(pixel, dataclasses.replace(TINY, seed=3))[0][0])


def test_a_hires_fix_counts_on(pixel: PixelModel) -> None:
    """Whole numbers go on after the steps of the first pass; fractions from 1 on are of the second."""
    request = dataclasses.replace(TINY, enlarge=2.0, enlarge_strength=0.5, enlarge_steps=4, enlarge_guidance=2.0)
    whole = run(pixel, dataclasses.replace(request, prompt="[red apple:rocket:5]"))[0][0]
    fraction = run(pixel, dataclasses.replace(request, prompt="[red apple:rocket:1.5]"))[0][0]
    assert np.array_equal(whole, fraction)  # 4 steps, then the first of 2
    others = ["[red apple:rocket:4]", "[red apple:rocket:6]", "[red apple:rocket:0.5]"]
    assert all(not np.array_equal(whole, run(pixel, dataclasses.replace(request, prompt=one))[0][0]) for one in others)


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_a_restart_takes_up_the_texts_of_its_steps(pixel: PixelModel, sampler: str) -> None:
    request = dataclasses.replace(TINY, prompt="[red apple|rocket|purple heart]", sampler=sampler, steps=6)
    recording = Recording()
    (expected,), _ = run(pixel, request, recording=recording)
    (again,), _ = run(pixel, request, replay=Replay(recording, 3))
    assert np.array_equal(again, expected)


def test_wildcards_and_schedules_go_together(pixel: PixelModel) -> None:
    request = dataclasses.replace(TINY, prompt="[{red apple|rocket}:purple heart:2]", count=6, seed=1)
    pixels, _ = run(pixel, request)
    expected = [
        run(pixel, dataclasses.replace(TINY, prompt=f"[{name}:purple heart:2]", seed=1 + index))[0][0]
        for index in range(6)
        for name in ("red apple", "rocket")
    ]
    for index, found in enumerate(pixels):
        assert min(np.abs(found.astype(int) - one).max() for one in expected[2 * index : 2 * index + 2]) <= 1


def test_what_a_checkpoint_cannot_do_is_said_once(pixel: PixelModel, flows: Callable[[str], FlowModel]) -> None:
    request = dataclasses.replace(TINY, prompt="(red:1.2) apple embedding:x", negative="a AND b", clip_skip=2, count=3)
    _, notes = run(pixel, request)
    assert notes == [
        "This checkpoint does not support embeddings: embedding:x is read as plain text.",
        "This checkpoint does not support prompt weights, so (red:1.2) is read as text.",
        "In the negative prompt AND is read as a word: only prompts can be composed.",
        "Clip skip has no effect: this checkpoint does not read its prompt from a layer of CLIP.",
    ]
    _, notes = run(pixel, dataclasses.replace(TINY, negative="ugly", guidance=1.0))
    assert notes == ["At a CFG scale of 1 the negative prompt has no effect."]
    distilled = copy.copy(pixel)
    distilled.built_in_guidance, distilled.unguided_scale = 3.0, math.inf
    _, notes = run(distilled, dataclasses.replace(TINY, negative="ugly", guidance=5.0))
    assert notes == [
        "This checkpoint does not use a negative prompt.",
        "The CFG scale of 5 has no effect: a CFG scale of 3 is built in.",
    ]
    distilled.built_in_guidance = 1.0
    assert run(distilled, dataclasses.replace(TINY, guidance=5.0))[1] == [
        "The CFG scale of 5 has no effect: the checkpoint was distilled to few steps."
    ]
    assert run(distilled, dataclasses.replace(TINY, guidance=1.0))[1] == []
    flux = flows("flux")
    plain = GenerateRequest("a (big) [cat:dog:1]", checkpoint="x", steps=1, sampler="euler", width=64, height=64)
    assert run(flux, plain)[1] == []
    _, notes = run(flux, dataclasses.replace(plain, prompt="a AND b BREAK c", negative="ugly", clip_skip=2))
    assert notes == [
        "This checkpoint does not support prompt weights, so BREAK is read as text.",
        "This checkpoint cannot compose prompts, so AND is read as a word.",
        "This checkpoint does not use a negative prompt.",
        "Clip skip has no effect: this checkpoint does not read its prompt from a layer of CLIP.",
    ]


def test_what_stable_diffusion_says(sd1: tuple[Any, StableDiffusion], sdxl: tuple[Any, StableDiffusion]) -> None:
    small_image = GenerateRequest("cat", checkpoint="x", steps=1, sampler="euler", width=64, height=64, guidance=5.0)
    everything = dataclasses.replace(
        small_image, prompt="(a:1.2) [b:c:1] AND d :2 BREAK e", negative="[f]", clip_skip=2
    )
    assert run(sd1[1], everything)[1] == []
    _, notes = run(sd1[1], dataclasses.replace(small_image, prompt="in 16:9 embedding:none.pt"))
    assert notes == ["There is no such embedding: embedding:none.pt is read as plain text."]
    _, notes = run(sd1[1], dataclasses.replace(small_image, prompt="a cat, 16:9"))
    assert notes == [
        "The number at the end of the prompt multiplies the CFG scale by 9, as in AUTOMATIC1111. Put a comma after it "
        "to have it read as text."
    ]
    _, notes = run(sdxl[1], dataclasses.replace(small_image, clip_skip=1))
    assert notes == ["Clip skip 1 has no effect: checkpoints of Stable Diffusion XL read the prompt from layer 2 on."]


def test_an_embedding_is_whole_wherever_it_stands(sd1: tuple[Any, StableDiffusion], seen: list[Tensor]) -> None:
    """Its chunk has the states that it has alone in a chunk, though 70 tokens precede it."""
    model = sd1[1]
    width = model.text_encoders["text_encoder"].get_input_embeddings().embedding_dim  # type: ignore[operator,union-attr]
    vectors = torch.randn(8, width, generator=torch.Generator().manual_seed(1))
    too_long = TextualInversion("long", {width: torch.randn(76, width)})
    notes = model.textual_inversions.use([TextualInversion("mine", {width: vectors}), too_long])
    assert len(notes) == 1 and "it takes 76 tokens, and the text encoders read 75 at a time" in notes[0]
    try:
        one = states(model, "x " * 70 + "embedding:mine.safetensors", "")[:1]
        other = states(model, "x " * 70 + "BREAK mine", "")[:1]
        assert one.shape[1] == 2 * 77 and torch.equal(one, other)
    finally:
        model.textual_inversions.use([])


def test_an_unconditional_checkpoint_says_that_it_does_not_use_the_prompt(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "none.safetensors", conditioning=Conditioning.NONE)
    model = loading.load(read_checkpoint(path), torch.device("cpu"))
    for prompt, expected in (("a cat", [PROMPT_NOT_USED]), (" ", [])):
        request = dataclasses.replace(TINY, prompt=prompt, steps=2, count=2)
        assert run(model, request)[1] == expected
