"""Checkpointer: writes a run's state to resume from, its checkpoints to generate with, and its sample sheets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diffstudio.atomic import atomic_write, replace_with_copy
from diffstudio.diffusion.schedule import RectifiedFlow
from diffstudio.errors import Interrupted
from diffstudio.models.caption_words import count_words
from diffstudio.models.families import pixel_file
from diffstudio.models.fitted_steps.distilled import Distilled
from diffstudio.models.fitted_steps.stored import rewrite_metadata
from diffstudio.models.recommended import DEFAULTS_OF_0_1
from diffstudio.networks.autoencoder import Autoencoder
from diffstudio.networks.conditioning import Conditioning
from diffstudio.networks.gan import Generator
from diffstudio.networks.unet import PixelNetwork
from diffstudio.storage_errors import not_written
from diffstudio.training.power_ema import save_snapshot
from diffstudio.training.recipe import FewStepsRecipe, RunRecipe
from diffstudio.training.run.assessment import Assessment
from diffstudio.training.run.events import RunCheckpoint, RunSamples
from diffstudio.training.run.sample_sheets import (
    SampleSheetRenderer,
    prompts_of_folder,
    sample_prompts,
    sheet_thumbnail,
    usable_prompts,
)
from diffstudio.training.run.setup import RunContext


class Checkpointer:
    def __init__(self, context: RunContext, assessment: Assessment, classes: tuple[str, ...]) -> None:
        self._context, self._assessment, self._classes = context, assessment, classes
        self._prompts = sample_prompts(context.recipe, context.dataset)
        text = context.recipe.network.conditioning is Conditioning.TEXT
        self._captions = count_words(context.dataset.all_captions(), self._prompts) if text else None
        self._thumbnail: Image.Image | None = None
        self.samples: Tensor | None = None  # [N,C,S,S] of the last sheet, if its prompts are from all over the folder
        self.latest = str(context.run.latest_checkpoint.relative_to(context.run.path))

    def save_state(self, monitor: Mapping[str, Any], *, good: bool) -> None:
        """Write everything that resuming needs. StorageProblem when that fails.

        `good`: the run goes back to this state if it diverges.
        """
        run = self._context.run
        state = self._context.trainer.state() | {"monitor": dict(monitor)}
        write_state(run.state_file, state, "The state of the run could not be written")
        if good:
            replace_with_copy(run.state_file, run.good_state_file)

    def save_checkpoint(self, held_out_loss: float | None, *, best: bool) -> Iterator[RunCheckpoint]:
        """Write the EMA weights as the checkpoint of this step; delete old checkpoints.

        It becomes the latest checkpoint, the one to generate with, if it is the best or if there is no telling.
        """
        trainer, run, recipe = self._context.trainer, self._context.run, self._context.recipe
        path = run.checkpoint(trainer.step_number)
        network = trainer.ema_network
        trainer.objective.prepare_checkpoint(network, self._context.batches)
        assert isinstance(network, PixelNetwork | Autoencoder | Generator)
        pixel_file.save(
            path,
            network,
            title=run.name,
            tokenizer=self._context.tokenizer,
            classes=self._classes,
            schedule=RectifiedFlow().to_json(),
            recipe=recipe.to_json(),
            thumbnail=self._thumbnail,
            guidance=pixel_file.DEFAULT_GUIDANCE | {"scale": recipe.run.sample_guidance},
            distilled=_distilled(recipe.few_steps),
            sampling=_recommended_sampling(recipe.run, recipe.min_timestep),
            captions=self._captions,
            dtype=torch.float16,
            output=recipe.data.output,
            size=self._context.dataset.size,
            parameterisation=recipe.objective.parameterisation,
            run={
                "steps": trainer.step_number,
                "pictures_seen": trainer.step_number * recipe.run.batch,
                "held_out_loss": held_out_loss,
            },
        )
        best_step = self._assessment.best_step
        best_file = run.checkpoint(best_step) if best_step is not None else None
        if best or best_file is None or not best_file.is_file():
            replace_with_copy(path, run.latest_checkpoint)
            best_file = path
        for old in to_delete(
            list(path.parent.glob("[0-9]*.safetensors")), {best_file, path}, recipe.run.keep_checkpoints
        ):
            with suppress(OSError):
                old.unlink()
        yield RunCheckpoint(trainer.step_number, f"checkpoints/{path.name}", held_out_loss, best)

    def keep(self, step: int, min_timestep: float) -> None:
        """Make the checkpoint of this step the one to generate with, with this minimum timestep. StorageProblem."""
        run, recipe = self._context.run, self._context.recipe
        path = run.checkpoint(step)
        if recipe.chooses_min_timestep:
            sampling = json.dumps(_recommended_sampling(recipe.run, min_timestep))
            for file in filter(Path.is_file, (path, run.latest_checkpoint)):
                rewrite_metadata(file, {"diffstudio.sampling": sampling}, not_written(file))
        if path.is_file():  # or it is that already, kept from before the run was continued
            replace_with_copy(path, run.latest_checkpoint)

    def save_averages(self) -> None:
        """Write a snapshot of the averages of post-hoc EMA, if the run follows them. StorageProblem when that fails."""
        trainer = self._context.trainer
        if trainer.powers is not None:
            save_snapshot(self._context.run.ema_folder, trainer.step_number, trainer.powers)

    def save_samples(self, before_call: Callable[[], None]) -> Iterator[RunSamples]:
        """Write the sample sheets of the EMA weights and of the raw weights, and judge the former.

        `before_call` runs before every call of the network; nothing is yielded when it raises Interrupted.
        """
        context = self._context
        trainer, folder = context.trainer, context.run.path / "samples"
        names = {"ema": f"{trainer.step_number:08d}-ema.png", "raw": f"{trainer.step_number:08d}-raw.png"}
        side, channels = max(context.dataset.size), 0
        renderer = SampleSheetRenderer(
            context.recipe,
            trainer.objective,
            context.tokenizer,
            self._classes,
            self._sheet_prompts(),
            context.dataset.size,
        )
        drawn: dict[str, Tensor] = {}
        try:
            for name, network in (("ema", trainer.ema_network), ("raw", trainer.network)):
                drawn[name] = renderer.draw(network, before_call)
                sheet = renderer.sheet(network, drawn[name])
                sheet.write(folder / names[name])
                channels = len(sheet.channels)
                if name == "ema":
                    self._thumbnail = sheet_thumbnail(sheet.whole, side)
        except Interrupted:
            return
        usual = renderer.prompts == prompts_of_folder(context.recipe, context.dataset)
        self.samples = drawn["ema"] if usual else None
        copies = self._assessment.copies(drawn["ema"])
        yield RunSamples(
            step=trainer.step_number,
            ema=f"samples/{names['ema']}",
            raw=f"samples/{names['raw']}",
            columns=renderer.columns,
            rows=renderer.rows,
            size=side,
            prompts=renderer.prompts,
            nearest=copies.nearest if copies is not None else (),
            ratios=copies.ratios if copies is not None else (),
            copied=copies.copied if copies is not None else (),
            channels=channels,
        )

    def _sheet_prompts(self) -> tuple[str, ...]:
        """Those that were set while the run goes on, or those it started with."""
        asked = self._context.run.prompts()
        return usable_prompts(asked, self._context.recipe, self._classes) or self._prompts


def write_state(path: Path, state: Mapping[str, Any], failed: str) -> None:
    """Write tensors and numbers to resume from. StorageProblem, with `failed` as what happened."""
    with atomic_write(path, failed) as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:  # how torch's writer reports every failed write
            raise OSError("the disk is full or write-protected") from error


def to_delete(checkpoints: list[Path], kept: set[Path], others: int) -> list[Path]:
    """Which checkpoints, named by their step, to delete: all but `kept` and so many others, evenly spaced in steps."""
    remaining = sorted(path for path in checkpoints if path.stem.isdecimal())
    deleted: list[Path] = []
    while True:
        candidates = [index for index, path in enumerate(remaining) if path not in kept]
        if len(candidates) <= others:
            return deleted

        def gap(index: int) -> int:
            """Steps between the neighbours of a checkpoint, which are left without it."""
            before = int(remaining[index - 1].stem) if index else 0
            after = int(remaining[index + 1].stem) if index + 1 < len(remaining) else int(remaining[index].stem)
            return after - before

        deleted.append(remaining.pop(min(candidates, key=gap)))


def _distilled(distillation: FewStepsRecipe) -> Distilled | None:
    return (
        Distilled(distillation.teacher, distillation.teacher_sha256, distillation.guidance)
        if distillation.enabled
        else None
    )


def _recommended_sampling(run: RunRecipe, min_timestep: float) -> Mapping[str, object]:
    """The settings of the sample sheets; today's defaults for a run of version 0.1, where nobody chose them."""
    chosen = {"sampler": run.sample_sampler, "spacing": run.sample_spacing, "steps": run.sample_steps}
    sampling = dict(pixel_file.DEFAULT_SAMPLING) if chosen == DEFAULTS_OF_0_1 else chosen
    return sampling | {"min_timestep": min_timestep} if min_timestep else sampling
