"""Images restored with the starter, and with a model of white noise, whose posterior mean is known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diffstudio import paths
from diffstudio.diffusion.denoiser import alpha_sigma
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.errors import BadRequest, CheckpointDamaged, Interrupted, RunProblem
from diffstudio.models import loading
from diffstudio.models.library.library import Library
from diffstudio.models.output_format import OutputFormat
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.restore.blending import blended_png
from diffstudio.studio.evaluations.restore.request import RestoreRequest, RestoreTask, task_of
from diffstudio.studio.evaluations.restore.restore import (
    STARTER_FILLS,
    _notes,
    check_restores,
    restore,
    restoring_checkpoint,
)
from diffstudio.studio.evaluations.restore.restorer import LEVEL
from diffstudio.studio.evaluations.restore.result import RestoreResult
from diffstudio.studio.prompts.prompt_notes import PROMPT_NOT_USED
from diffstudio.training.recipe.data_recipe import RangesRecipe
from tests.studio.evaluations.likelihood.test_autoencoder import write_vae
from tests.studio.evaluations.small_models import RECIPE as SMALL
from tests.studio.evaluations.small_models import write_checkpoint

MEAN, VARIANCE = 0.1, 0.04


@dataclass
class WhiteModel:
    """A model of independent normal values: its denoiser is exact, and knows nothing of neighbours."""

    output: OutputFormat = field(default_factory=OutputFormat)
    schedule: RectifiedFlow = field(default_factory=RectifiedFlow)
    device: torch.device = torch.device("cpu")
    default_size: tuple[int, int] = (16, 16)
    network_size: tuple[int, int] = (16, 16)
    multiple: int = 8
    is_latent: bool = False
    shapes: list[torch.Size] = field(default_factory=list)
    prompts: list[tuple[str, float]] = field(default_factory=list)

    def prompt_encoder(self, clip_skip: int | None) -> Any:
        return lambda texts: texts

    def denoiser(self, texts: Any, guidance: float) -> Any:
        self.prompts.append((texts.positive[0][0], guidance))

        def call(x_t: Tensor, t: Tensor) -> Tensor:
            self.shapes.append(x_t.shape)
            alpha, sigma = alpha_sigma(self.schedule, t, x_t)
            gain = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
            return MEAN + gain * (x_t - alpha * MEAN)

        return call


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> WhiteModel:
    made = WhiteModel()
    monkeypatch.setattr(loading, "load", lambda *args: made)
    return made


def write(path: Path, values: NDArray[np.float64]) -> Path:
    """Values [H,W,C] in [-1,1] as a PNG of 8 bits."""
    levels = np.rint((values.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(path)
    return path


def noise(*shape: int, variance: float = VARIANCE) -> NDArray[np.float64]:
    return MEAN + variance**0.5 * np.random.default_rng(0).normal(size=shape)


def read(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(image, np.float64) / 127.5 - 1


def run(images: Path, out: Path, task: RestoreTask = RestoreTask.DENOISE, **options: Any) -> RestoreResult:
    request = RestoreRequest("starter", images, task, out, device="cpu", **options)
    return restore(request, Library())


def test_denoising_gives_the_posterior_mean_in_the_size_and_colours_of_the_file(
    model: WhiteModel, tmp_path: Path
) -> None:
    file = write(tmp_path / "noisy.png", noise(20, 37, 3, variance=VARIANCE + (25 * LEVEL) ** 2))
    result = run(file, tmp_path / "out", noise=25, mean_only=True)
    assert result.notes == []  # the starter's side is 64 px
    gain = VARIANCE / (VARIANCE + (25 * LEVEL) ** 2)
    expected = MEAN + gain * (read(file) - MEAN)
    found = read(tmp_path / "out" / result.images[0].restored)
    assert found.shape == (20, 37, 3) and np.abs(found - expected).max() < 1.01 * LEVEL
    assert result.images[0].noise == 25 and not result.images[0].estimated and result.images[0].sample == ""
    assert {shape[-2:] for shape in model.shapes} == {(16, 16)}  # tiles of the training size
    assert model.prompts == [("", 0.0)]


def test_a_grey_image_counts_as_the_mean_of_three_colours(model: WhiteModel, tmp_path: Path) -> None:
    """One value with noise s is as good as three with noise 3^(1/2) s: their mean has the same noise."""
    file = write(tmp_path / "grey.png", noise(16, 16, 1, variance=VARIANCE / 3 + (10 * LEVEL) ** 2))
    result = run(file, tmp_path / "out", noise=10, mean_only=True, prompt="x")
    gain = VARIANCE / (VARIANCE + 3 * (10 * LEVEL) ** 2)
    found = read(tmp_path / "out" / result.images[0].mean)
    assert found.shape == (16, 16)
    assert np.abs(found - (MEAN + gain * (read(file) - MEAN))).max() < 1.5 * LEVEL
    assert model.prompts == [("x", 1.0)]


def test_a_model_of_grey_images_restores_each_colour(model: WhiteModel, tmp_path: Path) -> None:
    model.output = OutputFormat(1)
    file = write(tmp_path / "colours.png", noise(16, 16, 3, variance=VARIANCE + (25 * LEVEL) ** 2))
    result = run(file, tmp_path / "out", noise=25, steps=4, share=1)
    assert {shape[:2] for shape in model.shapes} == {(3, 1)}
    gain = VARIANCE / (VARIANCE + (25 * LEVEL) ** 2)
    mean, sample = (read(tmp_path / "out" / part) for part in (result.images[0].mean, result.images[0].sample))
    assert np.abs(mean - (MEAN + gain * (read(file) - MEAN))).max() < 1.01 * LEVEL
    assert (sample - mean).std() == pytest.approx((gain * (25 * LEVEL) ** 2) ** 0.5, rel=0.2)
    assert np.array_equal(sample, read(tmp_path / "out" / result.images[0].restored))


def test_without_noise_nothing_changes_and_it_is_said(model: WhiteModel, tmp_path: Path) -> None:
    file = write(tmp_path / "flat.png", np.full((16, 16, 3), 0.2))
    result = run(file, tmp_path / "out")
    assert np.array_equal(read(tmp_path / "out" / result.images[0].restored), read(file)[..., 0])  # it is grey
    assert any("flat.png: no noise was found" in note for note in result.notes)
    assert (result.images[0].noise, result.images[0].estimated) == (0, True)
    told = run(file, tmp_path / "told", noise=0.25)
    assert any("flat.png: noise of 0.25 of 255 is less than the rounding" in note for note in told.notes)
    assert (told.images[0].noise, told.images[0].estimated) == (0.25, False)


def test_what_holds_for_many_images_is_said_once(model: WhiteModel, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for name in "abcde":
        write(tmp_path / "flat" / f"{name}.png", np.full((16, 16, 3), 0.2))
    notes = run(tmp_path / "flat", tmp_path / "out").notes
    assert [note.partition(":")[0] for note in notes] == ["a.png, b.png, c.png and 2 more"]


@pytest.mark.parametrize("task", [RestoreTask.DENOISE, RestoreTask.DEBLUR])
def test_a_model_that_gives_nan_is_refused(
    model: WhiteModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: RestoreTask
) -> None:
    """As pixels, NaN values would be an image like any other."""
    monkeypatch.setattr(model, "denoiser", lambda texts, guidance: lambda x_t, t: x_t * float("nan"))
    with pytest.raises(CheckpointDamaged, match=r"starter cannot restore images: it gives NaN or infinite"):
        run(write(tmp_path / "a.png", noise(16, 16, 3)), tmp_path / "out", task)


def test_super_resolution_keeps_the_means_of_squares_and_opacity(model: WhiteModel, tmp_path: Path) -> None:
    file = tmp_path / "small.png"
    levels = np.rint((noise(6, 9, 4).clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    levels[..., 3] = 255
    levels[0, 0, 3] = 128
    Image.fromarray(levels).save(file)
    result = run(file, tmp_path / "out", RestoreTask.SUPER_RESOLUTION, scale=3, draws=1, steps=12)
    assert (result.images[0].width, result.images[0].height) == (27, 18)
    with Image.open(tmp_path / "out" / result.images[0].restored) as image:
        found = np.asarray(image, np.float64)
    assert found.shape == (18, 27, 4)
    means = found[..., :3].reshape(6, 3, 9, 3, 3).mean((1, 3))
    assert np.abs(means - levels[..., :3])[1:, 2:].max() < 3
    assert found[1, 1, 3] < 200 < found[-1, -1, 3]


def test_deblurring_estimates_the_noise_and_draws_as_often_as_asked(model: WhiteModel, tmp_path: Path) -> None:
    file = write(tmp_path / "blurred.png", noise(16, 16, 3))
    result = run(file, tmp_path / "out", RestoreTask.DEBLUR, blur=0.8, draws=3, steps=2)
    assert result.images[0].estimated and result.images[0].noise == pytest.approx(0.2 / LEVEL, rel=0.15)
    assert {shape[0] for shape in model.shapes} == {3} and len(model.shapes) == 2
    assert result.settings == {"steps": 2, "seed": 0, "blur in px": 0.8, "draws": 3}


def test_inpainting_keeps_what_is_known_and_fills_the_rest(model: WhiteModel, tmp_path: Path) -> None:
    file = write(tmp_path / "holed.png", noise(16, 20, 3))
    mask = np.zeros((16, 20), np.uint8)
    mask[4:9, 5:12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    result = run(file, tmp_path / "out", RestoreTask.INPAINT, mask=tmp_path / "mask.png", draws=8, steps=12)
    found = read(tmp_path / "out" / result.images[0].restored)
    assert np.array_equal(found[mask == 0], read(file)[mask == 0])
    assert result.notes == [STARTER_FILLS]
    filled = found[mask == 255]
    assert filled.mean() == pytest.approx(MEAN, abs=0.03) and filled.std() == pytest.approx(
        (VARIANCE / 8) ** 0.5, rel=0.25
    )


def test_transparent_pixels_are_filled_without_a_mask(model: WhiteModel, tmp_path: Path) -> None:
    levels = np.full((16, 16, 4), 255, np.uint8)
    levels[4:8, 4:8, 3] = 0
    Image.fromarray(levels).save(tmp_path / "holed.png")
    result = run(tmp_path / "holed.png", tmp_path / "out", RestoreTask.INPAINT, draws=1, steps=2)
    with Image.open(tmp_path / "out" / result.images[0].restored) as image:
        assert image.mode == "L" or image.mode == "RGB"  # nothing is transparent any more


def test_a_folder_with_a_folder_of_masks(model: WhiteModel, tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    (images / "more").mkdir(parents=True)
    write(images / "more" / "c.png", noise(16, 16, 3))
    masks.mkdir()
    mask = np.zeros((16, 16, 1)) - 1
    mask[2:5, 2:5] = 1
    for name in ("a.png", "b.png"):
        write(images / name, noise(16, 16, 3))
        write(masks / name, mask)
    seen: list[tuple[str, int, int]] = []
    request = RestoreRequest(
        "starter", images, RestoreTask.INPAINT, tmp_path / "out", mask=masks, draws=1, steps=3, device="cpu"
    )
    result = restore(request, Library(), on_progress=lambda *what: seen.append(what))
    assert [image.name for image in result.images] == ["a", "b"]
    last = [each for each in seen if each[0].startswith("Restoring b.png, image 2 of 2")]
    assert [done for _, done, _ in last] == [0, 1, 2] and last[-1][2] == 3  # calls, of all
    stored = json.loads((tmp_path / "out" / "restore.json").read_text())
    assert RestoreResult.from_json(stored).to_json() == stored == result.to_json()
    assert "restored/b.png  16 × 16 px" in result.text() and result.notes == [
        "Subfolders of images were not restored: more.",
        STARTER_FILLS,
    ]
    with pytest.raises(RunProblem, match="format 99"):
        RestoreResult.from_json(stored | {"format": 99})
    (masks / "b.png").unlink()
    with pytest.raises(BadRequest, match=r"There is no mask for b.png"):
        restore(replace(request, out=tmp_path / "other"), Library())
    with pytest.raises(BadRequest, match="inside the folder of images"):
        restore(replace(request, out=images / "out"), Library())
    with pytest.raises(Interrupted):
        restore(replace(request, mask=None), Library(), cancelled=lambda: True)


def test_each_image_has_the_mask_of_its_whole_name(model: WhiteModel, tmp_path: Path) -> None:
    """The first of those without the ending was used for both: what was filled is now where each mask is white."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for column, name in enumerate(("n.bmp", "n.png")):
        write(images / name, noise(16, 16, 3))
        mask = np.zeros((16, 16, 1)) - 1
        mask[:, 8 * column : 8 * column + 3] = 1
        write(masks / name, mask)
    request = RestoreRequest(
        "starter", images, RestoreTask.INPAINT, tmp_path / "out", mask=masks, draws=1, steps=2, device="cpu"
    )
    for column, image in enumerate(restore(request, Library()).images):
        changed = (read(tmp_path / "out" / image.restored) != read(Path(image.source))).any(axis=(0, 2))
        assert changed.nonzero()[0].tolist() == [8 * column + offset for offset in range(3)]
    (masks / "n.bmp").rename(masks / "n.gif")
    (masks / "n.png").rename(masks / "n.webp")
    with pytest.raises(
        BadRequest, match=r"which mask belongs to n.bmp: n.gif, n.webp in .* may belong to n.bmp, n.png"
    ):
        restore(request, Library())


def test_what_is_larger_than_the_training_images_is_said_to_be_tiled(model: WhiteModel, tmp_path: Path) -> None:
    file = write(tmp_path / "wide.png", noise(8, 65, 3))
    (note,) = run(file, tmp_path / "out", noise=25, mean_only=True).notes
    assert "overlapping tiles of 64 px" in note


def test_the_starter_denoises_an_image_of_its_kind(tmp_path: Path) -> None:
    """A cell of its sheet, with noise of 40: the mean gains 6 dB and more, the sample less."""
    with Image.open(paths.resources() / "starter" / "sheet.png") as sheet:
        clean = np.asarray(sheet.convert("RGB").crop((0, 0, 128, 128)).resize((64, 64)), np.float64) / 127.5 - 1
    noisy = clean + 40 * LEVEL * np.random.default_rng(1).normal(size=clean.shape)
    file = write(tmp_path / "noisy.png", noisy)
    result = run(file, tmp_path / "out", steps=6)

    def error(path: Path) -> float:
        return float(((read(path) - clean) ** 2).mean())

    mean, sample = (error(tmp_path / "out" / part) for part in (result.images[0].mean, result.images[0].sample))
    assert result.images[0].noise == pytest.approx(40, rel=0.3)
    assert mean < 0.25 * error(file) and mean < sample < error(file)


def test_models_that_cannot_restore_are_refused_with_the_reason(tmp_path: Path) -> None:
    vae = write_vae(tmp_path / "vae.safetensors")
    with pytest.raises(BadRequest, match="generates each image in one network call"):
        restoring_checkpoint(str(vae), Library())
    pixel = write_checkpoint(tmp_path / "run" / "checkpoints" / "latest.safetensors")
    assert restoring_checkpoint(str(pixel), Library()).family == "pixel"
    library = Library()
    for family, why in (
        ("sd1", "latents of a VAE"),
        ("diffusers", "diffusers pipeline"),
        ("unknown", "not a diffusion"),
    ):
        record = replace(library.find(pixel), family=family)

        class Found(Library):
            def find(self, name: object, record: Any = record) -> Any:
                return record

        with pytest.raises(BadRequest, match=why):
            restoring_checkpoint("x", Found())
    assert restoring_checkpoint(str(tmp_path / "run"), library).path.name == "latest.safetensors"
    for output, why in ((OutputFormat(4, alpha=True), "transparency"), (OutputFormat(5), "arrays of 5 channels")):
        with pytest.raises(BadRequest, match=why):
            check_restores(WhiteModel(output), "it")  # type: ignore[arg-type]
    check_restores(WhiteModel(OutputFormat(1)), "it")  # type: ignore[arg-type]


def test_requests_that_cannot_be_are_refused() -> None:
    for options, why in (
        ({"share": float("nan")}, "share of the sample is nan"),
        ({"noise": 300}, "noise is 300"),
        ({"scale": 1}, "scale is 1"),
        ({"mask": Path("m.png")}, "A mask was given"),
        ({"mean_only": True, "share": 0.5}, "its share is above 0"),
        ({"mean_only": True, "task": RestoreTask.DEBLUR}, "one of samples"),
    ):
        with pytest.raises(BadRequest, match=why):
            RestoreRequest("x", Path("y"), options.pop("task", RestoreTask.DENOISE), Path("z"), **options)  # type: ignore[arg-type]
    assert task_of("deblur") is RestoreTask.DEBLUR
    with pytest.raises(BadRequest, match="no task called 'sharpen'"):
        task_of("sharpen")


def test_an_image_that_cannot_be_restored_is_left_out_and_named(model: WhiteModel, tmp_path: Path) -> None:
    (folder := tmp_path / "images").mkdir()
    write(folder / "b.png", noise(16, 16, 3))
    write(folder / "c.png", noise(16, 16, 3))
    (folder / "a.png").write_bytes((folder / "c.png").read_bytes()[:90])
    request = RestoreRequest("starter", folder, RestoreTask.DENOISE, tmp_path / "out", mean_only=True, device="cpu")
    result = restore(request, Library())
    assert [image.name for image in result.images] == ["b", "c"]
    assert not any("tiles" in note for note in result.notes)
    larger = [replace(result.images[0], width=256)]
    two_levels = _notes(Library().find("four-styles"), RestoreTask.DENOISE, larger)
    assert [note.endswith("the first network of four-styles was trained at.") for note in two_levels] == [True]
    (one_level,) = _notes(Library().find("starter"), RestoreTask.DENOISE, larger)
    assert one_level.endswith("tiles of 64 px, the size that starter was trained at.")
    assert any("a.png was left out" in note and "cannot be read" in note for note in result.notes)
    with pytest.raises(BadRequest, match="nothing to fill in b.png"):
        restore(replace(request, images=folder / "b.png", task=RestoreTask.INPAINT, mean_only=False), Library())


def test_what_the_result_does_not_keep_is_in_its_notes(model: WhiteModel, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((16, 16), level, np.uint8)) for level in (90, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    result = run(tmp_path / "film.gif", tmp_path / "out", noise=25, mean_only=True)
    assert "film.gif: only its first frame is used." in result.notes


@pytest.mark.parametrize("kind", ["uint16", "floating"])
def test_images_are_read_and_written_in_the_units_of_the_training_images(
    model: WhiteModel, tmp_path: Path, kind: str
) -> None:
    """Of 12 bits 4,095 is white. It was 65,535, so that a restored image was up to 16 times as bright."""
    ranges = RangesRecipe(uint16=(0.0, 4095.0)) if kind == "uint16" else RangesRecipe(floating=(-1000.0, 3000.0))
    recipe = replace(SMALL, data=replace(SMALL.data, channels=1, bits=16, ranges=ranges))
    checkpoint = write_checkpoint(tmp_path / "deep.safetensors", Conditioning.NONE, recipe=recipe)
    model.output = recipe.data.output
    level = 25 * LEVEL
    clean = np.clip(noise(16, 16, 1), -1, 1)[..., 0]
    noisy = np.clip(clean + level * np.random.default_rng(1).normal(size=clean.shape), -1, 1)
    if kind == "uint16":
        file = tmp_path / "noisy.png"
        file.write_bytes(imagecodecs.png_encode(np.rint((noisy + 1) / 2 * 4095).astype(np.uint16)))
    else:
        file = tmp_path / "noisy.tif"
        tifffile.imwrite(file, (-1000 + (noisy + 1) / 2 * 4000).astype(np.float32))
    result = restore(
        RestoreRequest(str(checkpoint), file, RestoreTask.DENOISE, tmp_path / "out", noise=25, device="cpu", share=1.0),
        Library(),
    )
    gain = VARIANCE / (VARIANCE + level**2)
    largest = 4095 if kind == "uint16" else 65535
    found = imagecodecs.png_decode((tmp_path / "out" / result.images[0].mean).read_bytes()) / largest * 2 - 1
    assert np.abs(found - (MEAN + gain * (noisy - MEAN))).max() < 2e-3
    saved = "its floating-point values are saved as a 16-bit PNG: -1000 becomes 0 and 3000 becomes 65535"
    assert result.notes == ([] if kind == "uint16" else [f"noisy.tif: {saved}."])
    both = [tmp_path / "out" / part for part in (result.images[0].mean, result.images[0].sample)]
    blended = imagecodecs.png_decode(blended_png(*both, 0.5)).astype(int)
    ends = [imagecodecs.png_decode(path.read_bytes()).astype(int) for path in both]
    assert np.abs(2 * blended - sum(ends)).max() <= 2


def test_the_note_on_filled_areas_has_the_figures_of_the_manual() -> None:
    manual = (paths.resources() / "manual" / "restore.md").read_text(encoding="utf-8")
    row = next(line for line in manual.splitlines() if line.startswith("| a ninth in the middle missing"))
    classical, mean, sample = (cell.split()[-1] for cell in row.split("|")[3:6])
    figures = (
        f"the mean had a PSNR of {mean} dB and a sample {sample} dB; a smooth filling from the edges had {classical} dB"
    )
    assert figures in STARTER_FILLS


def test_an_unconditional_model_says_that_it_does_not_use_the_prompt(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "none.safetensors", Conditioning.NONE)
    write_checkpoint(tmp_path / "class.safetensors")
    file = write(tmp_path / "noisy.png", noise(16, 16, 3))

    def notes(name: str, prompt: str) -> object:
        request = RestoreRequest(
            str(tmp_path / name), file, RestoreTask.DENOISE, tmp_path / "out", noise=9.0, mean_only=True, prompt=prompt
        )
        return restore(replace(request, device="cpu"), Library()).notes

    assert notes("none.safetensors", "red") == [PROMPT_NOT_USED]
    assert notes("none.safetensors", "") == notes("class.safetensors", "red") == []
