"""VAE and GAN from a folder to an image: trained, stopped, resumed to the bit, judged, generated with, measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffstudio.errors import BadRequest, Interrupted, RunProblem
from diffstudio.models import loading
from diffstudio.models.families.one_call import OneCallModel
from diffstudio.models.library.library import Library
from diffstudio.models.library.records import read_checkpoint
from diffstudio.networks.conditioning import Conditioning
from diffstudio.studio.evaluations.samples import CheckpointSamples
from diffstudio.studio.evaluations.subjects import CheckpointSubject, find_subjects
from diffstudio.studio.events import ImageSaved, Stepped
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest, SamplerName
from diffstudio.training.evidence.evidence import Evidence
from diffstudio.training.loop import train
from diffstudio.training.objectives.objective import Diversity
from diffstudio.training.recipe import DataRecipe, NetworkRecipe, ObjectiveRecipe, OptimiserRecipe, Recipe, RunRecipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.recipe_from_checkpoint import started_from
from diffstudio.training.run.events import RunCheckpoint, RunEvent, RunFinished, RunHeldOut, RunStarted, RunStep
from diffstudio.training.run.run_folder import Command, RunFolder
from diffstudio.training.run.verdict import Outcome, verdict
from tests.studio.run_request import run_request
from tests.training.conftest import write_pictures

CPU = torch.device("cpu")
KINDS = ("vae", "gan")


def recipe(kind: str) -> Recipe:
    return Recipe(
        name=f"a small {kind}",
        data=DataRecipe(size=16, held_out=0.2, fit="crop"),
        network=NetworkRecipe(
            conditioning=Conditioning.TEXT,
            patch=4,
            width=8,
            condition_width=8,
            latent=4,
            prior_width=8,
            prior_depth=1,
            depth=1,
            vocabulary=300,
            text_tokens=6,
        ),
        objective=replace(ObjectiveRecipe(), kind=ObjectiveName(kind), diff_augment="on"),
        optimiser=OptimiserRecipe(OptimiserName.ADAM, betas=(0.0, 0.99), warm_up_steps=2, ema=0.9),
        run=RunRecipe(
            steps=6,
            batch=4,
            device="cpu",
            threads=1,
            sample_every=6,
            sample_count=2,
            checkpoint_every=3,
            held_out_every=2,
        ),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[RunFolder, RunFolder]]]:
    """By kind: a run at one go, and one that was stopped half-way and resumed."""
    base = tmp_path_factory.mktemp("vae and gan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFSTUDIO_HOME", str(base / "home"))
        folder = write_pictures(base / "pictures")
        found = {}
        for kind in KINDS:
            recipe(kind).write(base / f"{kind}.toml")
            whole = train(base / kind, folder, recipe=str(base / f"{kind}.toml"))
            stopped = base / f"{kind} stopped"

            def stop(event: RunEvent, stopped: Path = stopped) -> None:
                if isinstance(event, RunCheckpoint):
                    RunFolder(stopped).send(Command.STOP)

            train(stopped, folder, recipe=str(base / f"{kind}.toml"), on_event=stop)
            assert 0 < torch.load(RunFolder(stopped).state_file, weights_only=True)["step"] < 6
            found[kind] = whole, train(stopped, resume=True)
        yield found


def model_of(run: RunFolder) -> OneCallModel:
    model = loading.load(read_checkpoint(run.latest_checkpoint), CPU)
    assert isinstance(model, OneCallModel)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_ends_in_the_same_weights(
    runs: dict[str, tuple[RunFolder, RunFolder]], kind: str
) -> None:
    one, other = (torch.load(run.state_file, weights_only=True) for run in runs[kind])
    assert one["step"] == other["step"] == 6 and one["held_out_losses"] == other["held_out_losses"]
    assert ("others" in one) == (kind == "gan")
    states = [("network",), ("average",), *([("others", "discriminator")] if kind == "gan" else [])]
    for keys in states:
        mine, theirs = one, other
        for key in keys:
            mine, theirs = mine[key], theirs[key]
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert len(one["optimisers"]) == (2 if kind == "gan" else 1)
    for mine, theirs in zip(one["optimisers"], other["optimisers"], strict=True):
        assert all(torch.equal(mine["state"][i]["exp_avg"], theirs["state"][i]["exp_avg"]) for i in mine["state"])


@pytest.mark.parametrize("kind", KINDS)
def test_events_say_what_is_trained_and_what_was_measured(
    runs: dict[str, tuple[RunFolder, RunFolder]], kind: str
) -> None:
    events = runs[kind][0].events()[0]
    started, finished = next(event for event in events if isinstance(event, RunStarted)), events[-1]
    assert isinstance(started, RunStarted) and started.objective == kind and started.dtype == "float32"
    assert isinstance(finished, RunFinished) and finished.evidence and finished.outcome
    measured = [event for event in events if isinstance(event, RunHeldOut)]
    assert measured and all(event.levels == () and event.training_loss is not None for event in measured)
    steps = [event for event in events if isinstance(event, RunStep)]
    assert all((event.generator_loss is not None) == (kind == "gan") for event in steps) and steps
    assert any("bits per dimension" in line for line in finished.evidence) == (kind == "vae")
    about = read_checkpoint(runs[kind][0].latest_checkpoint)
    assert about.family == kind and about.json("recipe")["objective"]["kind"] == kind
    assert about.json("network")["version"] == 1 and "diffstudio.guidance" not in about.metadata


@pytest.mark.parametrize("kind", KINDS)
def test_generate_makes_each_image_in_one_step_and_records_the_truncation(
    runs: dict[str, tuple[RunFolder, RunFolder]], kind: str, tmp_path: Path
) -> None:
    model = model_of(runs[kind][0])
    with closing(Gallery(tmp_path / "images", tmp_path / "gallery.db")) as gallery:
        request = GenerateRequest("disc", checkpoint=kind, count=2, seed=3, truncation=0.7)
        events = list(run_request(request, model, gallery))
        assert [event.steps for event in events if isinstance(event, Stepped)] == [1]
    files = [event.path for event in events if isinstance(event, ImageSaved)]
    assert len(files) == 2
    read = metadata.read(files[1])
    assert isinstance(read.request, GenerateRequest) and (read.request.seed, read.request.truncation) == (4, 0.7)
    with Image.open(files[1]) as image:
        text = image.text["parameters"]
        assert "Truncation: 0.7" in text and image.size == (16, 16)
    again = metadata.request_from_parameters(text)
    assert isinstance(again, GenerateRequest) and again.truncation == 0.7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 30}, "cannot use steps"),
        ({"sampler": SamplerName.HEUN, "guidance": 5.0}, "the sampler and the CFG scale"),
        ({"enlarge": 2.0}, "enlarged image"),
        ({"width": 32, "height": 32}, "one size only"),
    ],
)
def test_what_they_cannot_do_is_refused_by_name(
    runs: dict[str, tuple[RunFolder, RunFolder]], changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    for kind in KINDS:
        request = replace(GenerateRequest("disc", checkpoint=kind), **changes)  # type: ignore[arg-type]
        with (
            closing(Gallery(tmp_path / kind, tmp_path / f"{kind}.db")) as gallery,
            pytest.raises(BadRequest, match=message),
        ):
            list(run_request(request, model_of(runs[kind][0]), gallery))


def test_an_image_to_start_from_and_a_truncation_elsewhere_are_refused(
    runs: dict[str, tuple[RunFolder, RunFolder]], tmp_path: Path
) -> None:
    from tests.models.tiny import write_tiny_checkpoint

    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with closing(Gallery(tmp_path / "images", tmp_path / "gallery.db")) as gallery:
        with pytest.raises(BadRequest, match="one network call"):
            request = GenerateRequest("disc", checkpoint="gan", init=tmp_path / "a.png")
            list(run_request(request, model_of(runs["gan"][0]), gallery))
        tiny = loading.load(read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors")), CPU)
        with pytest.raises(BadRequest, match="setting of GANs and VAEs"):
            list(run_request(GenerateRequest("disc", checkpoint="tiny", truncation=0.5), tiny, gallery))


@pytest.mark.parametrize("kind", KINDS)
def test_evaluations_sample_them_and_have_no_denoising_losses(
    runs: dict[str, tuple[RunFolder, RunFolder]], kind: str
) -> None:
    (subject,) = find_subjects((str(runs[kind][0].path),), Library(()))
    assert isinstance(subject, CheckpointSubject) and subject.recipe.objective.kind.value == kind
    samples = CheckpointSamples.load(subject, CPU, lambda: None)
    (batch,) = samples.batches(["disc", "square"], 5, (16, 16))
    assert batch.shape == (2, 16, 16, 3) and batch.dtype == np.uint8 and not samples.has_denoising_losses

    def interrupted() -> None:
        raise Interrupted("Stopped")

    with pytest.raises(Interrupted):
        list(CheckpointSamples(subject, samples.model, samples.settings, interrupted).batches(["disc"], 5, (16, 16)))


def test_diffusion_runs_do_not_start_from_them_nor_they_from_others(
    runs: dict[str, tuple[RunFolder, RunFolder]],
) -> None:
    with pytest.raises(RunProblem, match="it is a GAN"):
        started_from(Recipe(), str(runs["gan"][0].latest_checkpoint))
    with pytest.raises(RunProblem, match="trained from scratch"):
        started_from(recipe("vae"), "starter")


def evidence(diversity: Diversity, *losses: float) -> Evidence:
    return Evidence(
        step=600,
        progress=0.9,
        images=450,
        different_images=450,
        epochs=20.0,
        held_out=50,
        losses=tuple((100 * index, loss) for index, loss in enumerate(losses, 1)),
        training_loss=0.02,
        baseline=0.05,
        samples=16,
        spread=0.86,
        kind="gan",
        diversity=diversity,
    )


def test_a_collapsed_gan_is_called_collapsed_although_its_precision_is_perfect() -> None:
    """With the measures of the plain GAN on the digits (manual, Figures)."""
    by_coverage = verdict(evidence(Diversity(256, 1.0, 0.02, 0.98, 0.98, None), 0.2, 0.1, 0.08, 0.07))
    assert by_coverage.outcome is Outcome.COLLAPSED and "256 samples cover 2%" in by_coverage.sentence
    within = verdict(evidence(Diversity(256, 1.0, 0.64, 0.98, 1.0, 0.10), 0.2, 0.1, 0.08, 0.07))
    assert within.outcome is Outcome.COLLAPSED and "only 10% as diverse" in within.sentence
    assert "r3gan" in within.sentence and any("precision of 100%" in line for line in within.evidence)
    good = verdict(evidence(Diversity(256, 0.98, 0.97, 0.98, 1.0, 0.9), 0.2, 0.1, 0.04, 0.02))
    assert good.outcome is Outcome.LEARNING and "the distance to the held-out images" in good.sentence
    early = verdict(evidence(Diversity(256, 1.0, 0.02, 0.98, 0.98, 0.0), 0.2, 0.1))
    assert early.outcome is Outcome.TOO_LITTLE  # one or two measurements are too few to call anything
    assert Evidence.from_json(evidence(Diversity(1, 1.0, 1.0, 1.0, 1.0, None), 0.1).to_json()).diversity is not None
