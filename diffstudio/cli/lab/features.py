"""The verb `diffstudio features`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Parser, as_number, as_path, as_text, as_whole_number
from diffstudio.cli.lab.lab_verb import (
    Engine,
    add_checkpoint_argument,
    add_count_option,
    add_device_option,
    add_json_option,
    add_out_option,
    add_seed_option,
    run_verb,
)


def as_levels(text: str) -> tuple[float, ...]:
    """Noise levels separated by commas."""
    return tuple(as_number(part) for part in text.split(","))


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Compute the features of images in the blocks of a diffusion model, at several noise levels, and export "
        "those of one block as .npy with the names of the images. If the folder has classes, features are evaluated by a "
        "linear probe and nearest neighbours: the best are chosen on a validation part and reported on a test part, compared "
        "with raw pixels. Ctrl+C stops it. Image generation takes priority."
    )
    add_checkpoint_argument(verb)
    verb.add_argument(
        "folder", metavar="FOLDER", type=as_path, help="a folder of images, with a subfolder for each class"
    )
    add_json_option(verb)
    verb.add_argument(
        "--levels",
        metavar="T,…",
        type=as_levels,
        help="noise levels as shares of the schedule, separated by commas (default 0.02,0.05,0.1,0.2,0.4)",
    )
    verb.add_argument(
        "--layer", metavar="NAME", default="auto", type=as_text, help="export this layer (default: the best)"
    )
    verb.add_argument("--level", metavar="T", type=as_number, help="export at this noise level (default: the best)")
    verb.add_argument(
        "--pool",
        metavar="N",
        type=as_whole_number,
        default=1,
        help="average in N x N patches of the image, not over all of it: keeps where things are (default 1)",
    )
    add_count_option(verb, "images at most (default 2000)", 2_000)
    add_seed_option(verb)
    add_device_option(verb)
    add_out_option(verb, "the folder for features.npy, ids.csv, ids.json and features.json")
    verb.set_defaults(do=_features)


def _features(arguments: argparse.Namespace) -> int:
    def prepare(device: str) -> Engine:
        from diffstudio.studio.evaluations.features.request import LEVELS, FeaturesRequest

        request = FeaturesRequest(
            arguments.checkpoint,
            arguments.folder,
            arguments.levels or LEVELS,
            arguments.layer,
            arguments.level,
            arguments.count,
            arguments.seed,
            arguments.pool,
            device,
            arguments.out,
        )
        from diffstudio.studio.evaluations.features.features import features

        return partial(features, request)

    return run_verb(arguments, prepare, (arguments.folder,))
