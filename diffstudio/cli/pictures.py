"""The verb `diffstudio upscale`, and what it shares with `generate`: a worker of its own makes the request and tells how it goes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffstudio.cli.arguments import as_number, as_path, as_text, as_whole_number
from diffstudio.cli.terminal import progress, say, stop_signals
from diffstudio.errors import BadRequest, ImageProblem, Interrupted
from diffstudio.studio.requests import (
    LANCZOS,
    LATENT,
    MOST_ENLARGED,
    PictureRequest,
    SamplerName,
    SpacingName,
    UpscaleRequest,
)

if TYPE_CHECKING:
    from diffstudio.models.library.library import Library
    from diffstudio.studio.settings import Settings

_SAMPLING = (
    "strength",
    "steps",
    "sampler",
    "spacing",
    "enlarge_guidance",
    "seed",
    "vae",
    "tiled",
)  # what only checkpoints hear


def make(request: PictureRequest, out: Path, library: Library, settings: Settings) -> int:
    """Make the pictures, print where each was written, and say how it goes; 0. Raises what a person should hear."""
    import queue

    from diffstudio.studio.generation.output_files import NamedFiles
    from diffstudio.studio.jobs.queue import Queue
    from diffstudio.studio.worker import Worker

    files = NamedFiles(out, request)
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with stop_signals() as stop:
        jobs = Queue(None)  # in memory: the window's jobs are the window's, and nothing is left behind by a kill
        worker = Worker(jobs, library, files, dataclasses.replace(settings, previews=False), events.put)
        try:
            worker.start()
            job = worker.submit(request)
            while True:
                if stop.take():
                    worker.stop(job)
                with contextlib.suppress(queue.Empty):
                    if _told(events.get(timeout=0.1)):
                        return 0
        finally:
            worker.close()


def _told(event: Any) -> bool:
    """Show one event of a job; True when it was the successful last one. Raises what a person should hear."""
    from diffstudio.studio import events

    match event:
        case events.Loading(what=what, fraction=fraction):
            progress(what if fraction is None else f"{what}, {fraction:.0%}")
        case events.Noted(text=text):
            say(text, 0)
        case events.Stepped(index=index, steps=steps, first=first, count=count, seconds_left=left):
            picture = f"picture {first + 1} of {count}, " if count > 1 else ""
            progress(f"{picture}step {index} of {steps}, {left:.0f} s left", last=index == steps)
        case events.ImageSaved(path=path):
            progress("", last=True)
            print(path, flush=True)
        case events.Failed(error=error):
            progress("", last=True)
            raise error
        case events.Cancelled():
            progress("", last=True)
            raise Interrupted("Stopped before all pictures were made")
        case events.Finished():
            return True
    return False


# ---- upscale ---------------------------------------------------------------------------------------------------------


def add_upscale(verbs: Any) -> None:
    usual = UpscaleRequest(Path("picture.png"))
    verb = verbs.add_parser(
        "upscale",
        help="make a picture larger",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        description="Make a picture larger: by an upscaler alone, or, with --checkpoint or --strength, sampled again from there, "
        "with the prompt and the settings that the picture carries unless others are given.",
    )
    verb.add_argument("image", metavar="IMAGE", type=as_path)
    verb.add_argument(
        "--scale", metavar="X", type=as_number, help=f"times larger, 1 to {MOST_ENLARGED} (default {usual.scale:g})"
    )
    verb.add_argument(
        "--upscaler",
        metavar="NAME",
        type=as_text,
        help=f"{LANCZOS}, {LATENT}, or a name from `models list --role upscaler` (default {usual.upscaler})",
    )
    verb.add_argument(
        "--checkpoint", metavar="NAME|PATH", type=as_text, help="sample the enlarged picture again with this one"
    )
    verb.add_argument(
        "--vae", metavar="NAME|PATH", type=as_text, help="an autoencoder to use in place of the checkpoint's own"
    )
    verb.add_argument(
        "--strength",
        metavar="X",
        type=as_number,
        help=f"how far from the enlarged picture: just above 0 to 1 (default {usual.strength:g})",
    )
    verb.add_argument(
        "--prompt", metavar="T", type=as_text, help="what the picture shows; what it says of itself unless given"
    )
    verb.add_argument("--negative", metavar="T", type=as_text)
    verb.add_argument("--steps", metavar="N", type=as_whole_number)
    verb.add_argument("--sampler", metavar="NAME", help=", ".join(SamplerName))
    verb.add_argument("--spacing", metavar="NAME", help=", ".join(SpacingName))
    verb.add_argument(
        "--guidance",
        dest="enlarge_guidance",
        metavar="X",
        type=as_number,
        help="default the picture's; for checkpoints trained here 0, which goes by what is there",
    )
    verb.add_argument("--seed", metavar="N", type=as_whole_number)
    verb.add_argument("--tiled", action="store_true", help="in windows, also where the checkpoint could do it whole")
    verb.add_argument("--out", metavar="PATH", type=as_path, required=True, help="a .png, or a folder")
    verb.set_defaults(do=_upscale)


def _upscale(arguments: argparse.Namespace) -> int:
    from diffstudio.models.library.library import Library
    from diffstudio.models.library.lookup import find_vae
    from diffstudio.studio.generation.upscaler_lookup import find_upscaler, upscale_of
    from diffstudio.studio.settings import load_settings

    names = {field.name for field in dataclasses.fields(UpscaleRequest)} - {"source"}
    asked = {name: value for name, value in vars(arguments).items() if name in names}
    if not arguments.image.is_file():
        raise ImageProblem(f"There is no picture at {arguments.image}", remedy="Check the name")
    sampled = "checkpoint" in asked or "strength" in asked
    unheard = [name for name in _SAMPLING if name in asked]
    if unheard and not sampled:
        raise BadRequest(
            f"--{unheard[0].removeprefix('enlarge_')} was given, and nothing is sampled",
            "an upscaler alone has no use for it",
            "Name a checkpoint with --checkpoint, or give a --strength to take the picture's own",
        )
    request = upscale_of(arguments.image, sampled=sampled, **asked)
    settings = load_settings()
    library = Library(settings.folders)
    find_upscaler(request.upscaler, library)
    if request.checkpoint:
        library.find(request.checkpoint)  # before anything heavy is loaded
    if request.vae:
        find_vae(library, request.vae)
    return make(request, arguments.out, library, settings)
