"""Checkpointer: writes a run's state to resume from, its checkpoints to generate with, and its sample sheets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import torch
from PIL import Image

from diffstudio.atomic import atomic_write, replace_with_copy
from diffstudio.errors import Interrupted
from diffstudio.models.caption_words import count_words
from diffstudio.models.families import pixel_file
from diffstudio.models.recommended import DEFAULTS_OF_0_1
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.recipe import RunRecipe
from diffstudio.training.run.events import RunCheckpoint, RunSamples
from diffstudio.training.run.sample_sheets import SampleSheetRenderer, sample_prompts, sheet_thumbnail
from diffstudio.training.run.setup import RunContext

KEPT_CHECKPOINTS = 3


class Checkpointer:
    def __init__(self, context: RunContext) -> None:
        self._context = context
        recipe, dataset = context.recipe, context.dataset
        self._classes = dataset.classes if recipe.network.conditioning is Conditioning.CLASS else ()
        prompts = sample_prompts(recipe, dataset)
        self._renderer = SampleSheetRenderer(
            recipe, context.tokenizer, self._classes, context.trainer.device, prompts, dataset.size
        )
        text = recipe.network.conditioning is Conditioning.TEXT
        self._captions = count_words(dataset.all_captions(), prompts) if text else None
        self._thumbnail: Image.Image | None = None
        self.latest = str(context.run.latest_checkpoint.relative_to(context.run.path))

    def save_state(self) -> None:
        """Write everything that resuming needs. StorageProblem when that fails."""
        with atomic_write(self._context.run.state_file, "The state of the run could not be written") as file:
            try:
                torch.save(self._context.trainer.state(), file)
            except RuntimeError as error:  # how torch's writer reports every failed write
                raise OSError("the disk is full or write-protected") from error

    def save_checkpoint(self, held_out_loss: float | None) -> Iterator[RunCheckpoint]:
        """Write the EMA weights as the checkpoint of this step and as the latest; delete old checkpoints."""
        trainer, run, recipe = self._context.trainer, self._context.run, self._context.recipe
        path = run.path / "checkpoints" / f"{trainer.step_number:08d}.safetensors"
        pixel_file.save(
            path,
            trainer.ema_network,
            title=run.name,
            tokenizer=self._context.tokenizer,
            classes=self._classes,
            schedule=trainer.schedule.to_json(),
            recipe=recipe.to_json(),
            thumbnail=self._thumbnail,
            guidance=pixel_file.DEFAULT_GUIDANCE | {"scale": recipe.run.sample_guidance},
            sampling=_recommended_sampling(recipe.run),
            captions=self._captions,
            dtype=torch.float16,
            output=recipe.data.output,
            size=self._context.dataset.size,
            run={
                "steps": trainer.step_number,
                "pictures_seen": trainer.step_number * recipe.run.batch,
                "held_out_loss": held_out_loss,
            },
        )
        replace_with_copy(path, run.latest_checkpoint)
        for old in sorted(path.parent.glob("[0-9]*.safetensors"))[:-KEPT_CHECKPOINTS]:
            with suppress(OSError):
                old.unlink()
        yield RunCheckpoint(trainer.step_number, f"checkpoints/{path.name}")

    def save_samples(self, before_call: Callable[[], None]) -> Iterator[RunSamples]:
        """Write the sample sheets of the EMA weights and of the raw weights.

        `before_call` runs before every call of the network; nothing is yielded when it raises Interrupted.
        """
        trainer, folder = self._context.trainer, self._context.run.path / "samples"
        names = {"ema": f"{trainer.step_number:08d}-ema.png", "raw": f"{trainer.step_number:08d}-raw.png"}
        side, channels = max(self._context.dataset.size), 0
        try:
            for name, network in (("ema", trainer.ema_network), ("raw", trainer.network)):
                sheet = self._renderer.render(network, before_call)
                sheet.write(folder / names[name])
                channels = len(sheet.channels)
                if name == "ema":
                    self._thumbnail = sheet_thumbnail(sheet.whole, side)
        except Interrupted:
            return
        yield RunSamples(
            step=trainer.step_number,
            ema=f"samples/{names['ema']}",
            raw=f"samples/{names['raw']}",
            columns=self._renderer.columns,
            rows=self._renderer.rows,
            size=side,
            prompts=self._renderer.prompts,
            channels=channels,
        )


def _recommended_sampling(run: RunRecipe) -> Mapping[str, object]:
    """The settings of the sample sheets; today's defaults for a run of version 0.1, where nobody chose them."""
    sampling = {"sampler": run.sample_sampler, "spacing": run.sample_spacing, "steps": run.sample_steps}
    return pixel_file.DEFAULT_SAMPLING if sampling == DEFAULTS_OF_0_1 else sampling
