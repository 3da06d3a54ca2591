"""A filmed image is the image that the Generate room makes, and each frame says what the model was asked and said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.diffusion.noise_curve import curve_fractions
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.errors import BadRequest, CheckpointDamaged, Interrupted, RunProblem
from diffstudio.models import loading
from diffstudio.models.fitted_steps.stored import store
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.sampling import SampleOptions, sample
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.curves.saved import NamedCurve, NoiseCurve, save_curve
from diffstudio.studio.evaluations.reverse.request import ReverseRequest
from diffstudio.studio.evaluations.reverse.result import PARTS, FilmedStep, ReverseResult
from diffstudio.studio.evaluations.reverse.reverse import reverse
from diffstudio.studio.evaluations.subjects import find_checkpoint
from diffstudio.studio.generation.preview import to_images
from diffstudio.studio.prompts.prompt_notes import PROMPT_NOT_USED
from tests.models import small_files
from tests.models.fitted_steps.some_ladders import ladder
from tests.studio.evaluations.likelihood.test_autoencoder import write_vae
from tests.studio.evaluations.small_models import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "own.safetensors")


def run(checkpoint: Path, out: Path, **options: Any) -> ReverseResult:
    return reverse(ReverseRequest(str(checkpoint), out=out, **{"prompt": "red", "device": "cpu"} | options), Library())


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_image_is_the_same_to_the_bit_as_without_the_film(checkpoint: Path, tmp_path: Path) -> None:
    result = run(checkpoint, tmp_path / "out", seed=4, steps=4, sampler="heun", spacing="log_snr", guidance=2.0)
    model = loading.load(find_checkpoint(str(checkpoint), Library()), torch.device("cpu"))
    options = SampleOptions([4], 16, 16, 4, "heun", "log_snr", 2.0)
    *_, last = sample(model, model.encode_prompt("red"), options)
    assert np.array_equal(pixels(tmp_path / "out" / result.image), to_images(model.decode(last.x))[0])
    assert len(result.steps) == 4 and result.settings["sampler"] == "heun"
    assert any("CFG scale 2" in note for note in result.notes)


def test_estimate_and_noise_make_the_state_of_each_step_again(checkpoint: Path, tmp_path: Path) -> None:
    """In what is shown too, up to rounding, wherever nothing was cut off."""
    result = run(checkpoint, tmp_path / "out", steps=3, sampler="euler", spacing="uniform", guidance=1.0)
    assert [step.t for step in result.steps] == pytest.approx([1.0, 2 / 3, 1 / 3])
    assert [(step.alpha, step.sigma) for step in result.steps] == [pytest.approx((1 - s.t, s.t)) for s in result.steps]
    for step in result.steps[1:]:
        shown = {part: pixels(tmp_path / "out" / step.files[part]).astype(float) for part in PARTS}
        values = {part: level / 127.5 - 1 for part, level in shown.items()}
        inside = np.all([(level > 0) & (level < 255) for level in shown.values()], axis=0)
        scale = np.hypot(step.alpha, step.sigma)
        again = (step.alpha * values["estimate"] + step.sigma * 3 * values["noise"]) / scale
        assert inside.any() and np.abs(again - values["state"])[inside].max() < 0.04
        assert np.abs(shown["noise"] + shown["score"] - 255).max() <= 1  # the score points against the noise
    assert result.steps[0].change == 0 < result.steps[1].change
    assert result.steps[0].noise_rms == pytest.approx(1, abs=0.1)  # at first there is nothing else
    assert result.steps[1].score_rms == pytest.approx(result.steps[1].noise_rms / result.steps[1].sigma)
    assert result.notes == []


def test_the_film_has_a_frame_for_each_step_and_the_image_and_the_result_is_read_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    request = ReverseRequest(str(checkpoint), "", tmp_path / "out", steps=2, device="cpu")
    result = reverse(request, Library(), on_progress=lambda *what: seen.append(what))
    assert [each for each in seen if each[0] == "Filming"] == [("Filming", 0, 2), ("Filming", 1, 2), ("Filming", 2, 2)]
    with Image.open(tmp_path / "out" / result.film) as film:
        assert film.n_frames == 3 and film.size == (2 * 256 + 3 * 8, 256 + 2 * 8 + 26)  # type: ignore[attr-defined]
    stored = json.loads((tmp_path / "out" / "reverse.json").read_text())
    assert ReverseResult.from_json(stored).to_json() == stored == result.to_json()
    assert "log-SNR −∞" in result.text() and "film: film.gif" in result.text()
    for changes, why in (({"format": 9}, "format 9"),):
        with pytest.raises(RunProblem, match=why):
            ReverseResult.from_json(stored | changes)
    assert FilmedStep(0.5, 0.5, 0.5, 1, 2, 0, {}).log_snr == 0


def test_a_latent_model_shows_decoded_previews(tmp_path: Path) -> None:
    folder = small_files.small_folder(tmp_path / "sd1", "sd1")
    result = run(folder, tmp_path / "out", prompt="a cat", steps=2, width=64, height=64)
    assert any("latents, decoded by a linear approximation" in note for note in result.notes)
    assert len({pixels(tmp_path / "out" / result.steps[1].files[part]).tobytes() for part in PARTS}) == 4
    assert pixels(tmp_path / "out" / result.image).shape == (64, 64, 3)


def test_an_unconditional_model_has_no_guidance_and_does_not_use_the_prompt(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "none.safetensors", Conditioning.NONE)
    assert run(file, tmp_path / "out", prompt="a cat", steps=2, guidance=3.0).notes == [PROMPT_NOT_USED]
    assert run(file, tmp_path / "other", prompt=" ", steps=2, guidance=3.0).notes == []


def test_what_cannot_be_filmed_is_refused_with_the_reason(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="generates each image in one network call"):
        run(write_vae(tmp_path / "vae.safetensors"), tmp_path / "out")
    record = replace(find_checkpoint(str(checkpoint), Library()), family="diffusers")

    class Found(Library):
        def find(self, name: object) -> Any:
            return record

    with pytest.raises(BadRequest, match="runs in a diffusers pipeline"):
        reverse(ReverseRequest("x", "", tmp_path / "out"), Found())
    with pytest.raises(BadRequest, match="sampler 'hein'"):
        run(checkpoint, tmp_path / "out", sampler="hein")
    with pytest.raises(BadRequest, match="17 × 16"):
        run(checkpoint, tmp_path / "out", width=17)
    with pytest.raises(BadRequest, match="number of steps is 201"):
        ReverseRequest("x", "", tmp_path, steps=201)
    spoilt = write_checkpoint(tmp_path / "spoilt.safetensors", Conditioning.NONE, spoil=True)
    with pytest.raises(CheckpointDamaged, match="NaN or infinite"):
        run(spoilt, tmp_path / "out", prompt="")
    with pytest.raises(Interrupted):
        reverse(ReverseRequest(str(checkpoint), "", tmp_path / "out"), Library(), cancelled=lambda: True)


def test_what_the_checkpoint_cannot_do_with_the_prompt_is_said(tmp_path: Path) -> None:
    by_text = write_checkpoint(tmp_path / "text.safetensors", Conditioning.TEXT)
    result = run(by_text, tmp_path / "out", prompt="bread, (apple:1.4)", steps=2)
    assert any("so (apple:1.4) is read as text" in note for note in result.notes)


def test_the_spacings_of_generate_can_be_filmed_too(checkpoint: Path, tmp_path: Path) -> None:
    """Steps fitted to the checkpoint, and a noise schedule saved in the Lab."""
    curve = NamedCurve("drawn", NoiseCurve(((0.0, 8.0), (0.4, 1.0), (1.0, -8.0))))
    save_curve(curve)
    fractions = curve_fractions(curve.curve, RectifiedFlow(), 3)
    drawn = run(checkpoint, tmp_path / "drawn", steps=3, sampler="euler", spacing="Drawn")
    assert [step.t for step in drawn.steps] == pytest.approx(fractions)
    fitted = read_checkpoint(shutil.copy(checkpoint, tmp_path / "fitted.safetensors"))
    store(fitted, [ladder("euler", 3)])
    film = run(fitted.path, tmp_path / "film", steps=3, sampler="euler", spacing="fitted")
    assert [step.t for step in film.steps] == pytest.approx(ladder("euler", 3).times)
    with pytest.raises(BadRequest, match="No 4 steps are fitted"):
        run(fitted.path, tmp_path / "none", steps=4, sampler="euler", spacing="fitted")
    store(fitted, [ladder("heun", 2, recommended=True)])
    usual = run(fitted.path, tmp_path / "usual")
    assert [step.t for step in usual.steps] == pytest.approx(ladder("heun", 2).times)
    assert (usual.settings["sampler"], usual.settings["spacing"]) == ("heun", "fitted")  # as Generate has it
    assert run(fitted.path, tmp_path / "other", steps=4).settings["spacing"] != "fitted"
