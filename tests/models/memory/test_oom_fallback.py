"""What does not fit into memory is done in smaller pieces, and what was done is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffstudio.errors import Interrupted, OutOfMemory
from diffstudio.models import loading
from diffstudio.models.families.stable_diffusion import StableDiffusion
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.memory import devices, limits, offload
from diffstudio.models.memory.estimate import decoding_bytes, estimate, sampling_bytes
from diffstudio.models.memory.oom_fallback import OutOfMemoryFallback, decode, images_at_once
from diffstudio.models.model import OffloadLevel
from tests.models import small
from tests.models.families.beside import load
from tests.models.sampled import sample
from tests.models.tiny import write_tiny_checkpoint
from tests.ui.samples import checkpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",  # diffusers, with NumPy 2
    "ignore:`Transformer2DModelOutput` is deprecated:FutureWarning",
)
CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture
def model(tmp_path: Path) -> StableDiffusion:
    small.small_sd1(tmp_path)
    return load(tmp_path, "sd1")


def even(model: StableDiffusion, count: int = 1, side: int = 48) -> Tensor:
    """States [count,C,side,side] that are alike everywhere: a group norm says of each part what it says of the whole."""
    return torch.randn(count, model.channels, side, side, generator=torch.Generator().manual_seed(1))


def fails_above(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch, pixels: int) -> list[tuple[int, ...]]:
    """Have the autoencoder run out of memory for more than so many latent pixels; the shapes that it did decode."""
    real: Callable[[Tensor], Tensor] = model._decode
    done: list[tuple[int, ...]] = []

    def decoded(latents: Tensor) -> Tensor:
        if len(latents) * latents.shape[-2] * latents.shape[-1] > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append(tuple(latents.shape))
        return real(latents)

    monkeypatch.setattr(model, "_decode", decoded)
    return done


def never() -> None:
    """Nobody stops."""


def test_what_fits_is_decoded_whole(model: StableDiffusion) -> None:
    state, notes = even(model, 2), list[str]()
    assert torch.equal(decode(model, state, notes.append, never), model.decode(state))
    assert notes == []


def test_pictures_that_do_not_fit_together_are_decoded_one_by_one(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, notes = even(model, 3), list[str]()
    whole = model.decode(state)
    done = fails_above(model, monkeypatch, 48 * 48)
    torch.testing.assert_close(decode(model, state, notes.append, never), whole, rtol=1e-3, atol=1e-3)
    assert len(done) == 3
    assert notes == ["The images were decoded one by one, because it did not fit into memory at once."]


def test_a_picture_that_does_not_fit_is_decoded_in_tiles(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, notes = even(model, 1), list[str]()
    whole = model.decode(state)
    done = fails_above(model, monkeypatch, 32 * 32)
    tiled = decode(model, state, notes.append, never)
    assert {shape[-2:] for shape in done} == {(32, 32)}
    assert len(done) == 4
    assert notes == ["The image was decoded in tiles, because it did not fit into memory at once."]
    assert tiled.shape == whole.shape
    print((tiled - whole).abs().mean() / whole.std(), (tiled - whole).abs().max() / whole.std())
    assert (tiled - whole).abs().mean() < 0.1 * whole.std()
    steps, usual = (torch.diff(image, dim=-1).abs().mean(dim=(0, 1, 2)) for image in (tiled, whole))
    print(steps.max() / usual.max())
    assert steps.max() < 1.05 * usual.max()  # no edge where two tiles meet


def test_what_will_not_fit_is_not_even_tried(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    state, notes = even(model, 1), list[str]()
    done = fails_above(model, monkeypatch, 1 << 30)
    needed = 48 * 48 * model.vae_scale_factor**2 * decoding_bytes("sd1")
    monkeypatch.setattr(devices, "free_bytes", lambda device: needed)
    decode(model, state, notes.append, never)
    assert len(done) == 4 and notes
    monkeypatch.setattr(devices, "free_bytes", lambda device: 2 * needed)
    decode(model, state, notes.append, never)
    assert len(done) == 5 and len(notes) == 1


def test_between_tiles_one_can_stop(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    done = fails_above(model, monkeypatch, 32 * 32)

    def check() -> None:
        raise Interrupted("Stopped")

    with pytest.raises(Interrupted):
        decode(model, even(model), lambda note: None, check)
    assert len(done) == 1


def test_what_fits_in_no_piece_is_raised_and_other_errors_at_once(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_above(model, monkeypatch, 1)
    with pytest.raises(torch.OutOfMemoryError):
        decode(model, even(model), lambda note: None, never)
    monkeypatch.setattr(model, "_decode", lambda latents: latents.view(7))
    with pytest.raises(RuntimeError, match="shape"):
        decode(model, even(model), lambda note: None, never)


def test_other_models_go_first_then_the_batch_is_halved(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [2, 0, 0, 0]
    worker = OutOfMemoryFallback(model, lambda: others.pop(0))
    assert worker.after_failure(4, 64, 64) == (4, "Out of memory: 2 other checkpoints were unloaded.")
    assert worker.after_failure(4, 64, 64) == (2, "Out of memory: the batch size is now 2 instead of 4.")
    assert worker.after_failure(2, 64, 64) == (1, "Out of memory: the batch size is now 1 instead of 2.")
    with pytest.raises(OutOfMemory, match="64 × 64 does not fit"):
        worker.after_failure(1, 64, 64)


def test_on_an_accelerator_modules_and_then_layers_are_offloaded(
    model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[OffloadLevel] = []

    def moved(model: StableDiffusion, level: OffloadLevel) -> None:
        model.offload_level = level
        done.append(level)

    monkeypatch.setattr(offload, "offload", moved)
    model.device = CUDA
    worker = OutOfMemoryFallback(model)
    assert "the checkpoint's modules are now offloaded" in worker.after_failure(1, 64, 64)[1]
    assert "the checkpoint's layers are now offloaded" in worker.after_failure(1, 64, 64)[1]
    with pytest.raises(OutOfMemory):
        worker.after_failure(1, 64, 64)
    assert done == [OffloadLevel.MODULES, OffloadLevel.LAYERS]


@pytest.mark.parametrize("level", [OffloadLevel.MODULES, OffloadLevel.LAYERS])
def test_an_offloaded_model_makes_the_same_picture(model: StableDiffusion, level: OffloadLevel) -> None:
    def picture() -> Tensor:
        *_, last = sample(
            model, prompts=["a red apple"], seeds=[1], width=64, height=64, steps=2, sampler="euler", guidance=5.0
        )
        return model.decode(last.x)

    before = picture()
    offload.offload(model, level)
    assert model.offload_level is level
    where = {parameter.device.type for parameter in model.network.parameters()}
    assert where == ({"meta"} if level is OffloadLevel.LAYERS else {"cpu"})
    assert torch.equal(picture(), before)
    assert model.network._hf_hook is not None and model.vae._hf_hook is not None
    offload.offload(model, OffloadLevel.NONE)
    assert {parameter.device.type for parameter in model.network.parameters()} == {"cpu"}
    assert torch.equal(picture(), before)


def test_how_far_a_model_moves_out_depends_on_the_room() -> None:
    assert limits.offload_level(5, 8, 12) is OffloadLevel.NONE
    assert limits.offload_level(5, 8, 9) is OffloadLevel.MODULES
    assert limits.offload_level(5, 8, 6) is OffloadLevel.LAYERS


def test_a_model_larger_than_the_accelerator_is_loaded_beside_it(
    model: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked, moved = offload.offload, [], []

    def load(device: torch.device) -> Any:
        asked.append(device)
        if device == CUDA and full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model

    def move(model: StableDiffusion, level: OffloadLevel, device: torch.device) -> None:
        moved.append((level, device))
        real(model, level, CPU)

    monkeypatch.setattr(offload, "offload", move)
    sizes = [
        sum(tensor.nbytes for tensor in (*part.parameters(), *part.buffers()))
        for part in (model.network, model.vae, *model.text_encoders.values())
    ]
    full = False
    for free, level in (
        (10 * sum(sizes), None),
        (3 * max(sizes) // 2 + 3, OffloadLevel.MODULES),
        (max(sizes), OffloadLevel.LAYERS),
    ):
        monkeypatch.setattr(devices, "free_bytes", lambda device, free=free: free)
        made, note = offload.load_within(load, CUDA, sum(sizes))
        assert made is model and moved[-1:] == ([] if level is None else [(level, CUDA)])
        assert ("larger than the accelerator's free memory" in note) == (level is not None)
    assert asked == [CUDA, CPU, CPU]
    monkeypatch.setattr(devices, "free_bytes", lambda device: 10 * sum(sizes))
    full = True  # by another program, say
    assert "modules are now offloaded" in offload.load_within(load, CUDA, sum(sizes))[1] and asked[-2:] == [CUDA, CPU]
    pixel = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors")), CPU)
    monkeypatch.setattr(devices, "free_bytes", lambda device: 1)
    assert offload.load_within(lambda device: pixel, CUDA, 100) == (pixel, "")


def test_batches_are_as_large_as_there_is_room(
    model: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert images_at_once(model, 512, 512) == 1  # on the processor one at a time is as fast
    model.device = CUDA
    one = 512 * 512 * sampling_bytes("sd1")
    for free, expected in ((0, 1), (3 * one, 2), (6 * one, 4), (1000 * one, 8)):
        monkeypatch.setattr(devices, "free_bytes", lambda device, free=free: free)
        assert images_at_once(model, 512, 512) == expected
    pixel = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors")), CPU)
    assert images_at_once(pixel, 64, 64) == limits.images_at_once(64, 64, "cpu", False) == 16


def test_an_estimate_adds_up() -> None:
    one = estimate(checkpoint(family="sd1", parameters=1_000_000_000), 512, 512)
    assert one.weights == 4_000_000_000
    assert one.decoding > one.sampling
    assert one.total == one.weights + one.activations == one.weights + one.decoding
    half = estimate(checkpoint(family="sd1", parameters=1_000_000_000), 512, 512, 4, "bfloat16")
    assert half.weights * 2 == one.weights
    assert half.activations == 2 * one.activations


def test_the_estimate_is_what_is_alive_in_the_real_networks() -> None:
    """Traced through Stable Diffusion's own networks on the meta device, which holds no numbers."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"), torch.no_grad():
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        unet = UNet2DConditionModel(cross_attention_dim=768)
        decoded = _alive(lambda: vae.decode(torch.empty(1, 4, 128, 128)))
        sampled = [
            _alive(lambda side=side: unet(torch.empty(2, 4, side, side), 1.0, torch.empty(2, 77, 768)))
            for side in (64, 128)
        ]
    of = estimate(checkpoint(family="sd1"), 1024, 1024)
    assert 0.9 < decoded / of.decoding < 1.1
    assert 0.9 < (sampled[1] - sampled[0]) / (of.sampling * 3 / 4) < 1.1  # the weights, seen both times, cancel out


def _alive(function: Callable[[], Any]) -> int:
    """The most bytes of tensors that are alive at once while it runs."""
    import weakref

    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Track(TorchDispatchMode):
        now = most = 0
        known: set[int] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(made):
                storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
                if storage is not None and storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
            return made

        def gone(self, storage: int, size: int) -> None:
            self.known.discard(storage)
            self.now -= size

    def attention(query: Tensor, *_: Any, **__: Any) -> Tensor:  # as fused attention: without a matrix of all pairs
        return torch.empty_like(query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "scaled_dot_product_attention", attention)
        with Track() as track:
            function()
    return track.most
