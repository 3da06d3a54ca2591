"""The verb `diffstudio anomalies`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from diffstudio.cli.arguments import Verbs, as_number, as_path, as_text, as_whole_number
from diffstudio.cli.lab_verb import JSON_HELP, SEED_HELP, OnProgress, add_device_option, run_verb

if TYPE_CHECKING:
    from diffstudio.studio.evaluations.anomalies.result import AnomaliesResult


def add_anomalies(verbs: Verbs) -> None:
    verb = verbs.add_parser(
        "anomalies",
        help="find the images of a folder that are unlike normal ones",
        allow_abbrev=False,
        description="Score the images of FOLDER against the normal images in NORMALS, with a checkpoint trained on these if "
        "one is named: worst first, at a false-alarm rate, with heat maps. Ctrl+C stops it; image generation goes first.",
    )
    verb.add_argument(
        "checkpoint", metavar="CHECKPOINT", nargs="?", type=as_text, help="a model of the normal images, or none"
    )
    verb.add_argument("normals", metavar="NORMALS", type=as_path, help="a folder of normal images")
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="the folder to search")
    verb.add_argument(
        "--minutes",
        metavar="M",
        type=as_number,
        help="train a model on the normal images first, in the folder of --out",
    )
    verb.add_argument(
        "--false-alarm",
        metavar="RATE",
        type=as_number,
        help="the share of normal images that may be called anomalous (default 0.05)",
    )
    verb.add_argument(
        "--draws", metavar="N", type=as_whole_number, default=8, help="of noise at each level (default 8)"
    )
    verb.add_argument(
        "--detector",
        metavar="NAME",
        default="auto",
        type=as_text,
        help="denoising, denoising_local, likelihood, patches, pixels or combined (default: the best on drawn defects)",
    )
    verb.add_argument("--json", action="store_true", help=JSON_HELP)
    verb.add_argument("--csv", metavar="FILE", type=as_path, help="a file for the table, a line for each image")
    verb.add_argument("--seed", metavar="N", type=as_whole_number, default=0, help=SEED_HELP)
    add_device_option(verb)
    verb.add_argument(
        "--out", metavar="PATH", type=as_path, help="a folder for anomalies.json, anomalies.csv and heat maps"
    )
    verb.set_defaults(do=_anomalies)


def _anomalies(arguments: argparse.Namespace) -> int:
    def work(on_progress: OnProgress, on_wait: Callable[[], None], cancelled: Callable[[], bool]) -> AnomaliesResult:
        from diffstudio.atomic import write_text
        from diffstudio.models.library.library import Library
        from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
        from diffstudio.studio.settings import load_settings

        settings = load_settings()
        request = AnomaliesRequest(
            arguments.normals,
            arguments.folder,
            arguments.checkpoint,
            arguments.minutes,
            arguments.false_alarm,
            arguments.draws,
            arguments.detector,
            arguments.seed,
            arguments.device or settings.device,
            arguments.out,
        )
        from diffstudio.studio.evaluations.anomalies.anomalies import anomalies

        result = anomalies(
            request, Library(settings.folders), on_progress=on_progress, on_wait=on_wait, cancelled=cancelled
        )
        if arguments.csv is not None:
            write_text(arguments.csv, result.csv())
        return result

    return run_verb(arguments, work, (arguments.normals, arguments.folder))
