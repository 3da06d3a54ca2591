"""Folders of grey, transparent, 16-bit, many-channel and oblong images: trained as they are, drawn, and saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from diffstudio.errors import ImageProblem
from diffstudio.imaging.value_range import SampleType
from diffstudio.models.families import pixel, pixel_file
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.output_format import OutputFormat, ValueType
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.events import ImageSaved, JobId, Noted
from diffstudio.studio.generation.finished_images import finished_images
from diffstudio.studio.generation.generate import generate
from diffstudio.studio.generation.init_image import InitImage, load_init_image, trained_ranges
from diffstudio.studio.generation.output_files import OutputFiles
from diffstudio.studio.generation.resolve import Resolved
from diffstudio.studio.jobs.job_context import JobContext
from diffstudio.studio.jobs.job_control import JobControl
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest
from diffstudio.studio.requests.choices import FillName
from diffstudio.training.loop import train
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, OptimiserRecipe, Recipe, RunRecipe
from diffstudio.training.run.events import RunSamples, RunStarted
from diffstudio.training.run.run_folder import RunFolder

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)

TINY = Recipe(
    name="for tests",
    data=DataRecipe(size=16, held_out=0.1),
    network=NetworkRecipe(
        conditioning=Conditioning.NONE, patch=4, margin=1, bottleneck=8, width=16, depth=1, heads=1, condition_width=16
    ),
    optimiser=OptimiserRecipe(warm_up_steps=2, ema=0.5),
    run=RunRecipe(
        steps=2,
        batch=4,
        dtype="float32",
        device="cpu",
        threads=1,
        sample_count=2,
        sample_steps=2,
        sample_sampler="euler",
    ),
)


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., RunFolder]:
    """Trains for two steps on files that `write(folder, number)` makes."""

    def run(write: Callable[[Path, int], object], count: int = 8, **data: object) -> RunFolder:
        folder = tmp_path / "images"
        folder.mkdir()
        for number in range(count):
            write(folder, number)
        replace(TINY, data=replace(TINY.data, **data)).write(tmp_path / "recipe.toml")  # type: ignore[arg-type]
        return train(tmp_path / "run", folder, recipe=str(tmp_path / "recipe.toml"), steps=2)

    return run


def of_type(run: RunFolder, event_type: type) -> list:
    return [event for event in run.events()[0] if isinstance(event, event_type)]


def loaded_of(run: RunFolder) -> pixel.PixelModel:
    return pixel.load(read_checkpoint(run.latest_checkpoint), torch.device("cpu"), torch.float32)


def test_a_grey_folder_of_16_bits(trained: Callable[..., RunFolder]) -> None:
    run = trained(lambda folder, n: Image.fromarray(RAMP[16 * n : 16 * n + 16, :16] // 16).save(folder / f"{n}.png"))
    recipe = run.recipe()
    assert (recipe.data.channels, recipe.data.bits, recipe.data.fit) == (1, 16, "crop")
    assert recipe.data.ranges.uint16 == (0.0, 4095.0)
    (started,) = of_type(run, RunStarted)
    assert "one channel, because the images are grey; 16 bits a channel, as the files have" in started.why
    model = loaded_of(run)
    assert model.output == OutputFormat(1, False, ValueType.UINT16, ((0.0, 4095.0),))
    assert model.state_shape(16, 16) == (1, 16, 16)
    assert model.network.patch_embed.proj1.weight.shape[1] == 36  # a third of the weights of three channels
    header = json.loads(read_checkpoint(run.latest_checkpoint).metadata["diffstudio.pixels"])
    assert header["limits"] == [[0.0, 4095.0]]
    with Image.open(run.path / of_type(run, RunSamples)[-1].ema) as sheet:
        assert sheet.mode == "RGB"
        assert sheet.size == (32, 16)


def drawn(run: RunFolder, tmp_path: Path, **changes: Any) -> tuple[Path, list[str]]:
    """The PNG that `generate` writes with the run's checkpoint, and its notes."""
    model = loaded_of(run)
    request = GenerateRequest(prompt="", checkpoint=str(run.latest_checkpoint), steps=2, sampler="euler", **changes)
    store = OutputFiles(str(tmp_path / "drawn.png"), request, overwrite=True)
    context = JobContext(JobId(1), store, JobControl())
    events = list(generate(request, model, Resolved(), context))
    (saved,) = [event.path for event in events if isinstance(event, ImageSaved)]
    assert metadata.read(saved).request.steps == 2
    return saved, [event.text for event in events if isinstance(event, Noted)]


def test_what_a_grey_16_bit_checkpoint_draws(trained: Callable[..., RunFolder], tmp_path: Path) -> None:
    run = trained(lambda folder, n: Image.fromarray(RAMP[16 * n : 16 * n + 16, :16]).save(folder / f"{n}.png"))
    path, notes = drawn(run, tmp_path)
    with Image.open(path) as image:
        assert image.mode == "I;16"
        assert image.size == (16, 16)
    assert notes == []
    Image.new("RGB", (20, 20), (200, 10, 10)).save(tmp_path / "red.png")
    path, notes = drawn(run, tmp_path, init=tmp_path / "red.png", strength=0.5)
    assert notes == ["red.png: its colours were converted to grey, as this checkpoint generates grey images."]
    Image.new("L", (20, 20), 255).save(tmp_path / "mask.png")
    path, _ = drawn(run, tmp_path, init=tmp_path / "red.png", mask=tmp_path / "mask.png")
    with Image.open(path) as image:
        assert image.mode == "I;16"
    path, notes = drawn(run, tmp_path, enlarge=1.5, enlarge_strength=0.5)
    assert any("bicubic" in note for note in notes)
    with Image.open(path) as image:
        assert image.mode == "I;16"
        assert image.size == (24, 24)


def test_a_12_bit_image_that_was_drawn_is_an_init_image_of_its_full_range(
    trained: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """The folder's white is 4,095, that of a drawn PNG 65,535."""
    run = trained(lambda folder, n: Image.fromarray(RAMP[16 * n : 16 * n + 16, :16] // 16).save(folder / f"{n}.png"))
    path, _ = drawn(run, tmp_path)
    with Image.open(path) as image:
        expected = np.rint(np.asarray(image) / 257)
    ranges, _ = trained_ranges(read_checkpoint(run.latest_checkpoint))
    init = load_init_image(GenerateRequest("", init=path), 16, 16, ranges)
    assert init is not None
    assert np.abs(init.init[..., 0] - expected).max() <= 1
    Image.fromarray(np.full((16, 16), 4095, np.uint16)).save(tmp_path / "scan.png")
    init = load_init_image(GenerateRequest("", init=tmp_path / "scan.png"), 16, 16, ranges)
    assert init is not None
    assert (init.init == 255).all()


def test_transparency_as_a_channel(trained: Callable[..., RunFolder], tmp_path: Path) -> None:
    def write(folder: Path, n: int) -> None:
        image = Image.new("RGBA", (16, 16), (200, 30 * n, 0, 0))
        image.paste((200, 30 * n, 0, 255), (4, 4, 12, 12))
        image.save(folder / f"{n}.png")

    run = trained(write, alpha=True)
    assert (run.recipe().data.channels, run.recipe().data.alpha) == (4, True)
    assert loaded_of(run).output == OutputFormat(4, True)
    path, _ = drawn(run, tmp_path)
    with Image.open(path) as image:
        assert image.mode == "RGBA"


def test_arrays_of_five_channels(trained: Callable[..., RunFolder], tmp_path: Path) -> None:
    def write(folder: Path, n: int) -> None:
        values = np.random.default_rng(n).uniform([0, -1, 0, 5, 0], [1, 1, 300, 9, 1], (16, 16, 5)).astype(np.float32)
        if n % 2:
            np.save(folder / f"{n}.npy", np.moveaxis(values, 2, 0))
        else:
            tifffile.imwrite(folder / f"{n}.tif", values, photometric="minisblack", planarconfig="contig")
        if n == 0:
            Image.new("RGB", (16, 16)).save(folder / "odd.png")

    run = trained(write)
    output = loaded_of(run).output
    assert (output.channels, output.values) == (5, ValueType.FLOAT32)
    assert output.limits[:2] == ((0.0, 1.0), (-1.0, 1.0))
    assert output.limits[2][1] == pytest.approx(300, abs=2)
    (started,) = of_type(run, RunStarted)
    assert "odd.png: it has 1 channel, and the network 5" in started.why
    samples = of_type(run, RunSamples)[-1]
    assert samples.channels == 5
    sheets = sorted((run.path / "samples").glob("*-ema-channel-*.png"))
    assert {sheet.stem[-1] for sheet in sheets} == {"1", "2", "3", "4", "5"}
    path, _ = drawn(run, tmp_path)
    values = tifffile.imread(path.with_suffix(".tif"))
    assert values.shape == (16, 16, 5)
    assert values.dtype == np.float32
    assert 5 <= values[..., 3].min() <= values[..., 3].max() <= 9


def test_hounsfield_units_come_back_as_floats(trained: Callable[..., RunFolder], tmp_path: Path) -> None:
    values = np.linspace(-1024, 3071, 2048, dtype=np.int16).reshape(8, 16, 16)
    run = trained(lambda folder, n: tifffile.imwrite(folder / f"{n}.tif", values[n]))
    assert loaded_of(run).output == OutputFormat(1, False, ValueType.FLOAT32, ((-1024.0, 3071.0),))
    path, _ = drawn(run, tmp_path)
    found = tifffile.imread(path.with_suffix(".tif"))
    assert found.dtype == np.float32
    assert -1024 <= found.min() < found.max() <= 3071


@pytest.mark.parametrize(("low", "high", "limits"), [(0.0, 1.004, (0.0, 1.0)), (-1.0, 1.0, (-1.0, 1.0))])
def test_floats(trained: Callable[..., RunFolder], low: float, high: float, limits: tuple[float, float]) -> None:
    values = np.linspace(low, high, 2048, dtype=np.float32).reshape(8, 16, 16)
    run = trained(lambda folder, n: tifffile.imwrite(folder / f"{n}.tif", values[n]))
    assert loaded_of(run).output.limits == (limits,)


def test_photographs_in_aspect_buckets_are_the_same_run_when_resumed(
    trained: Callable[..., RunFolder], tmp_path: Path
) -> None:
    def write(folder: Path, n: int) -> None:
        size = (30, 20) if n % 4 else (20, 30)
        Image.new("RGB", size, (16 * n, 99, 20)).save(folder / f"{n:02}.png")

    run = trained(write, 16)
    recipe = run.recipe()
    assert recipe.data.bucket_sizes == ((12, 20), (20, 12))
    checkpoint = read_checkpoint(run.latest_checkpoint)
    assert (checkpoint.width, checkpoint.height) == (20, 12)
    model = loaded_of(run)
    assert model.default_size == (20, 12)
    samples = of_type(run, RunSamples)[-1]
    assert samples.size == 20
    with Image.open(run.path / samples.ema) as sheet:
        assert sheet.size == (40, 20)
    longer = replace(recipe, run=replace(recipe.run, steps=4, checkpoint_every=2))
    longer.write(tmp_path / "longer.toml")
    whole = train(tmp_path / "whole", tmp_path / "images", recipe=str(tmp_path / "longer.toml"), steps=4)
    longer.write(run.recipe_file)
    resumed = train(run.path, resume=True)
    tensors = [pixel_file.load(one.latest_checkpoint).network.state_dict() for one in (whole, resumed)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_a_mixed_folder_names_what_it_does_not_use(trained: Callable[..., RunFolder]) -> None:
    def write(folder: Path, n: int) -> None:
        Image.new("RGB", (16, 16), (200, 9 * n, 0)).save(folder / f"{n}.png")
        if n == 0:
            Image.new("RGB", (4000, 17), (200, 9 * n, 0)).save(folder / "wide.png")
            np.save(folder / "deep.npy", np.zeros((16, 16, 7), np.float32))

    run = trained(write)
    (started,) = of_type(run, RunStarted)
    assert "left out for their channels or shape: deep.npy, wide.png" in started.why
    assert "deep.npy: it has 7 channels, and the network 3" in started.why
    assert started.images + started.held_out == 8


@pytest.mark.parametrize("only", [False, True])
def test_a_16_bit_image_keeps_its_values_outside_of_the_mask(
    trained: Callable[..., RunFolder], tmp_path: Path, only: bool
) -> None:
    run = trained(lambda folder, n: Image.fromarray(RAMP[16 * n : 16 * n + 16, :16]).save(folder / f"{n}.png"))
    ranges, _ = trained_ranges(read_checkpoint(run.latest_checkpoint))
    low, high = ranges[SampleType.UINT16]
    original = np.linspace(low, high, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(original).save(tmp_path / "scan.png")
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (4, 4, 12, 12))
    mask.save(tmp_path / "mask.png")
    path, notes = drawn(
        run, tmp_path, init=tmp_path / "scan.png", mask=tmp_path / "mask.png", masked_only=only, feather=0
    )
    assert notes == []
    with Image.open(path) as image:
        assert image.mode == "I;16"
        found = np.asarray(image).astype(np.float64)
    kept = np.asarray(mask) == 0
    in_units = low + found / 65535 * (high - low)
    assert np.abs(in_units - original)[kept].max() <= 0.5
    assert np.abs(in_units - original)[~kept].max() > 2


def test_a_transparent_image_keeps_its_opacity_outside_of_the_mask_and_a_margin_repeats_its_edge(
    trained: Callable[..., RunFolder], tmp_path: Path
) -> None:
    def write(folder: Path, n: int) -> None:
        image = Image.new("RGBA", (16, 16), (200, 30 * n, 0, 0))
        image.paste((200, 30 * n, 0, 255), (4, 4, 12, 12))
        image.save(folder / f"{n}.png")

    run = trained(write, alpha=True)
    original = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    Image.fromarray(original).save(tmp_path / "cut-out.png")
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (0, 0, 16, 8))
    mask.save(tmp_path / "mask.png")
    path, _ = drawn(run, tmp_path, init=tmp_path / "cut-out.png", mask=tmp_path / "mask.png", feather=0)
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(image)[8:], original[8:])
    path, _ = drawn(
        run,
        tmp_path,
        init=tmp_path / "cut-out.png",
        outpaint=(0, 0, 16, 0),
        width=16,
        height=16,
        masked_only=True,
        feather=0,
    )
    with Image.open(path) as image:
        assert image.size == (32, 16)
        np.testing.assert_array_equal(np.asarray(image)[:, :16], original)


def five_channels(folder: Path, n: int) -> None:
    values = np.random.default_rng(n).random((16, 16, 5), np.float32) * np.float32([1, 1, 300, 4, 2])
    np.save(folder / f"{n}.npy", values)


def array_init(run: RunFolder, **changes: Any) -> InitImage:
    found = load_init_image(GenerateRequest("", **changes), 16, 16, {}, loaded_of(run).output)
    assert found is not None
    return found


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_an_array_is_the_init_image_of_a_checkpoint_of_arrays(
    trained: Callable[..., RunFolder], tmp_path: Path, suffix: str
) -> None:
    run = trained(five_channels)
    limits = np.array(loaded_of(run).output.limits)
    original = (limits[:, 0] + np.random.default_rng(99).random((16, 16, 5)) * (limits[:, 1] - limits[:, 0])).astype(
        np.float32
    )
    init = tmp_path / f"scan{suffix}"
    np.save(init, original) if suffix == ".npy" else tifffile.imwrite(
        init, original, photometric="minisblack", planarconfig="contig"
    )
    found = array_init(run, init=init).exact_init
    assert found is not None
    level = (limits[:, 1] - limits[:, 0]) / 65535
    assert (np.abs(limits[:, 0] + found * (limits[:, 1] - limits[:, 0]) - original) <= level).all()
    path, _ = drawn(run, tmp_path, init=init, strength=0.5)
    assert tifffile.imread(path.with_suffix(".tif")).shape == (16, 16, 5)
    Image.fromarray(np.pad(np.full((16, 8), 255, np.uint8), ((0, 0), (8, 0)))).save(tmp_path / "mask.png")
    for only in (False, True):
        path, _ = drawn(run, tmp_path, init=init, mask=tmp_path / "mask.png", feather=0, masked_only=only)
        made = tifffile.imread(path.with_suffix(".tif"))
        assert (np.abs(made - original) <= level)[:, :8].all()
        assert not (np.abs(made - original) <= level)[:, 8:].all()
    path, _ = drawn(run, tmp_path, init=init, outpaint=(0, 0, 16, 0), masked_only=True, width=16, height=16, feather=0)
    assert (np.abs(tifffile.imread(path.with_suffix(".tif"))[:, :16] - original) <= level).all()


def test_a_generated_image_stands_for_the_values_beside_it(trained: Callable[..., RunFolder], tmp_path: Path) -> None:
    run = trained(five_channels)
    path, _ = drawn(run, tmp_path)
    limits = np.array(loaded_of(run).output.limits)
    found = array_init(run, init=path).exact_init
    assert found is not None
    values = limits[:, 0] + found * (limits[:, 1] - limits[:, 0])
    assert (np.abs(values - tifffile.imread(path.with_suffix(".tif"))) <= (limits[:, 1] - limits[:, 0]) / 65535).all()


def test_other_channels_than_the_checkpoint_has_are_named(trained: Callable[..., RunFolder], tmp_path: Path) -> None:
    run = trained(five_channels)
    np.save(tmp_path / "seven.npy", np.zeros((16, 16, 7), np.float32))
    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")
    with pytest.raises(ImageProblem, match=r"seven\.npy.*: it has 7 channels, not 5"):
        drawn(run, tmp_path, init=tmp_path / "seven.npy")
    with pytest.raises(ImageProblem, match=r"photo\.png.*: it is an image, not an array of 5 channels"):
        drawn(run, tmp_path, init=tmp_path / "photo.png")


@pytest.mark.parametrize("fill", FillName)
def test_what_lies_under_the_mask_of_an_array(
    trained: Callable[..., RunFolder], tmp_path: Path, fill: FillName
) -> None:
    run = trained(five_channels)
    five_channels(tmp_path, 99)
    Image.fromarray(np.pad(np.full((16, 8), 255, np.uint8), ((0, 0), (8, 0)))).save(tmp_path / "mask.png")
    plain = array_init(run, init=tmp_path / "99.npy").exact_init
    found = array_init(run, init=tmp_path / "99.npy", mask=tmp_path / "mask.png", fill=fill).exact_init
    assert plain is not None and found is not None
    np.testing.assert_allclose(found[:, :8], plain[:, :8], atol=1e-6)
    inside = found[:, 8:]
    match fill:
        case FillName.ORIGINAL:
            np.testing.assert_allclose(inside, plain[:, 8:], atol=1e-6)
        case FillName.NOTHING:
            assert np.allclose(inside, inside[0, 0]) and abs(inside[0, 0, 0] - 0.5) < 0.01
        case FillName.NOISE:
            assert inside.std() > 0.2 and not np.allclose(inside, plain[:, 8:])
        case FillName.SURROUNDINGS:
            assert inside.std() < plain.std()


@pytest.mark.parametrize("kind", ["16 bits", "floats"])
def test_a_ramp_is_an_init_image_of_all_its_values(
    trained: Callable[..., RunFolder], tmp_path: Path, kind: str
) -> None:
    """A network that changes nothing gives it back: 65,536 levels within one, floats within one of 65,535 parts."""
    ramp = RAMP if kind == "16 bits" else (RAMP.astype(np.float32) / 65535 * 4095 - 1024)

    def save(path: Path, values: np.ndarray) -> None:
        Image.fromarray(values).save(path) if kind == "16 bits" else tifffile.imwrite(path.with_suffix(".tif"), values)

    rows = np.linspace(0, 240, 8).astype(int)
    run = trained(lambda folder, n: save(folder / f"{n}.png", ramp[rows[n] : rows[n] + 16, :].reshape(64, 64)))
    save(tmp_path / "ramp.png", ramp)
    init = tmp_path / ("ramp.png" if kind == "16 bits" else "ramp.tif")
    model = loaded_of(run)
    ranges, _ = trained_ranges(read_checkpoint(run.latest_checkpoint))
    ((low, high),) = model.output.limits
    found = load_init_image(GenerateRequest("", init=init, strength=0.01), 256, 256, ranges, model.output)
    assert found is not None and found.exact_init is not None
    state = model.encode_image(torch.from_numpy(found.exact_init).permute(2, 0, 1)[None].mul(2).sub(1).float())
    (made,) = finished_images(state, model.output)
    assert made.exact is not None
    values = made.exact.values[..., 0].astype(np.float64)
    if kind == "16 bits":
        values = low + values / 65535 * (high - low)
    assert np.abs(values - ramp.clip(low, high)).max() <= (high - low) / 65535
    assert len(np.unique(values)) > 60000
