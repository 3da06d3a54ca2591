"""A training process without the training: the same command line, the same run folder, the same manners.

What it does is said in the environment variable FAKE_TRAINING, as JSON: `steps` (of the run), `seconds` (for each),
`end` (`finish`, `fail`, `vanish`: killed at half, `refuse`: ends before it begins), `sample_every`, and
`prepare` (seconds before it begins).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402

from diffstudio.training.distributed import cluster  # noqa: E402
from diffstudio.training.recipe import Recipe  # noqa: E402
from diffstudio.training.recipe_choice import read_choice  # noqa: E402
from diffstudio.training.run.events import (  # noqa: E402
    RunCheckpoint,
    RunFailed,
    RunFinished,
    RunHeldOut,
    RunPaused,
    RunResumed,
    RunSamples,
    RunStarted,
    RunStep,
    RunStopped,
    RunWaiting,
)
from diffstudio.training.run.run_folder import Command, RunFolder  # noqa: E402

cluster._NOWHERE = (cluster.LOCAL, 9)  # no network
COMMAND = (sys.executable, str(Path(__file__).resolve()))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["train"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--folder", dest="moved_to", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--processes", default="1")
    parser.add_argument("--machines", type=int, default=1)
    parser.add_argument("--port", type=int)
    asked = parser.parse_args()
    how = {"steps": 40, "seconds": 0.01, "end": "finish", "sample_every": 10, "prepare": 0.0}
    how |= json.loads(os.environ.get("FAKE_TRAINING", "{}"))
    if how["end"] == "refuse":
        print("There are no pictures in the folder. Choose another one.", file=sys.stderr)
        return 2
    time.sleep(how["prepare"])
    if asked.resume:
        run = RunFolder.open(asked.run)
        step = int(run.state_file.read_text()) if run.state_file.exists() else 0
    else:
        recipe = read_choice(Path(asked.recipe)).recipe if asked.recipe.endswith(".toml") else Recipe()
        run, step = RunFolder.create(asked.run, recipe, asked.folder), 0
    if asked.machines > 1:
        command = cluster.join_command(asked.folder, asked.port)
        run.append(RunWaiting(step, machines=asked.machines - 1, join_command=command))
        while run.command() is not Command.STOP:
            time.sleep(0.01)
    with run.locked():
        return train(run, step, asked.steps or how["steps"], how)


def train(run: RunFolder, step: int, steps: int, how: dict) -> int:
    run.append(
        RunStarted(
            step=step,
            steps=steps,
            pid=os.getpid(),
            parameters=8_500_000,
            images=90,
            held_out=2,
            device="cpu",
            dtype="float32",
            threads=1,
            why="float32: it measured faster here.",
        )
    )
    began = time.monotonic()
    while step < steps:
        match run.command():
            case Command.STOP:
                keep(run, step)
                run.append(RunStopped(step=step))
                return 0
            case Command.PAUSE:
                run.append(RunPaused(step=step))
                while run.command() is Command.PAUSE:
                    time.sleep(0.01)
                run.append(RunResumed(step=step))
                continue
            case _:
                pass
        time.sleep(how["seconds"])
        step += 1
        loss = 0.06 + 0.5 * math.exp(-step / 12)
        run.append(
            RunStep(
                step=step,
                steps=steps,
                images_seen=step * 64,
                loss=loss * (1 + 0.1 * math.sin(step * 7)),
                gradient_norm=1.0,
                learning_rate=6e-4,
                images_per_second=64.0,
                elapsed_seconds=time.monotonic() - began,
                left_seconds=(steps - step) * how["seconds"],
            )
        )
        if step % 5 == 0:
            run.append(RunHeldOut(step=step, loss=loss * 1.03))
        if step % how["sample_every"] == 0:
            samples(run, step)
        if step == steps // 2 and how["end"] == "fail":
            print("Traceback (most recent call last):\n  ...\nValueError: loss is nan", file=sys.stderr)
            run.append(RunFailed(step=step, why="The loss is no longer a number. Lower the learning rate."))
            return 1
        if step == steps // 2 and how["end"] == "vanish":
            os.kill(os.getpid(), signal.SIGKILL)
    keep(run, step)
    run.append(
        RunFinished(
            step=step,
            checkpoint="checkpoints/latest.safetensors",
            learned=True,
            verdict="It learned: the held-out loss fell from 0.55 to 0.06",
        )
    )
    return 0


def keep(run: RunFolder, step: int) -> None:
    run.latest_checkpoint.write_bytes(b"weights")
    run.state_file.write_text(str(step))
    run.append(RunCheckpoint(step=step, path="checkpoints/latest.safetensors"))


def samples(run: RunFolder, step: int) -> None:
    """Two sheets of 4 by 2 squares: flat colours that a test can tell apart, the raw ones in grey."""
    names = []
    for kind in ("ema", "raw"):
        sheet = Image.new("RGB", (4 * 16, 2 * 16), "white")
        for index in range(8):
            colour = (20 * index, step % 256, 200) if kind == "ema" else (20 * index,) * 3
            sheet.paste(Image.new("RGB", (16, 16), colour), (16 * (index % 4), 16 * (index // 4)))
        name = f"samples/{step:08}-{kind}.png"
        sheet.save(run.path / name)
        names.append(name)
    run.append(
        RunSamples(
            step=step,
            ema=names[0],
            raw=names[1],
            columns=4,
            rows=2,
            size=16,
            prompts=tuple(f"thing {index}" for index in range(8)),
        )
    )
    keep(run, step)


if __name__ == "__main__":
    raise SystemExit(main())
