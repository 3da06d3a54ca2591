"""Pipelines that are no family of ours: diffusers draws them to the bit; we watch, pause, stop, begin again, and
refuse.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import FlowMatchHeunDiscreteScheduler
from PIL import Image
from torch import Tensor, nn

from diffstudio.errors import BadRequest, CheckpointDamaged, CheckpointUnknown, Interrupted
from diffstudio.models.components.components import FolderComponents
from diffstudio.models.families.pipelines import diffusers_pipeline
from diffstudio.studio.events import Event, Finished, ImageSaved, Stepped
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.jobs.recording import Recording, Replay
from diffstudio.studio.requests import GenerateRequest
from tests.models.sampled import sample
from tests.models.small_flow import (
    CPU,
    HEIGHT,
    WIDTH,
    checkpoint_of,
    difference,
    ours,
    small_auraflow,
    small_flux,
    small_pixart,
    small_qwen_image,
    theirs,
)
from tests.studio.run_request import run_request

PROMPTS = ["red apple", "a photo of the sleeping cat"]
ROUNDING = (
    1e-5  # the same calls; but small matrix products may end otherwise on some processors, by where their numbers lie
)
REQUEST = GenerateRequest(
    prompt="red apple", checkpoint="aura", seed=5, steps=4, width=WIDTH, height=HEIGHT, guidance=3.0, count=2
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy"
)  # diffusers' DPM++, to numpy


def load(folder: Path) -> diffusers_pipeline.DiffusersPipelineModel:
    return diffusers_pipeline.load(checkpoint_of(folder, "diffusers"), FolderComponents(folder), CPU, torch.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, diffusers_pipeline.DiffusersPipelineModel]]:
    folder = tmp_path_factory.mktemp("auraflow")
    yield small_auraflow(folder), load(folder)


@pytest.fixture
def model(small: tuple[Any, diffusers_pipeline.DiffusersPipelineModel]) -> diffusers_pipeline.DiffusersPipelineModel:
    return small[1]


class Calls:
    """Counts how often a network was asked; `at` may say what happens when it was."""

    def __init__(self, network: nn.Module, at: Callable[[int], None] | None = None) -> None:
        self.count = 0
        self._at = at
        self._handle = network.register_forward_hook(self._called)

    def _called(self, *_: Any) -> None:
        self.count += 1
        if self._at is not None:
            self._at(self.count)

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *_: Any) -> None:
        self._handle.remove()


# ---- the same pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [small_pixart, small_auraflow, small_flux])
def test_it_draws_diffusers_own_pictures(tmp_path: Path, build: Callable[[Path], Any]) -> None:
    pipeline, model = build(tmp_path), load(tmp_path)
    assert difference(ours(model, PROMPTS, guidance=3.0), theirs(pipeline, PROMPTS, guidance_scale=3.0)) < ROUNDING


def test_the_negative_prompt_and_guidance_are_handed_on(
    small: tuple[Any, diffusers_pipeline.DiffusersPipelineModel], tmp_path: Path
) -> None:
    pipeline, model = small
    expected_image = theirs(pipeline, PROMPTS, guidance_scale=2.0, negative_prompt=["ugly"] * 2)
    assert difference(ours(model, PROMPTS, negative="ugly", guidance=2.0), expected_image) < ROUNDING
    assert difference(ours(model, PROMPTS, guidance=2.0), expected_image) > 1e-4
    pipeline, model = small_qwen_image(tmp_path), load(tmp_path)  # whose `guidance_scale` is another one's
    assert (
        difference(
            ours(model, PROMPTS[:1], negative="ugly", guidance=4.0),
            theirs(pipeline, PROMPTS[:1], true_cfg_scale=4.0, negative_prompt=["ugly"]),
        )
        < ROUNDING
    )


# ---- step by step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [small_pixart, small_auraflow, small_flux])
def test_every_step_has_an_estimate_in_the_shape_of_a_picture(tmp_path: Path, build: Callable[[Path], Any]) -> None:
    small = build(tmp_path)
    model = load(tmp_path)
    steps = list(sample(model, prompts=PROMPTS, seeds=[5, 6], width=WIDTH, height=HEIGHT, steps=4, guidance=3.0))
    assert [step.index for step in steps] == [1, 2, 3, 4]
    levels = [step.t for step in steps]
    assert levels == sorted(levels, reverse=True) and levels[-1] == 0
    assert steps[-1].x.shape == (2, 3, HEIGHT, WIDTH)
    for step in steps:
        rgb = model.latents_to_rgb(step.denoised)
        assert rgb.shape[:2] == (2, 3) and rgb.shape[3] / rgb.shape[2] == pytest.approx(1.5, abs=0.05)
        assert bool(rgb.isfinite().all())
    assert "step" not in vars(model.pipeline.scheduler) and "step" not in vars(small.scheduler)  # left as it was


def test_the_estimate_is_of_the_clean_picture(model: diffusers_pipeline.DiffusersPipelineModel) -> None:
    """Of a flow's last step the estimate is what it ends in; earlier ones are less noisy than the state."""
    *before, last = list(
        sample(model, prompts=PROMPTS[:1], seeds=[5], width=WIDTH, height=HEIGHT, steps=4, guidance=3.0)
    )
    pipeline: Any = model.pipeline
    with torch.no_grad():
        decoded = pipeline.vae.decode(last.denoised / pipeline.vae.config.scaling_factor).sample
    assert difference(decoded.clamp(-1, 1), last.x) < 1e-5
    assert all((step.denoised - last.denoised).norm() < (step.x - last.denoised).norm() for step in before)


def test_two_calls_for_a_step_are_one_step(tmp_path: Path) -> None:
    small_flux(tmp_path)
    model = load(tmp_path)
    flow = model.pipeline.scheduler

    class Heun(FlowMatchHeunDiscreteScheduler):
        def set_timesteps(
            self, num_inference_steps: int | None = None, device: Any = None, sigmas: Any = None, mu: float = 0
        ) -> None:
            FlowMatchHeunDiscreteScheduler.set_timesteps(self, len(sigmas))

    model.pipeline.scheduler = Heun()
    with Calls(model.network) as calls:
        steps = list(sample(model, prompts=PROMPTS[:1], seeds=[5], width=WIDTH, height=HEIGHT, steps=4, guidance=3.0))
    assert calls.count == 7 and [step.index for step in steps] == [1, 2, 3, 4]
    model.pipeline.scheduler = flow


def test_who_leaves_early_leaves_nothing_running(model: diffusers_pipeline.DiffusersPipelineModel) -> None:
    with Calls(model.network) as calls:
        steps = sample(model, prompts=PROMPTS[:1], seeds=[5], width=WIDTH, height=HEIGHT, steps=8, guidance=3.0)
        next(steps)
        steps.close()  # type: ignore[attr-defined]
        assert calls.count == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pipeline")]
    assert "step" not in vars(model.pipeline.scheduler)


# ---- as a job --------------------------------------------------------------------------------------------------------


class Kept:
    """Keeps pictures in memory, in place of the gallery."""

    @dataclasses.dataclass
    class One:
        path: Path

    def __init__(self) -> None:
        self.pixels: list[np.ndarray[Any, Any]] = []

    def add(self, image: Image.Image, request: GenerateRequest, *, extra: Mapping[str, Any]) -> One:
        self.pixels.append(np.array(image))
        return self.One(Path(f"{extra['index']}.png"))


def run(
    model: diffusers_pipeline.DiffusersPipelineModel, request: GenerateRequest = REQUEST, **options: Any
) -> tuple[Kept, list[Event]]:
    kept = Kept()
    return kept, list(run_request(request, model, kept, **options))


def test_a_job_shows_every_step_and_saves_diffusers_pictures(
    small: tuple[Any, diffusers_pipeline.DiffusersPipelineModel],
) -> None:
    pipeline, model = small
    kept, events = run(model)
    shown = [event for event in events if isinstance(event, Stepped)]
    assert isinstance(events[-1], Finished) and len([event for event in events if isinstance(event, ImageSaved)]) == 2
    assert all(event.previews and event.previews[0].std() > 0 for event in shown)
    assert shown[-1].index == shown[-1].steps == 4
    images = theirs(pipeline, ["red apple"] * 2, guidance_scale=3.0)
    levels = ((images + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert all(np.array_equal(made, reference) for made, reference in zip(kept.pixels, levels, strict=True))


def test_stop_acts_within_one_call_of_the_network(model: diffusers_pipeline.DiffusersPipelineModel) -> None:
    control = JobControl()

    def stop(count: int) -> None:
        if count == 3:
            control.stop()

    with Calls(model.network, stop) as calls, pytest.raises(Interrupted):
        run(model, dataclasses.replace(REQUEST, steps=20, count=1), job_control=control)
    assert calls.count == 3
    assert (
        difference(ours(model, PROMPTS, guidance=3.0), ours(model, PROMPTS, guidance=3.0)) < ROUNDING
    )  # and it draws on


def test_while_it_pauses_the_network_is_not_asked(model: diffusers_pipeline.DiffusersPipelineModel) -> None:
    paused = threading.Event()
    control = JobControl(on_pause=paused.set)

    def pause(count: int) -> None:
        if count == 2:
            control.pause()

    made: list[Kept] = []
    with Calls(model.network, pause) as calls:
        job = threading.Thread(
            target=lambda: made.append(run(model, dataclasses.replace(REQUEST, count=1), job_control=control)[0])
        )
        job.start()
        assert paused.wait(30)
        asked = calls.count
        control.resume()
        job.join(30)
        assert asked == 2 and calls.count == 4
    assert len(made[0].pixels) == 1


def test_from_the_middle_it_ends_in_the_same_picture(model: diffusers_pipeline.DiffusersPipelineModel) -> None:
    recording = Recording()
    whole, _ = run(model, recording=recording)
    again, events = run(model, replay=Replay(recording, 3))
    assert all(np.array_equal(one, other) for one, other in zip(whole.pixels, again.pixels, strict=True))
    assert [event.index for event in events if isinstance(event, Stepped)] == [1, 2, 3, 4]


def test_what_the_pipeline_refuses_is_told_in_words(
    tmp_path: Path, model: diffusers_pipeline.DiffusersPipelineModel
) -> None:
    with pytest.raises(BadRequest, match="multiples of 8 px.*Try 96 × 64"):
        run(model, dataclasses.replace(REQUEST, width=100))
    with pytest.raises(BadRequest, match="cannot start from an image: it runs in a diffusers pipeline"):
        list(sample(model, prompts=["x"], seeds=[0], width=WIDTH, height=HEIGHT, init=torch.zeros(1, 3, HEIGHT, WIDTH)))

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise ValueError("`height` has to be divisible by 16")

    network: Any = model.network

    def refuse_without_a_reason(*_: Any, **__: Any) -> Tensor:
        raise ValueError

    network.forward, forward = refuse, network.forward
    try:
        with pytest.raises(BadRequest, match="divisible by 16"):
            run(model)
        network.forward = refuse_without_a_reason
        with pytest.raises(BadRequest, match="refuses the request"):
            run(model)
    finally:
        network.forward = forward


# ---- what is not opened ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, expected",
    [
        ("WanPipeline", "generates video"),
        ("StableAudioPipeline", "generates audio"),
        ("DiTPipeline", "numbered classes"),
        ("FluxFillPipeline", "edits images"),
        ("StableDiffusionControlNetPipeline", "needs a control image"),
        ("StableCascadePriorPipeline", "one half of a pipeline|edits images"),
        ("DDPMPipeline", "is not text-to-image"),
        ("AutoencoderKL", "needs an unknown pipeline"),
        ("NoSuchPipeline", "needs an unknown pipeline"),
    ],
)
def test_pipelines_that_do_something_else_are_refused(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": name, "scheduler": ["diffusers", "DDIMScheduler"]})
    )
    with pytest.raises(CheckpointUnknown, match=expected):
        load(tmp_path)


def test_code_that_comes_with_a_folder_is_never_run(tmp_path: Path) -> None:
    small_auraflow(tmp_path)
    marker = tmp_path / "was run"
    (tmp_path / "transformer" / "my_network.py").write_text(f"open({str(marker)!r}, 'w')\nclass Network: pass\n")
    path = tmp_path / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transformer": ["my_network", "Network"]}))
    with pytest.raises(CheckpointUnknown, match="its own program code"):
        load(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": ["my_pipeline", "Pipeline"]}))
    with pytest.raises(CheckpointUnknown, match="its own program code"):
        load(tmp_path)
    assert not marker.exists()


def test_damaged_folders_are_told_in_words(tmp_path: Path) -> None:
    small_auraflow(tmp_path)
    weights = next((tmp_path / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointDamaged, match="cannot be loaded"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(CheckpointDamaged, match="cannot be read"):
        load(tmp_path)


def test_a_pipeline_with_missing_weights_is_refused_or_says_so(tmp_path: Path) -> None:
    """diffusers leaves them empty, transformers fills them with random values; both only warn."""
    small_auraflow(tmp_path)
    without(tmp_path / "transformer", "pos_embed.proj.bias")
    with pytest.raises(CheckpointDamaged, match=r"transformer.pos_embed.proj.bias is missing"):
        load(tmp_path)
    small_auraflow(tmp_path)
    without(tmp_path / "text_encoder", "encoder.final_layer_norm.weight")
    (note,) = load(tmp_path).load_notes
    assert note.endswith("is incomplete: encoder.final_layer_norm.weight is missing; random values were used instead.")


def without(component: Path, key: str) -> None:
    """Remove a tensor from a component's weights."""
    (file,) = component.glob("*.safetensors")
    tensors = safetensors.torch.load_file(file)
    del tensors[key]
    safetensors.torch.save_file(tensors, file, {"format": "pt"})
