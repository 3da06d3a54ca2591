"""The verb `diffstudio evaluate`."""

from __future__ import annotations

import argparse
import json
import sys
import time

from diffstudio.cli.arguments import Verbs, as_path, as_text, as_whole_number
from diffstudio.cli.terminal import print_message, printable, progress, stop_signals


def add_evaluate(verbs: Verbs) -> None:
    verb = verbs.add_parser(
        "evaluate",
        help="measure checkpoints or generated images against a folder of real images",
        allow_abbrev=False,
        description="Measure checkpoints trained here, or folders of generated images, against the folder of real images: how "
        "real, varied and original they are. Ctrl+C stops it; image generation goes first.",
    )
    verb.add_argument(
        "subjects",
        metavar="CHECKPOINT|IMAGES",
        nargs="+",
        type=as_text,
        help="a name from `models list`, a checkpoint's file, a run's folder, or a folder of generated images",
    )
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="the folder of real images, as it was trained on")
    verb.add_argument("--json", action="store_true", help="print everything as JSON instead of the table")
    verb.add_argument(
        "--count",
        metavar="N",
        type=as_whole_number,
        help="images to generate with each checkpoint (default: as many as were held out, from 100 to 1,000)",
    )
    verb.add_argument("--seed", metavar="N", type=as_whole_number, default=0, help="of the first of them (default 0)")
    verb.add_argument(
        "--features",
        metavar="NAME|PATH",
        default="auto",
        type=as_text,
        help="the network that images are compared with: imagenet (the default for grey and RGB), folder (trained on the "
        "folder's training part), or inception, dinov2 or clip from your model folders or a path",
    )
    verb.add_argument("--device", metavar="NAME", help="cpu, cuda or mps (default: as in the settings)")
    verb.add_argument("--out", metavar="PATH", type=as_path, help="a folder for the result as evaluation.json")
    verb.set_defaults(do=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from diffstudio.models.library.library import Library
    from diffstudio.studio.evaluations.request import EvaluateRequest
    from diffstudio.studio.settings import load_settings

    settings = load_settings()
    request = EvaluateRequest(
        tuple(arguments.subjects),
        arguments.folder,
        arguments.count,
        arguments.seed,
        arguments.features,
        arguments.device or settings.device,
        arguments.out,
    )
    from diffstudio.studio.evaluations.evaluate import evaluate

    with stop_signals() as stop:
        result = evaluate(
            request,
            Library(settings.folders),
            on_progress=_Progress(),
            on_wait=lambda: progress("waiting for image generation", last=True),
            cancelled=lambda: stop.requested,
        )
    progress("", last=True)
    if arguments.json:
        print(json.dumps(result.to_json(), indent=1), flush=True)
    else:
        print("\n".join(printable(line) for line in result.text().split("\n")), flush=True)
    if result.problem is not None:
        return print_message(str(result.problem), result.problem.exit_code)
    return 0


class _Progress:
    """One updated line at a terminal; a line for each kind of work, and twice a minute, in a log."""

    def __init__(self) -> None:
        self._last, self._what = -float("inf"), ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if what == self._what and done != total and not self._is_due():
            return
        self._what, self._last = what, time.monotonic()
        progress(f"{printable(what)}, {done:,} of {total:,}" if total else printable(what))

    def _is_due(self) -> bool:
        return time.monotonic() - self._last >= (0.1 if sys.stderr.isatty() else 30)
