"""TensorBoard event files, read back with a reader of the format: TFRecord with masked CRC-32C, protobuf inside."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from diffstudio.training.run.events import RunHeldOut, RunPaused, RunSamples, RunStep
from diffstudio.training.run.run_folder import RunFolder
from diffstudio.training.run.tensorboard import TensorBoardLog


def masked(data: bytes) -> int:
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read(path: Path) -> list[Event]:
    data, found = path.read_bytes(), []
    while data:
        length, checked = data[:8], struct.unpack("<I", data[8:12])[0]
        size = struct.unpack("<Q", length)[0]
        payload = data[12 : 12 + size]
        assert checked == masked(length) and struct.unpack("<I", data[12 + size : 16 + size])[0] == masked(payload)
        found.append(Event.FromString(payload))
        data = data[16 + size :]
    return found


def step(number: int) -> RunStep:
    return RunStep(number, 10, 64, 0.5, 2.0, 1e-3, 60.0, 1.0, 9.0)


def test_losses_rates_and_sheets_are_read_back(tmp_path: Path) -> None:
    for name in ("ema", "raw"):
        Image.new("RGB", (32, 16), "red").save(tmp_path / f"{name}.png")
    run = RunFolder(tmp_path)
    with TensorBoardLog(run) as log:
        log.add(RunPaused(0))
        assert not (tmp_path / "tensorboard").exists()
        log.add(step(1))
        log.add(RunHeldOut(1, 0.4, (0.1, 0.9), (0.6, 0.2), 0.3, (0.5, 0.1)))
        log.add(RunSamples(1, "ema.png", "raw.png", 2, 1, 16, ("a", "b")))
    with TensorBoardLog(run) as log:  # resumed within the same second
        log.add(step(2))
    first, second = sorted((tmp_path / "tensorboard").iterdir())
    assert first.name.startswith("events.out.tfevents.")
    events = read(first)
    assert events[0].file_version == "brain.Event:2"
    values = {value.tag: value for event in events for value in event.summary.value}
    assert values["loss/training"].simple_value == 0.5 and values["loss/held_out"].simple_value == pytest.approx(0.4)
    assert values["held_out_by_noise_level/t_0.90"].simple_value == pytest.approx(0.2)
    assert {"gradient_norm", "learning_rate", "images_per_second", "loss/training_images"} <= set(values)
    image = values["samples/ema"].image
    assert (image.width, image.height) == (32, 16)
    assert image.encoded_image_string == (tmp_path / "ema.png").read_bytes()
    assert [event.step for event in read(second)] == [0, 2]


def test_a_file_that_cannot_be_written_is_said_once_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tensorboard").write_text("a file in its place")
    with TensorBoardLog(RunFolder(tmp_path)) as log:
        log.add(step(1))
        log.add(step(2))
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_losses_of_an_upper_level_have_lines_of_their_own(tmp_path: Path) -> None:
    with TensorBoardLog(RunFolder(tmp_path)) as log:
        log.add(replace(step(1), upper_loss=0.7))
        log.add(RunHeldOut(1, 0.4, upper_loss=0.6))
    (file,) = (tmp_path / "tensorboard").iterdir()
    values = {value.tag: value.simple_value for event in read(file) for value in event.summary.value}
    assert values["loss/training_upper"] == pytest.approx(0.7) and values["loss/held_out_upper"] == pytest.approx(0.6)
