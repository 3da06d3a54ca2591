"""Run one request from the command line: progress on standard error, the paths of its images on standard output."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING

from diffstudio.cli.arguments import as_path
from diffstudio.cli.terminal import print_message, progress, stop_signals
from diffstudio.errors import Interrupted
from diffstudio.studio.requests import PictureRequest

if TYPE_CHECKING:
    from diffstudio.models.library.library import Library
    from diffstudio.studio.events import Event
    from diffstudio.studio.settings import Settings


def add_output(verb: argparse.ArgumentParser, what: str) -> None:
    """Add `--out` and `--force`. `what` describes the path."""
    verb.add_argument("--out", metavar="PATH", type=_as_output, required=True, help=what)
    verb.add_argument("--force", action="store_true", default=False, help="overwrite existing images")


def _as_output(text: str) -> str:
    """A path as text, because a slash at its end says that it is a folder."""
    path = str(as_path(text))
    return path + os.sep if text.endswith(("/", os.sep)) else path


def run_request(request: PictureRequest, arguments: argparse.Namespace, library: Library, settings: Settings) -> int:
    """Run a request to its end and print the path of each image; returns the exit code. DiffstudioError, Interrupted.

    `arguments` has what `add_output` adds.
    """
    import queue

    from diffstudio.studio.generation.output_files import OutputFiles
    from diffstudio.studio.jobs.queue import Queue
    from diffstudio.studio.worker import Worker

    files = OutputFiles(arguments.out, request, overwrite=arguments.force)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with stop_signals() as stop:
        jobs = Queue(None)  # in memory only: the window's queue is not touched
        worker = Worker(jobs, library, files, dataclasses.replace(settings, previews=False), events.put)
        try:
            worker.start()
            job = worker.submit(request)
            while True:
                if stop.take():
                    worker.stop(job)
                with contextlib.suppress(queue.Empty):
                    if _show_event(events.get(timeout=0.1)):
                        return 0
        finally:
            worker.close()


def _show_event(event: Event) -> bool:
    """Print one event of a job; True for Finished. Raises the error of a failed job."""
    from diffstudio.studio import events

    match event:
        case events.Loading(what=what, fraction=fraction):
            progress(what if fraction is None else f"{what}, {fraction:.0%}")
        case events.Noted(text=text):
            print_message(text)
        case events.Stepped(index=index, steps=steps, first=first, count=count, seconds_left=left):
            image = f"image {first + 1} of {count}, " if count > 1 else ""
            progress(f"{image}step {index} of {steps}, {left:.0f} s left", last=index == steps)
        case events.ImageSaved(path=path):
            progress("", last=True)
            print(path, flush=True)
        case events.Failed(error=error):
            progress("", last=True)
            raise error
        case events.Cancelled():
            progress("", last=True)
            raise Interrupted("Stopped before all images were finished")
        case events.Finished():
            return True
    return False
