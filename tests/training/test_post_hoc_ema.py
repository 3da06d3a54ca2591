"""The snapshots of a run, and the checkpoints that are rebuilt from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from diffstudio import paths
from diffstudio.cli import main
from diffstudio.errors import BadRequest, Interrupted, RunProblem
from diffstudio.models.families import pixel, pixel_file
from diffstudio.models.library.records import read_checkpoint
from diffstudio.studio.evaluations.averages import Averages, read_averages
from diffstudio.studio.evaluations.job_folder import JobFolder, JobRequest
from diffstudio.studio.evaluations.jobs import JobStatus, LabJobs
from diffstudio.training.distributed.team import ALONE
from diffstudio.training.loop import train
from diffstudio.training.post_hoc_ema import averaged_run, held_out_losses, write_checkpoint
from diffstudio.training.power_ema import LENGTHS, snapshot_steps
from diffstudio.training.recipe import Recipe
from diffstudio.training.recipe.objective_recipe import ObjectiveName
from diffstudio.training.recipe.optimiser_recipe import OptimiserName
from diffstudio.training.run.run_folder import Command, RunFolder
from diffstudio.training.trainer import Trainer

STEPS, SNAPSHOTS = 12, 4


@pytest.fixture
def run(tmp_path: Path, folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Twelve steps with a snapshot every three."""
    monkeypatch.setenv("DIFFSTUDIO_HOME", str(tmp_path / "home"))
    recipe = replace(
        recipe,
        data=replace(recipe.data, held_out=0.2),
        run=replace(recipe.run, steps=STEPS, ema_snapshots=SNAPSHOTS, sample_count=2, sample_every=STEPS),
    )
    recipe.write(tmp_path / "recipe.toml")
    return train(tmp_path / "a run", folder, recipe=str(tmp_path / "recipe.toml"))


def test_a_run_stores_snapshots_of_its_averages_and_other_lengths_are_rebuilt(run: RunFolder, tmp_path: Path) -> None:
    assert snapshot_steps(run.ema_folder) == [3, 6, 9, 12]
    of = averaged_run(run.path)
    assert of.step == STEPS
    state = torch.load(run.state_file, weights_only=True)
    assert set(state["power_averages"]) == {"0.05", "0.1"}
    path = write_checkpoint(of, LENGTHS[1], tmp_path / "models" / "rebuilt.safetensors")
    followed = state["power_averages"]["0.1"]
    tensors = safetensors.torch.load_file(path)
    assert tensors.keys() == followed.keys()
    for name, expected in followed.items():
        torch.testing.assert_close(tensors[name].float(), expected, rtol=2e-3, atol=2e-4)
    checkpoint = read_checkpoint(path)
    assert checkpoint.json("run")["ema_length"] == 0.1 and checkpoint.title == "a run, EMA 0.1"
    loaded, original = pixel_file.load(checkpoint), pixel_file.load(run.checkpoint(STEPS))
    assert loaded.tokenizer is not None and original.tokenizer is not None
    assert loaded.tokenizer.to_json() == original.tokenizer.to_json() and loaded.guidance == original.guidance
    pixel.load(checkpoint, torch.device("cpu"), torch.float32)
    with pytest.raises(BadRequest, match="already a file"):
        write_checkpoint(of, 0.1, path)
    for length in (0.0, 0.3, float("nan")):
        with pytest.raises(BadRequest, match="must be between"):
            write_checkpoint(of, length, tmp_path / "x.safetensors")


def test_the_best_length_is_that_with_the_lowest_held_out_loss(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = averaged_run(run.path)
    losses = dict(held_out_losses(of, (0.02, 0.2)))
    assert losses[0.02] < losses[0.2]  # twelve steps: the average is behind
    assert main(["models", "ema", str(run.path), "--best", "--out", str(tmp_path / "best.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "averages at step 12" in said and "the lowest" in said
    shortest = write_checkpoint(of, 0.01, tmp_path / "shortest.safetensors")
    best = [safetensors.torch.load_file(one) for one in (tmp_path / "best.safetensors", shortest)]
    lowest = next(line for line in said.splitlines() if line.endswith("the lowest"))
    assert float(lowest.split()[0]) == read_checkpoint(tmp_path / "best.safetensors").json("run")["ema_length"]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0]) is lowest.strip().startswith("0.01 ")
    with pytest.raises(Interrupted):
        list(held_out_losses(of, (0.02, 0.2), lambda: True))


def test_a_checkpoint_of_the_run_stands_for_its_step(run: RunFolder, tmp_path: Path) -> None:
    earlier = sorted((run.path / "checkpoints").glob("[0-9]*.safetensors"))[0]
    step = int(earlier.stem)
    assert averaged_run(earlier).step == max(one for one in snapshot_steps(run.ema_folder) if one <= step)
    assert averaged_run(run.latest_checkpoint).step == STEPS


def test_resumed_and_gone_back_runs_have_no_snapshots_of_later_steps(run: RunFolder) -> None:
    """Those after the step that a run goes on from would be of weights that are no more."""
    stray = run.ema_folder / f"{STEPS + 5:08d}.safetensors"
    stray.write_bytes((run.ema_folder / f"{STEPS:08d}.safetensors").read_bytes())
    before = (run.ema_folder / "00000012.safetensors").read_bytes()
    train(run.path, resume=True, steps=3)
    assert snapshot_steps(run.ema_folder) == [3, 6, 9, 12, 13, 14, 15]  # four more, of which two fall on one step
    assert (run.ema_folder / "00000012.safetensors").read_bytes() == before


def test_a_resumed_run_follows_its_averages_to_the_bit(recipe: Recipe) -> None:
    from tests.training.test_trainer import batch

    recipe = replace(recipe, network=replace(recipe.network, text_tokens=4), run=replace(recipe.run, ema_snapshots=2))
    recipe = replace(recipe, data=replace(recipe.data, size=8), network=replace(recipe.network, text_tokens=4))

    def trainer(of: Recipe) -> Trainer:
        return Trainer(of, classes=0, vocabulary=300, device=torch.device("cpu"))

    straight, first, resumed = trainer(recipe), trainer(recipe), trainer(recipe)
    for step in range(4):
        straight.step(batch(step, recipe.network.conditioning))
    for step in range(2):
        first.step(batch(step, recipe.network.conditioning))
    resumed.restore(first.state())
    for step in range(2, 4):
        resumed.step(batch(step, recipe.network.conditioning))
    assert straight.powers is not None and resumed.powers is not None
    for length, average in straight.powers.state().items():
        for name, tensor in average.items():
            assert torch.equal(tensor, resumed.powers.state()[length][name])
    without = trainer(replace(recipe, run=replace(recipe.run, ema_snapshots=0)))
    assert without.powers is None and "power_averages" not in without.state()
    resumed.restore(without.state())  # of a run that did not follow them: they begin with its average
    for average in resumed.powers.state().values():
        for name, parameter in without.average.module.named_parameters():
            assert torch.equal(average[name], parameter)


def test_a_run_without_snapshots_says_so(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.ema_folder / "00000003.safetensors").write_bytes(b"damaged")
    assert main(["models", "ema", str(run.path), "--length", "0.07"]) == 1
    assert "00000003.safetensors" in capsys.readouterr().err
    for file in run.ema_folder.iterdir():
        file.unlink()
    assert main(["models", "ema", str(run.path), "--length", "0.07"]) == 1
    assert "has no averages to rebuild" in capsys.readouterr().err
    assert main(["models", "ema", str(run.path), "--length", "0.5"]) != 0
    with pytest.raises(RunProblem):
        averaged_run(tmp_path)


def test_sharded_weights_have_no_averages(recipe: Recipe) -> None:
    recipe = replace(recipe, run=replace(recipe.run, ema_snapshots=2))
    trainer = Trainer(recipe, classes=0, vocabulary=300, device=torch.device("cpu"))
    with pytest.raises(RunProblem, match="Set run.ema_snapshots to 0"):
        trainer.join(ALONE, shard=True)
    adam = replace(recipe.optimiser, name=OptimiserName.ADAM)
    gan = replace(recipe, objective=replace(recipe.objective, kind=ObjectiveName.GAN), optimiser=adam)
    assert Trainer(gan, classes=0, vocabulary=300, device=torch.device("cpu")).powers is None


def test_as_a_job_it_measures_draws_and_saves(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the window shows: the losses, the files of samples, and the checkpoint, in the folder of the job."""

    def of_job(name: str, *arguments: str) -> Averages:
        assert main(["models", "ema", str(run.path), *arguments, "--out", str(tmp_path / name)]) == 0
        (job,) = (found for found in LabJobs(tmp_path).list() if found.job.path.name == name)
        assert job.status is JobStatus.FINISHED
        return read_averages(job.job.result(job.result), tmp_path / name)

    measured = of_job("measured", "--length", "0.02", "--measure")
    expected = dict(held_out_losses(averaged_run(run.path), (0.02,)))
    assert measured == Averages(expected, 0.02) and not list(paths.checkpoints().glob("*ema*"))
    drawn = of_job("drawn", "--length", "0.2", "--samples", "2")
    assert [Path(name).name for name in drawn.samples] == ["sample-1.png", "sample-2.png"]
    for name in drawn.samples:
        with Image.open(name) as image:
            assert image.size == (16, 16) and (image.convert("L").getcolors() or [])[16:]
    JobFolder(tmp_path / "saved").path.mkdir()
    JobFolder(tmp_path / "saved").write_request(JobRequest("models", (), "saved", 1.0))  # as the window begins one
    saved = of_job("saved", "--length", "0.07")
    assert Path(saved.checkpoint) == paths.checkpoints() / "a run-ema-0.07.safetensors" and not saved.losses
    assert main(["models", "ema", str(run.path), "--length", "0.07", "--samples", "2"]) == 2
    assert main(["models", "ema", str(run.path), "--length", "0.07", "--samples", "0"]) == 2
    messages = capsys.readouterr().err
    assert "There is no folder for the samples" in messages and "The number of samples is 0" in messages


def test_a_stopped_job_leaves_no_result(run: RunFolder, tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "job")
    job.path.mkdir()
    job.send(Command.STOP)
    assert main(["models", "ema", str(run.path), "--best", "--measure", "--out", str(job.path)]) == 130
    assert not (job.path / "models.json").exists()
