"""The defaults of models trained here: how close they come to a converged image, and where they are used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffstudio import paths
from diffstudio.diffusion.denoiser import Denoiser
from diffstudio.diffusion.samplers import network_calls
from diffstudio.diffusion.schedule import NoiseSchedule
from diffstudio.models import loading
from diffstudio.models.detection.families_table import PIXEL
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.model import Model
from diffstudio.models.recommended import recommended_for, recommended_values
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.studio.fitted_spacing import with_fitted_times
from diffstudio.studio.requests import GenerateRequest, UpscaleRequest, request_from_json
from diffstudio.training.recipe import Recipe, RunRecipe
from diffstudio.training.run.run_folder import RunFolder
from tests.benchmarks.fitted_steps import with_times
from tests.benchmarks.last_call import grain
from tests.benchmarks.samplers import PROMPTS, differences, draw

HELD_OUT = 16  # the last prompts of the starter's list: the defaults were chosen by the first 24, with other seeds
THESE = {"sampler": PIXEL.sampler, "spacing": PIXEL.spacing, "steps": PIXEL.steps}
VERSION_0_1 = {"sampler": "heun", "spacing": "uniform", "steps": 20}


@pytest.fixture(scope="module")
def starter() -> Iterator[Model]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield loading.load(read_checkpoint(paths.starter()), torch.device("cpu"))
    torch.set_num_threads(threads)


def drawn(model: Model, sampler: str, spacing: str, steps: int, count: int = HELD_OUT) -> Tensor:
    """Prompts and seeds that the defaults were not chosen by."""
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    return draw(model, prompts[-count:], range(1000, 1000 + count), sampler, spacing, steps).images


@pytest.fixture(scope="module")
def converged(starter: Model) -> Tensor:
    return drawn(starter, "unipc", "karras", 40)


def test_the_defaults_come_close_to_a_converged_image(starter: Model, converged: Tensor) -> None:
    """The median image does. For a few prompts ten steps lead to another image, which dominates the mean."""
    away = differences(drawn(starter, PIXEL.sampler, PIXEL.spacing, PIXEL.steps), converged)
    assert away.median() < 1.5e-4
    assert (away > 1e-3).sum() <= HELD_OUT // 4 and away.max() < 3e-3
    times = starter.times(PIXEL.steps, PIXEL.spacing, 1.0, 64, 64)
    assert network_calls(PIXEL.sampler, starter.schedule, times) <= 10


def test_the_fitted_steps_of_the_starter_come_closer_for_every_prompt(starter: Model, converged: Tensor) -> None:
    """Fitted with the first 24 prompts and the seeds 0 to 23: at most ten calls, and no prompt leads to another image."""
    ladder = fitted_steps(read_checkpoint(paths.starter())).recommended
    assert ladder is not None and ladder.guidance == starter.guidance
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()[-HELD_OUT:]
    seeds = range(1000, 1000 + HELD_OUT)
    away = differences(with_times(starter, prompts, seeds, ladder.sampler, ladder.times), converged)
    assert away.mean() <= 1.5e-4 and away.max() < 1e-3
    times = torch.tensor([*ladder.times, 0.0], dtype=torch.float64)
    assert network_calls(ladder.sampler, starter.schedule, times) <= 10


def test_the_starter_begins_with_them_in_generate() -> None:
    checkpoint = read_checkpoint(paths.starter())
    ladder = fitted_steps(checkpoint).recommended
    assert ladder is not None
    values = recommended_values(checkpoint, fitted=True)
    assert (values["sampler"], values["spacing"], values["steps"]) == (ladder.sampler, "fitted", ladder.steps)
    request, note = with_fitted_times(GenerateRequest(**values), checkpoint)
    assert (request.times, note) == (ladder.times, "")


@pytest.mark.parametrize(
    ("sampler", "spacing"), [("heun", "uniform"), (PIXEL.sampler, PIXEL.spacing), ("euler", "karras")]
)
def test_grain_does_not_depend_on_the_parity_of_the_steps(starter: Model, sampler: str, spacing: str) -> None:
    """20 uniform steps end inside the interval of guidance, 21 outside: 31.5 and 25.3 when the last call was guided."""
    even, odd = (grain(drawn(starter, sampler, spacing, steps, 1)) for steps in (20, 21))
    assert even == pytest.approx(odd, rel=0.05)


@pytest.mark.parametrize(("sampler", "count"), [("euler_ancestral", 1), ("dpmpp_2m_sde", 1), ("lcm", 4)])
def test_nor_does_it_with_the_stochastic_samplers(starter: Model, sampler: str, count: int) -> None:
    """These draw another image at 21 steps. That of `lcm` differs by up to 6% in grain, so a mean is compared."""
    even, odd = (grain(drawn(starter, sampler, "uniform", steps, count)) for steps in (20, 21))
    assert even == pytest.approx(odd, rel=0.05)


# ---- where they are used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [GenerateRequest(), UpscaleRequest(Path("a.png"))])
def test_requests_begin_with_them(settings: Any) -> None:
    assert {name: getattr(settings, name) for name in THESE} == THESE


def test_sample_sheets_begin_with_them() -> None:
    run = RunRecipe()
    assert {"sampler": run.sample_sampler, "spacing": run.sample_spacing, "steps": run.sample_steps} == THESE


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, THESE),  # version 0.1
        (VERSION_0_1, THESE),
        (THESE, THESE),
        ({"sampler": "unipc", "spacing": "karras", "steps": 4}, {"sampler": "unipc", "spacing": "karras", "steps": 4}),
        ({"sampler": "hein", "spacing": "karras", "steps": 4}, THESE),
        ({"sampler": "unipc", "spacing": "align_your_steps", "steps": 4}, THESE),
        ({"sampler": "unipc", "spacing": "karras", "steps": 0}, THESE),
        ({"sampler": "unipc", "spacing": "karras", "steps": True}, THESE),
        ({"sampler": ["unipc"], "spacing": "karras", "steps": 4}, THESE),
        ([], THESE),
    ],
)
def test_headers_recommend_them_unless_they_name_others(header: Any, expected: dict[str, Any]) -> None:
    checkpoint = read_checkpoint(paths.starter())
    if header is not None:
        metadata = {**checkpoint.metadata, "diffstudio.sampling": json.dumps(header)}
        checkpoint = dataclasses.replace(checkpoint, metadata=metadata)
    usual = recommended_for(checkpoint)
    assert usual is not None and {name: getattr(usual, name) for name in THESE} == expected


def test_a_run_under_way_keeps_the_sampler_of_its_sheets(tmp_path: Path) -> None:
    values = Recipe(run=RunRecipe(sample_steps=20)).to_json()
    del values["run"]["sample_sampler"], values["run"]["sample_spacing"]  # as version 0.1 wrote it
    run = RunFolder.create(tmp_path / "run", Recipe.from_json(values), tmp_path)
    assert run.recipe().run.sample_sampler == PIXEL.sampler
    text = run.recipe_file.read_text(encoding="utf-8")
    kept = [line for line in text.split("\n") if not line.startswith(("sample_sampler", "sample_spacing"))]
    run.recipe_file.write_text("\n".join(kept), encoding="utf-8")
    old = run.recipe().run
    assert (old.sample_sampler, old.sample_spacing, old.sample_steps) == ("heun", "uniform", 20)


def test_recorded_requests_keep_what_they_recorded() -> None:
    values = GenerateRequest(**VERSION_0_1, init=Path("a.png"), strength=0.5).to_json()  # type: ignore[arg-type]
    again = request_from_json(values)
    assert {name: getattr(again, name) for name in VERSION_0_1} == VERSION_0_1


# ---- denoising strength ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["karras", "exponential", "log_snr"])
@pytest.mark.parametrize("strength", [0.3, 0.5, 0.9])
def test_a_strength_is_the_same_noise_level_with_every_spacing(starter: Model, spacing: str, strength: float) -> None:
    """As a share of the steps, 0.3 of ten steps of `karras` begins with 0.9% noise, and changes nothing."""
    even, uneven = (starter.times(10, name, strength, 64, 64) for name in ("uniform", spacing))
    assert uneven[0] == pytest.approx(even[0]) == pytest.approx(strength) and len(uneven) == len(even)
    recorded = starter.times_in_steps(10, spacing, strength, 64, 64)
    assert torch.equal(recorded, starter.times_in_steps(10, spacing, 1.0, 64, 64)[-len(even) :])


def test_requests_of_version_0_1_keep_their_share_of_the_steps(starter: Model) -> None:
    asked: list[float] = []

    def begun(guide_last_call: bool | None) -> float:
        options = SampleOptions(
            seeds=[0],
            steps=10,
            sampler="euler",
            spacing="karras",
            strength=0.3,
            clean=torch.zeros(1, 3, 64, 64),
            guide_last_call=guide_last_call,
        )
        asked.clear()
        list(sample(starter, starter.encode_prompt("red apple"), options, wrap=lambda denoiser: Noted(denoiser, asked)))
        return asked[0]

    assert begun(None) == pytest.approx(0.3) and begun(True) == pytest.approx(0.0092, abs=1e-4)


@dataclasses.dataclass(frozen=True)
class Noted:
    """A denoiser that notes the times it is asked for."""

    denoiser: Denoiser
    asked: list[float]

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.asked.append(t[0].item())
        return self.denoiser(x_t, t)
