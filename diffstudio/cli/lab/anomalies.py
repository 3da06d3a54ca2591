"""The verb `diffstudio anomalies`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from diffstudio.cli.arguments import Parser, as_number, as_path, as_text, as_whole_number
from diffstudio.cli.lab.lab_verb import (
    Engine,
    OnProgress,
    add_device_option,
    add_json_option,
    add_out_option,
    add_seed_option,
    run_verb,
)
from diffstudio.cli.output_file import check_output_file

if TYPE_CHECKING:
    from diffstudio.models.library.library import Library
    from diffstudio.studio.evaluations.anomalies.result import AnomaliesResult


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Score the images in FOLDER against the normal images in NORMALS, optionally with a checkpoint that was "
        "trained on NORMALS. Lists the most anomalous images first, marks those above the threshold of a false-alarm rate, "
        "and draws heat maps. Ctrl+C stops it. Image generation takes priority."
    )
    verb.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        type=as_text,
        help="a checkpoint trained on the normal images (optional)",
    )
    verb.add_argument("normals", metavar="NORMALS", type=as_path, help="a folder of normal images")
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="the folder to search")
    verb.add_argument(
        "--minutes",
        metavar="M",
        type=as_number,
        help="first train a model on the normal images for M minutes, in the folder given by --out",
    )
    verb.add_argument(
        "--false-alarm",
        metavar="RATE",
        type=as_number,
        help="the share of normal images that may be called anomalous (default 0.05)",
    )
    verb.add_argument(
        "--draws", metavar="N", type=as_whole_number, default=8, help="noise samples at each level (default 8)"
    )
    verb.add_argument(
        "--detector",
        metavar="NAME",
        default="auto",
        type=as_text,
        help="denoising, denoising_local, likelihood, patches, pixels, combined or combined_local (default: the best on drawn "
        "defects)",
    )
    add_json_option(verb)
    verb.add_argument(
        "--csv",
        metavar="FILE",
        type=as_path,
        help="a CSV file for the table, one row for each image; an earlier table of this kind is replaced",
    )
    verb.add_argument("--force", action="store_true", help="replace any file that --csv names")
    add_seed_option(verb)
    add_device_option(verb)
    add_out_option(verb, "the folder for anomalies.json, anomalies.csv and the heat maps")
    verb.set_defaults(do=_anomalies)


def _anomalies(arguments: argparse.Namespace) -> int:
    def prepare(device: str) -> Engine:
        from diffstudio.atomic import write_text
        from diffstudio.studio.evaluations.anomalies.request import AnomaliesRequest
        from diffstudio.studio.evaluations.anomalies.result import TABLE_BEGINS

        request = AnomaliesRequest(
            arguments.normals,
            arguments.folder,
            arguments.checkpoint,
            arguments.minutes,
            arguments.false_alarm,
            arguments.draws,
            arguments.detector,
            arguments.seed,
            device,
            arguments.out,
        )
        if arguments.csv is not None:
            check_output_file(arguments.csv, begins=TABLE_BEGINS, force=arguments.force)
        from diffstudio.studio.evaluations.anomalies.anomalies import anomalies

        def with_csv(
            library: Library, *, on_progress: OnProgress, on_wait: Callable[[], None], cancelled: Callable[[], bool]
        ) -> AnomaliesResult:
            result = anomalies(request, library, on_progress=on_progress, on_wait=on_wait, cancelled=cancelled)
            write_text(arguments.csv, result.csv())
            return result

        return partial(anomalies, request) if arguments.csv is None else with_csv

    return run_verb(arguments, prepare, (arguments.normals, arguments.folder))
