"""`python -m tests.benchmarks.gallery`: milliseconds of processor time to search 100,000 images in the gallery's database.

A page is the first 200 images, the newest first; a count is that of all images that match. Each is the best of five.
`--database FILE` keeps the database for the next call.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.search import GalleryQuery

IMAGES = 100_000
# A word, and whether the image with that number, counted from the oldest, has it.
WORDS: dict[str, Callable[[int], bool]] = {
    "photograph": lambda number: True,
    "everyone": lambda number: number % 2 == 0,
    "seldom": lambda number: number % 997 == 0,
    "ancient": lambda number: number < 100,
    "historic": lambda number: number < 5_000,
    "vintage": lambda number: number < 20_000,
    "nowhere": lambda number: False,
}


def fill(gallery: Gallery) -> None:
    """Records of images that do not exist, with prompts of about 25 words."""
    draw = random.Random(1)
    starts = ("light", "storm", "cliff", "golden", "detailed", "portrait", "river", "moun", "tree", "cat")
    vocabulary = [start + end for start in starts for end in ("house", "y", "s", "ing", "tain", "")]

    def row(number: int) -> tuple[object, ...]:
        prompt = " ".join([*(word for word, has in WORDS.items() if has(number)), *draw.choices(vocabulary, k=22)])
        return f"{number}.png", number, number, 1000, 512, 512, prompt, "blurry", "starter"

    with gallery.writing() as connection:
        connection.executemany(
            "INSERT INTO images (path, created, modified_ns, size_bytes, width, height, prompt, negative, checkpoint)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            map(row, range(IMAGES)),
        )


def milliseconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return round(1000 * best, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Milliseconds to search 100,000 images.")
    parser.add_argument("--database", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="diffstudio-gallery-") as name:
        database = options.database or Path(name) / "gallery.sqlite"
        gallery = Gallery(Path(name) / "images", database)
        if gallery.count() == 0:
            fill(gallery)
        for word in WORDS:
            query = GalleryQuery(word)
            found = {
                "word": word,
                "images": gallery.number_of(query),
                "page": milliseconds(lambda query=query: gallery.page(query, 0, 200)),
                "count": milliseconds(lambda query=query: gallery.number_of(query)),
            }
            print(json.dumps(found), flush=True)
        gallery.close()


if __name__ == "__main__":
    main()
