"""Keeper: what a run leaves on disk - states to resume from, checkpoints to generate with, sample sheets to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image

from diffstudio.atomic import atomic_write, replace_with_copy
from diffstudio.errors import Interrupted
from diffstudio.models.families import pixel_file
from diffstudio.networks.conditioning import Conditioning
from diffstudio.training.run import sample_sheets
from diffstudio.training.run.run_folder import RunCheckpoint, RunSamples
from diffstudio.training.run.setup import RunContext

KEPT_CHECKPOINTS = 3


class Checkpointer:
    def __init__(self, context: RunContext) -> None:
        self._context = context
        classes = context.dataset.classes if context.recipe.network.conditioning is Conditioning.CLASS else ()
        self._classes = classes
        self._sheets = sample_sheets.SampleSheetRenderer(
            context.recipe,
            context.tokenizer,
            classes,
            context.trainer.device,
            sample_sheets.sample_prompts(context.recipe, context.dataset),
        )
        self._thumbnail: Image.Image | None = None
        self.latest = str(context.run.latest_checkpoint.relative_to(context.run.path))

    def save_state(self) -> None:
        """Write everything that resuming needs. StorageProblem when that fails."""
        with atomic_write(self._context.run.state_file, "The state of the run could not be written") as file:
            try:
                torch.save(self._context.trainer.state(), file)
            except RuntimeError as error:  # how torch's writer reports every failed write
                raise OSError("the disk is full, or it refuses to be written to") from error

    def checkpoint(self, held_out_loss: float | None) -> Iterator[RunCheckpoint]:
        """The averaged weights as a checkpoint of this step, which becomes the latest; old ones make room."""
        trainer, run = self._context.trainer, self._context.run
        path = run.path / "checkpoints" / f"{trainer.step_number:08d}.safetensors"
        pixel_file.save(
            path,
            trainer.average.module,  # type: ignore[arg-type]
            title=run.name,
            tokenizer=self._context.tokenizer,
            classes=self._classes,
            schedule=trainer.schedule.to_json(),
            recipe=self._context.recipe.to_json(),
            thumbnail=self._thumbnail,
            guidance=pixel_file.DEFAULT_GUIDANCE | {"scale": self._context.recipe.run.sample_guidance},
            dtype=torch.float16,
            run={
                "steps": trainer.step_number,
                "pictures_seen": trainer.step_number * self._context.recipe.run.batch,
                "held_out_loss": held_out_loss,
            },
        )
        self._make_latest(path)
        for old in sorted(path.parent.glob("[0-9]*.safetensors"))[:-KEPT_CHECKPOINTS]:
            with suppress(OSError):
                old.unlink()
        yield RunCheckpoint(trainer.step_number, f"checkpoints/{path.name}")

    def samples(self, before_call: Callable[[], None]) -> Iterator[RunSamples]:
        """Sheets of the averaged and the raw weights; none when `before_call` raises Interrupted on the way."""
        trainer, folder = self._context.trainer, self._context.run.path / "samples"
        names = {"ema": f"{trainer.step_number:08d}-ema.png", "raw": f"{trainer.step_number:08d}-raw.png"}
        try:
            for name, network in (("ema", trainer.average.module), ("raw", trainer.network)):
                drawn = self._sheets.draw(network, before_call)
                sample_sheets.write(drawn, folder / names[name])
                if name == "ema":
                    self._thumbnail = sample_sheets.sheet_thumbnail(drawn, self._context.recipe.data.size)
        except Interrupted:
            return
        yield RunSamples(
            trainer.step_number,
            f"samples/{names['ema']}",
            f"samples/{names['raw']}",
            self._sheets.columns,
            self._sheets.rows,
            self._context.recipe.data.size,
            self._sheets.prompts,
        )

    def _make_latest(self, path: Path) -> None:
        replace_with_copy(path, self._context.run.latest_checkpoint)
