"""`python -m tests.benchmarks.library`: seconds to scan a thousand files of models with nothing in them but their
headers.

The files are those of a person's folders: 700 LoRAs of Stable Diffusion 1, 200 of XL, 60 and 20 whole checkpoints, 20
autoencoders, with all tensors that each has, 1.1 million together. `first` is a scan that knows none of them, `start`
that of the next start of the program, `again` one while it runs; `parse` is what Python's own JSON reader needs for the
headers alone.
"""

from __future__ import annotations

import json
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from diffstudio.models.library.library import Library
from tests.models import headers


def write_files(folder: Path) -> int:
    """How many there are."""
    kinds: list[tuple[str, int, headers.Shapes]] = [
        ("loras/one", 700, headers.lora(headers.unet("sd1"), headers.kohya("lora_unet_"))),
        ("loras/xl", 200, headers.lora(headers.unet("sdxl"), headers.kohya("lora_unet_"))),
        ("checkpoints/one", 60, headers.whole("sd1")),
        ("checkpoints/xl", 20, headers.whole("sdxl")),
        ("vae/vae", 20, headers.ldm_vae()),
    ]
    for name, count, shapes in kinds:
        for number in range(count):
            headers.write_header(folder / f"{name}-{number}.safetensors", shapes)
    return sum(count for _, count, _ in kinds)


def parse(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="diffstudio-library-") as name:
        folder = Path(name) / "models"
        files = write_files(folder)
        library = Library([folder])
        found = {
            "files": files,
            "parse": seconds(lambda: parse(folder)),
            "first": seconds(library.scan),
            "again": seconds(library.scan),
            "start": seconds(Library([folder]).scan),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
