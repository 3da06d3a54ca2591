"""How fast it is on this machine: `python -m tests.benchmarks [--readme] [--checkpoint NAME] [--only WORD …]`.

Every measurement is a process of its own, so that its launch is a launch and its peak of memory its own. Prints a
table; `--readme` writes it into resources/manual/figures.md as well. Nothing here is asserted: times differ from
machine to machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from diffstudio.__main__ import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
SIZES = {32: 64, 64: 64, 128: 16}  # px a side: images in a batch


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    measured: str
    aim: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one process found out, and the most memory it had."""

    figures: dict[str, Any]
    peak_bytes: int | None


def measure(arguments: list[str], home: Path) -> Measured:
    """Run `python ARGUMENTS`; its last line is JSON. It hears from us when it was started."""
    environment = (
        {"QT_QPA_PLATFORM": "offscreen"}
        | ENVIRONMENT
        | os.environ
        | {"DIFFSTUDIO_HOME": str(home), "BENCHMARK_STARTED": repr(time.time()), "PYTHONPATH": str(ROOT)}
    )
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=out)
        if hasattr(os, "wait4"):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        else:
            process.wait()
            peak = None
        if process.returncode:
            raise SystemExit(f"`{' '.join(arguments)}` ended with {process.returncode}; what it said is above.")
        out.seek(0)
        lines = out.read().splitlines()
    last = lines[-1] if lines else ""
    return Measured(json.loads(last) if last.startswith("{") else {}, peak)


@contextmanager
def own_home() -> Iterator[Path]:
    """A folder for a program to live in; whoever still lives there at the end, a run that trains among them, is killed."""
    with tempfile.TemporaryDirectory(prefix="diffstudio-benchmark-", ignore_cleanup_errors=True) as home:
        try:
            yield Path(home)
        finally:
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if process.environ().get("DIFFSTUDIO_HOME") == home:
                        process.kill()


def window_launch(home: Path, checkpoint: str) -> Iterator[Row]:
    runs = [measure(["-m", "tests.benchmarks.window", "launch"], home) for _ in range(4)][
        1:
    ]  # the first warms the disk
    yield Row("launch to a window that takes input", f"{median(run.figures['seconds'] for run in runs):.2f} s", "0.8 s")
    yield Row("peak memory of the window alone", size(max(run.peak_bytes or 0 for run in runs)))


def first_picture(home: Path, checkpoint: str) -> Iterator[Row]:
    runs = [measure(["-m", "tests.benchmarks.window", "picture", checkpoint], home) for _ in range(3)][1:]
    seconds = median(run.figures["seconds"] for run in runs)
    yield Row("launch to the first image on screen, 20 steps", f"{seconds:.1f} s", "4 s")
    out = home / "picture.png"
    begun = time.perf_counter()
    run = measure(
        ["-m", "diffstudio", "generate", "red apple", "--steps", "20", "--checkpoint", checkpoint, "--out", str(out)],
        home,
    )
    yield Row("the same on the command line", f"{time.perf_counter() - begun:.1f} s")
    yield Row("peak memory of generating an image, with the window", size(max(run.peak_bytes or 0 for run in runs)))
    yield Row("peak memory of generating an image, command line", size(run.peak_bytes or 0))


def steps(home: Path, checkpoint: str) -> Iterator[Row]:
    found = measure(["-m", "tests.benchmarks.engine", checkpoint], home).figures
    yield Row("a step (Heun, two network calls, with guidance)", f"{1000 * found['step']:.1f} ms")
    yield Row("cost of the preview of a step", f"{100 * found['preview'] / found['step']:.1f}%", "2%")
    stops = f"{1000 * found['stop_median']:.0f} and {1000 * found['stop_worst']:.0f} ms"
    yield Row("Stop to stopped, median and worst of 20", stops, f"one network call ({1000 * found['call']:.0f} ms)")


def frames_generating(home: Path, checkpoint: str) -> Iterator[Row]:
    yield frames("generating", "while images are generated", home, checkpoint)


def frames_training(home: Path, checkpoint: str) -> Iterator[Row]:
    yield frames("training", "while a run trains", home, checkpoint)


def frames(what: str, words: str, home: Path, checkpoint: str) -> Row:
    """In a home of its own: what one leaves in the queue would be taken up again by the other."""
    pictures = write_pictures(home / "dots", 64)
    recipe = write_recipe(home / "frames.toml", 64, 64, dtype="float32")  # chosen, so that nothing is measured first
    found = measure(["-m", "tests.benchmarks.window", what, checkpoint, str(pictures), str(recipe)], home).figures
    return Row(
        f"between two frames of the window {words}: median, 95%, longest",
        f"{found['median']:.0f}, {found['p95']:.0f}, {found['worst']:.0f} ms",
        "95% under 33 ms",
    )


def training(home: Path, checkpoint: str) -> Iterator[Row]:
    for side, batch in SIZES.items():
        pictures = write_pictures(home / f"dots-{side}", side)
        recipe = write_recipe(home / f"{side}.toml", side, batch)
        run = home / f"run-{side}"
        measured = measure(
            ["-m", "diffstudio", "train", str(pictures), "--recipe", str(recipe), "--steps", "40", "--run", str(run)],
            home,
        )
        speed = median(event["pictures_per_second"] for event in events(run) if event["event"] == "step")
        yield Row(f"training, {side} px, batch {batch}, the small network", f"{speed:.0f} images a second")
        yield Row(f"peak memory of that run, {side} px", size(measured.peak_bytes or 0))


def stable_diffusion(home: Path, checkpoint: str) -> Iterator[Row]:
    """The full size of Stable Diffusion 1.5 with random weights: 4.2 GB that are written first."""
    found = {
        what: measure(["-m", "tests.benchmarks.sd", what, str(home / "sd15")], home)
        for what in ("load", "lora", "pictures")
    }
    load, lora, pictures = (found[what].figures for what in ("load", "lora", "pictures"))
    yield Row(
        "Stable Diffusion 1.5, 256 px: an image with previews, over diffusers' own without",
        f"{pictures['ratio']:.2f} ({pictures['ours']:.1f} s)",
        "1.00",
    )
    yield Row(
        "loading it, over a bare read of its files by safetensors: from the disk, from memory",
        f"{load['disk_ratio']:.2f}, {load['cache_ratio']:.2f} ({load['disk_bare']:.1f}, {load['cache_bare']:.1f} s)",
        "1.3",
    )
    yield Row(
        "attaching a LoRA to it, over loading it: from the disk, from memory",
        f"{100 * lora['disk_ratio']:.1f}%, {100 * lora['cache_ratio']:.0f}% ({lora['attach']:.2f} s)",
        "5%",
    )
    yield Row("peak memory of generating its images", size(found["pictures"].peak_bytes or 0))


def library(home: Path, checkpoint: str) -> Iterator[Row]:
    """Header-only files of full size: see tests/benchmarks/library.py."""
    found = measure(["-m", "tests.benchmarks.library"], home).figures
    yield Row("scanning 1,000 model files at the start of the program", f"{found['start']:.2f} s", "1 s")
    yield Row(
        "the same when none of them was ever seen, over reading their headers' JSON alone",
        f"{found['first'] / found['parse']:.1f} ({found['first']:.1f} s)",
    )


MEASUREMENTS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    "window": window_launch,
    "picture": first_picture,
    "steps": steps,
    "frames": frames_generating,
    "frames-training": frames_training,
    "training": training,
    "library": library,
    "stable-diffusion": stable_diffusion,
}


def write_pictures(folder: Path, side: int, count: int = 96) -> Path:
    """Pictures of noise: what they show makes no difference to how fast they are learnt from."""
    import numpy as np
    from PIL import Image

    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(side)
    for number in range(count):
        pixels = generator.integers(0, 255, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture number {number}, noise")
    return folder


def write_recipe(path: Path, side: int, batch: int, dtype: str = "auto") -> Path:
    """The defaults, which are the small recipe's, at another size; samples are not what is measured."""
    rarely = "".join(f"{what}_every = 1000000\n" for what in ("sample", "checkpoint", "held_out"))
    path.write_text(
        f"format = 1\nname = 'benchmark'\n[data]\nsize = {side}\n[run]\nbatch = {batch}\ndtype = '{dtype}'\n"
        f"sample_count = 1\nsample_steps = 1\n{rarely}"
    )
    return path


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def median(values: Iterator[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def size(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB" if count else "not known here"


def table(rows: list[Row]) -> str:
    lines = ["| what | measured | aim |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {row.what} | {row.measured} | {row.aim} |" for row in rows])


def machine() -> str:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} processor cores"
    return (
        f"{platform.system()} {platform.machine()}, {device}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, on {time.strftime('%Y-%m-%d')}."
    )


def with_table(readme: str, text: str) -> str:
    """The README with what stands between the two marks replaced."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--readme", action="store_true", help="write the table into resources/manual/figures.md")
    parser.add_argument(
        "--checkpoint", default="starter", help="what images are generated with: `starter`, or the path of a file"
    )
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is ended too
    rows: list[Row] = []
    for name in arguments.only:
        with own_home() as home:
            for row in MEASUREMENTS[name](home, arguments.checkpoint):
                print(
                    f"{row.what}: {row.measured}" + (f" (aim: {row.aim})" if row.aim else ""),
                    file=sys.stderr,
                    flush=True,
                )
                rows.append(row)
    text = f"{machine()}\n\n{table(rows)}"
    print(text)
    if arguments.readme:
        readme = ROOT / "resources" / "manual" / "figures.md"
        readme.write_text(with_table(readme.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
