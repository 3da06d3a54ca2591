"""Steps fitted to a small checkpoint: what is kept with it, what is not, and how the work ends early."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio import cli, paths
from diffstudio.errors import BadRequest, Interrupted
from diffstudio.models.fitted_steps.ladders import FittedSteps
from diffstudio.models.fitted_steps.stored import fitted_steps
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.models.recommended import recommended_for
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.fitted_steps import fitting
from diffstudio.studio.evaluations.fitted_steps.fitting import RESULT, fit_steps
from diffstudio.studio.evaluations.fitted_steps.request import FitStepsRequest
from tests.models.tiny import write_tiny_checkpoint
from tests.studio.evaluations.fitted_steps.test_result import KEPT

SMALL = FitStepsRequest("tiny", ("dpmpp_2m",), (3,), images=3, judged=2, effort=30, device="cpu")


@pytest.fixture
def tiny() -> Path:
    return write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors")


def test_what_is_closer_is_kept_with_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    shown: list[tuple[str, int, int]] = []
    request = replace(SMALL, calls=(2, 4), samplers=("euler", "heun"), recommend=4, out=tmp_path / "out")
    result = fit_steps(request, Library(), on_progress=lambda *what: shown.append(what))
    assert [(one.sampler, one.steps) for one in result.ladders] == [
        ("euler", 2),
        ("euler", 4),
        ("heun", 1),
        ("heun", 2),
    ]
    kept = [one for one in result.ladders if one.kept]
    assert kept and all(one.difference < one.usual_difference for one in kept)
    stored = fitted_steps(read_checkpoint(tiny)).ladders
    assert [one.times for one in stored] == [
        one.times for one in sorted(kept, key=lambda one: (one.sampler, one.steps))
    ]
    assert {one.guidance for one in stored} == {3.0} and {one.images for one in stored} == {3}
    if (four := next(one for one in result.ladders if one.steps == 4)).kept:
        usual = recommended_for(read_checkpoint(tiny), fitted=True)
        assert usual is not None and (usual.sampler, usual.spacing, usual.steps) == ("euler", "fitted", 4)
        assert four.times[0] == 1.0
    assert json.loads((tmp_path / "out" / RESULT).read_text())["ladders"][0]["sampler"] == "euler"
    done = [(done, total) for what, done, total in shown if total]
    assert all(0 < one <= total for one, total in done) and [one for one, _ in done] == sorted(one for one, _ in done)


def test_what_is_not_closer_is_not_kept(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the search had found something bad, which it does not."""
    monkeypatch.setattr(fitting, "refine", lambda runs, schedule, ladder, target, calls: ((1.0, 0.02, 0.01), 0.0))
    result = fit_steps(SMALL, Library())
    assert not result.ladders[0].kept and result.file == "" and any("not kept" in note for note in result.notes)
    assert fitted_steps(read_checkpoint(tiny)).ladders == ()


@pytest.mark.parametrize("conditioning", [Conditioning.CLASS, Conditioning.NONE])
def test_classes_or_no_prompt_at_all(conditioning: Conditioning) -> None:
    path = write_tiny_checkpoint(paths.checkpoints() / "tiny.safetensors", conditioning=conditioning)
    result = fit_steps(replace(SMALL, samplers=(), effort=0), Library())
    assert result.ladders[0].sampler == "dpmpp_2m"
    few = conditioning is Conditioning.NONE or len(read_checkpoint(path).classes) < 4
    assert any("too few prompts" in note for note in result.notes) == few
    assert result.judged_by_others != few


def test_fitting_and_judging_have_other_prompts(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    real = fitting.Batch.of

    def of(model: object, prompts: tuple[str, ...], count: int, seed: int, *rest: object) -> object:
        asked.append((*prompts, str(seed)))
        return real(model, prompts, count, seed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting.Batch, "of", of)
    result = fit_steps(replace(SMALL, prompts=tuple("aabcdec"), effort=0, guidance=1.0), Library())
    assert asked == [("a", "b", "c", "0"), ("d", "e", "1000")]
    assert all("too few" not in note for note in result.notes) and result.judged_by_others
    assert result.guidance == 1.0


def test_a_model_without_steps_is_refused(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    from diffstudio.models.families.pixel import PixelModel

    with monkeypatch.context() as patched:
        patched.setattr(PixelModel, "own_sampler", property(lambda self: self))
        with pytest.raises(BadRequest, match="not sampled step by step"):
            fit_steps(SMALL, Library())
    monkeypatch.setattr(PixelModel, "inpaints", True, raising=False)
    with pytest.raises(BadRequest, match="takes an image and a mask"):
        fit_steps(SMALL, Library())


def test_stopped_it_keeps_nothing(tiny: Path) -> None:
    calls: list[int] = []

    def cancelled() -> bool:
        calls.append(1)
        return len(calls) > 60

    before = tiny.read_bytes()
    with pytest.raises(Interrupted):
        fit_steps(SMALL, Library(), cancelled=cancelled)
    assert tiny.read_bytes() == before


def test_by_the_command_line(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("red apple\n\nrocket\nhouse\nstar\n")
    small = ["--images", "2", "--judged", "2", "--effort", "8", "--device", "cpu"]
    command = ["models", "fit-steps", "tiny", "--samplers", "euler", "--calls", "2", "--prompts", str(prompts), *small]
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("sampler") and "euler" in printed
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == "tiny"
    prompts.write_text("\n")
    assert cli.main(command) != 0 and "There are no prompts" in capsys.readouterr().err
    prompts.unlink()
    assert cli.main(command) != 0 and "cannot be read" in capsys.readouterr().err


def test_steps_that_cannot_be_read_are_said_to_be_replaced(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "fitted_steps", lambda checkpoint: FittedSteps(problem="too new"))
    monkeypatch.setattr(fitting._Fitting, "_away", lambda self, runs, part, ladder: float(len(set(ladder))))
    monkeypatch.setattr(fitting._Fitting, "_judge", lambda self, sampler, ladder, offered: KEPT)
    result = fit_steps(replace(SMALL, effort=0), Library())
    assert any("(too new)" in note and "replaced" in note for note in result.notes)
