"""Writes a run's losses, rates and sample sheets as TensorBoard event files, beside its events.jsonl."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from diffstudio.training.run.events import RunEvent, RunHeldOut, RunSamples, RunStep
from diffstudio.training.run.run_folder import RunFolder

_MOST_SHEET_BYTES = 4 * 2**20  # TensorBoard keeps the images of a run in memory


class TensorBoardLog:
    """`add` an event; a context manager. A file is made with the first event that has something to show.

    Where it cannot be written, that is said once in the run's log, and the run goes on: events.jsonl has everything.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._writer: Any = None
        self._failed = False

    def add(self, event: RunEvent) -> None:
        if self._failed:
            return
        try:
            match event:
                case RunStep():
                    self._scalars(event.step, _of_step(event))
                case RunHeldOut():
                    self._scalars(event.step, _of_held_out(event))
                case RunSamples():
                    self._image(event.step, "samples/ema", self._run.path / event.ema)
                    self._image(event.step, "samples/raw", self._run.path / event.raw)
        except OSError as error:
            self._failed = True
            print(f"The TensorBoard file cannot be written: {error.strerror or error}", file=sys.stderr)

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as failed:
                print(f"The TensorBoard file is incomplete: {failed.strerror or failed}", file=sys.stderr)

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        self._write(step, Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]))

    def _image(self, step: int, tag: str, path: Path) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        encoded = path.read_bytes()
        if len(encoded) > _MOST_SHEET_BYTES:
            return
        with Image.open(path) as sheet:
            width, height = sheet.size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        self._write(step, Summary(value=[Summary.Value(tag=tag, image=image)]))

    def _write(self, step: int, summary: Any) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event

        if self._writer is None:
            folder = self._run.path / "tensorboard"
            folder.mkdir(parents=True, exist_ok=True)
            # The library's names have whole seconds: one process must not write over another's file.
            self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{step}")
        self._writer.write_event(Event(step=step, wall_time=time.time(), summary=summary))
        self._writer.flush()


def _of_step(event: RunStep) -> dict[str, float]:
    upper = {} if event.upper_loss is None else {"loss/training_upper": event.upper_loss}
    return upper | {
        "loss/training": event.loss,
        "gradient_norm": event.gradient_norm,
        "learning_rate": event.learning_rate,
        "images_per_second": event.images_per_second,
    }


def _of_held_out(event: RunHeldOut) -> dict[str, float]:
    values = {"loss/held_out": event.loss}
    if event.training_loss is not None:
        values["loss/training_images"] = event.training_loss
    if event.upper_loss is not None:
        values["loss/held_out_upper"] = event.upper_loss
    for level, loss in zip(event.levels, event.level_losses, strict=False):
        values[f"held_out_by_noise_level/t_{level:.2f}"] = loss
    return values
