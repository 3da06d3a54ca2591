"""The forecast of a job's memory, and of what is done if it does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psutil
import pytest

from diffstudio.models.detection.types import Layout, Role
from diffstudio.models.memory.estimate import decoding_bytes, estimate, sampling_bytes
from diffstudio.models.memory.limits import dtype_name
from diffstudio.studio.jobs.memory_forecast import DeviceMemory, MemoryForecast, MemoryQuery, forecast
from diffstudio.studio.requests import GenerateRequest
from tests.studio.a_studio import REQUEST, Studio
from tests.ui.samples import checkpoint

SD1 = checkpoint("sd1", family="sd1", width=512, height=512, parameters=1_066_000_000, metadata={})
FLUX = checkpoint(
    "flux",
    family="flux",
    width=1024,
    height=1024,
    parameters=12_000_000_000,
    metadata={},
    size_bytes=7_000_000_000,
    layout=Layout.GGUF,
)
NET = checkpoint("net", family="sd1", role=Role.CONTROLNET, parameters=361_000_000, metadata={})
GIB = 2**30


def forecast_of(memory: DeviceMemory, model: Any = SD1, controls: Any = (), **asked: Any) -> MemoryForecast:
    return forecast(MemoryQuery(GenerateRequest(**asked), model, controls), memory)


def test_it_adds_up() -> None:
    cpu, card = DeviceMemory("cpu", 32 * GIB, 24 * GIB), DeviceMemory("cuda", 24 * GIB, 22 * GIB)
    one = forecast_of(cpu)
    assert one.needed == 4 * SD1.parameters + 512 * 512 * decoding_bytes("sd1") and one.fits and not one.negligible
    assert forecast_of(card).needed == 2 * SD1.parameters + 512 * 512 * decoding_bytes("sd1", 2)
    steered = forecast_of(cpu, controls=(NET,))
    assert (
        steered.needed - one.needed == 4 * NET.parameters
    )  # while it is decoded, when most is needed, it says nothing
    assert forecast_of(cpu, width=1024, height=512).needed > one.needed
    assert forecast_of(cpu, count=4) == one  # one after the other there
    four, many = forecast_of(card, count=4), forecast_of(card, count=64)
    assert four.needed - 2 * SD1.parameters == 4 * (forecast_of(card).needed - 2 * SD1.parameters)
    assert many.needed - 2 * SD1.parameters == 8 * (forecast_of(card).needed - 2 * SD1.parameters)
    assert (dtype_name("cuda", 10), dtype_name("cuda", 10**9), dtype_name("cpu", 10**9)) == (
        "float32",
        "bfloat16",
        "float32",
    )


@pytest.mark.parametrize(("device", "size"), [("cpu", 4), ("cuda", 2)])
def test_the_weaker_model_of_autoguidance_is_loaded_too(device: str, size: int) -> None:
    memory = DeviceMemory(device, 32 * GIB, 24 * GIB)
    alone = forecast(MemoryQuery(GenerateRequest(), SD1), memory)
    guided = forecast(MemoryQuery(GenerateRequest(), SD1, weak=replace(SD1, parameters=900_000_000)), memory)
    assert guided.needed - alone.needed == size * 900_000_000


def test_a_batch_is_only_as_large_as_fits_an_accelerator() -> None:
    small = DeviceMemory("cuda", 8 * GIB, 4 * GIB)
    assert forecast_of(small, count=8).fits and forecast_of(small, count=8).needed <= 0.9 * small.free_bytes


def test_packed_weights_stay_packed_where_memory_is_short() -> None:
    assert forecast_of(DeviceMemory("cuda", 80 * GIB, 75 * GIB), FLUX).needed > 2 * FLUX.parameters
    short = forecast_of(DeviceMemory("cuda", 16 * GIB, 15 * GIB), FLUX)
    assert FLUX.size_bytes < short.needed < 2 * FLUX.parameters and short.fits


@pytest.mark.parametrize(
    ("memory", "asked", "message"),
    [
        (DeviceMemory("cuda", 6 * GIB, 3 * GIB), {"width": 1024, "height": 1024}, "decoded in tiles"),
        (DeviceMemory("cuda", 2 * GIB, 2 * GIB), {}, "offloaded to main memory and run one at a time"),
        (DeviceMemory("cpu", 4 * GIB, 3 * GIB), {}, "Close other programs"),
        (DeviceMemory("cpu", 8 * GIB, 6 * GIB), {"width": 1024, "height": 1024}, "decoded in tiles"),
        (DeviceMemory("cpu", 8 * GIB, 5 * GIB), {"width": 4096, "height": 4096}, "choose a smaller size"),
    ],
)
def test_where_it_does_not_fit_it_says_what_will_be_done(memory: DeviceMemory, asked: Any, message: str) -> None:
    assert message in forecast_of(memory, **asked).plan and not forecast_of(memory, **asked).fits


def test_a_second_pass_counts_where_it_is_larger() -> None:
    cpu = DeviceMemory("cpu", 32 * GIB, 24 * GIB)
    assert forecast_of(cpu, enlarge=2.0).needed == forecast_of(cpu, width=1024, height=1024).needed
    assert (
        forecast_of(cpu, enlarge=2.0, tiled=True) == forecast_of(cpu) == forecast_of(cpu, enlarge=4.0)
    )  # whose tiles have the training size
    assert sampling_bytes("sd1") < decoding_bytes("sd1")


def test_next_to_nothing_is_not_worth_a_word() -> None:
    starter = checkpoint()
    assert forecast_of(DeviceMemory("cpu", 32 * GIB, 24 * GIB), starter).negligible
    assert not forecast_of(DeviceMemory("cpu", 32 * GIB, 24 * GIB), replace(starter, parameters=10**9)).negligible


def test_the_worker_knows_its_memory(studio: Studio) -> None:
    before = studio.worker.device_memory()
    assert before is not None and before.device_type == "cpu" and before.total_bytes == psutil.virtual_memory().total
    studio.done(REQUEST)
    after = studio.worker.device_memory()
    assert after is not None and after.device_type == "cpu" and 0 < after.free_bytes < after.total_bytes
    kept = studio.worker._loader.cache.weights_bytes()
    assert kept > 0 and studio.worker._loader._cached_bytes == kept
    studio.worker.settings = replace(studio.worker.settings, device="nonsense")
    assert studio.worker.device_memory() is None


def test_what_steers_is_counted_as_large_as_it_is() -> None:
    """What a ControlNet of Stable Diffusion 1 says to all levels, on the meta device, which holds no numbers."""
    import torch
    from diffusers import ControlNetModel

    with torch.device("meta"), torch.no_grad():
        network = ControlNetModel(cross_attention_dim=768)
        down, middle = network(
            torch.empty(2, 4, 64, 64),
            torch.empty(2),
            torch.empty(2, 77, 768),
            torch.empty(2, 3, 512, 512),
            return_dict=False,
        )
    message = sum(one.nbytes for one in down) + middle.nbytes
    one, steered = (estimate(SD1, 512, 512, 1, "float32", controls) for controls in ((), (NET,)))
    assert steered.sampling - one.sampling == message
    assert abs(steered.weights - one.weights - sum(4 * weight.numel() for weight in network.parameters())) < 2_000_000
