"""A process that is killed at one line after another of what it does to a gallery, and what is found afterwards.

`python -m tests.studio.gallery.killed_gallery STEP FOLDER ACTION…` forks a child for each line that an action runs in
the modules that change files, and each call of those that they use; kills it there with SIGKILL, opens the gallery
again, and prints what is wrong. With a STEP of 3, only every third is tried. Prints the number of kills by action.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import send2trash
from PIL import Image

from diffstudio.atomic import remove_part_files
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.metadata import metadata
from diffstudio.studio.requests import GenerateRequest

BY_LINE = ("gallery/trash.py", "gallery/sidecar.py", "gallery/gallery.py")
BY_CALL = ("diffstudio/atomic.py", "gallery/database.py")
BEFORE: dict[str, Callable[[Gallery], object]] = {
    "delete": lambda gallery: gallery.star(1),
    "undo": lambda gallery: (gallery.star(1), gallery.delete([1])),
    "star": lambda gallery: None,
    "unstar": lambda gallery: gallery.star(1),
    "add": lambda gallery: gallery.star(1),
    "empty": lambda gallery: (gallery.star(1), gallery.delete([2])),
}
ACTIONS: dict[str, Callable[[Gallery], object]] = {
    "delete": lambda gallery: gallery.delete([1]),
    "undo": lambda gallery: gallery.undo([1]),
    "star": lambda gallery: gallery.star(1),
    "unstar": lambda gallery: gallery.star(1, False),
    "add": lambda gallery: add(gallery, "third"),
    "empty": lambda gallery: gallery.empty_trash(),
}


def add(gallery: Gallery, prompt: str) -> object:
    return gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(prompt))


def opened(home: Path) -> Gallery:
    return Gallery(home / "images", home / "g.sqlite", home / "thumbnails")


def die_at(line: int, action: Callable[[Gallery], object], home: Path) -> None:
    """In the child: do it, and be killed at the given traced line; exit code 0 if that line is never reached."""
    passed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.endswith(BY_LINE + BY_CALL):
            return None
        if event == ("line" if frame.f_code.co_filename.endswith(BY_LINE) else "call"):
            passed += 1
            if passed == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    gallery = opened(home)
    sys.settrace(trace)
    action(gallery)
    sys.settrace(None)
    os._exit(0)


def problems(home: Path, action: str) -> list[str]:
    """What is wrong after the next start."""
    gallery = opened(home)
    remove_part_files([home])  # as the worker does when it starts
    report = rescan(gallery)
    folder = gallery.folder
    shown = {image.path for image in gallery.images()}
    files = {path for path in folder.glob("*/*.png") if path.parent.name != ".trash"}
    trashed = {folder / path for (path,) in gallery.read("SELECT path FROM images WHERE trashed IS NOT NULL")}
    in_trash = set(folder.glob(".trash/*.png"))
    found = []
    if report.removed or report.unreadable or shown != files or trashed != in_trash:
        found.append(f"records {shown} {trashed}, files {files} {in_trash}, {report}")
    gone = 1 if action == "empty" else 0
    if not 2 - gone <= len(files) + len(in_trash) <= (3 if action == "add" else 2):
        found.append(f"{len(files) + len(in_trash)} files")
    for path in files | in_trash:
        metadata.read(path)
    images = {*files, *in_trash}
    for path in folder.rglob("*"):
        if (
            path.is_file()
            and path not in images
            and path.with_name(path.name.removesuffix(".diffstudio.json")) not in images
        ):
            found.append(f"left behind: {path}")
    if gallery.trash_count() and action != "empty":
        gallery.undo(gallery.trashed())
    starred = gallery.count(starred=True)
    if starred != 1 and action not in ("star", "unstar"):
        found.append(f"{starred} stars")
    gallery.close()
    (home / "g.sqlite").unlink()
    again = opened(home)
    rescan(again)
    if again.count(starred=True) != starred:
        found.append(f"{again.count(starred=True)} stars after the rebuild, {starred} before")
    again.close()
    return found


def kill_everywhere(action: str, folder: Path, step: int) -> int:
    original = folder / "original"
    gallery = opened(original)
    for prompt in ("first", "second"):
        add(gallery, prompt)
    BEFORE[action](gallery)
    gallery.close()
    kills = line = 0
    while True:
        line += step
        home = folder / str(line)
        shutil.copytree(original, home)
        child = os.fork()
        if child == 0:
            try:
                die_at(line, ACTIONS[action], home)
            finally:
                os._exit(9)
        _, status = os.waitpid(child, 0)
        for problem in problems(home, action):
            print(f"wrong: {action}, killed at line {line}: {problem}")
        shutil.rmtree(home)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        kills += 1
    return kills


def main(step: int, folder: Path, actions: list[str]) -> None:
    send2trash.send2trash = os.unlink
    for action in actions:
        print(action, kill_everywhere(action, folder / action, step))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
