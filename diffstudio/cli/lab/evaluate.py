"""The verb `diffstudio evaluate`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Parser, as_path, as_text
from diffstudio.cli.lab.lab_verb import (
    Engine,
    add_count_option,
    add_device_option,
    add_features_option,
    add_json_option,
    add_out_option,
    add_seed_option,
    run_verb,
)


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Measure checkpoints trained here, or folders of generated images, against the folder of real images: how "
        "real, varied and original they are. Ctrl+C stops it. Image generation takes priority."
    )
    verb.add_argument(
        "subjects",
        metavar="CHECKPOINT|IMAGES",
        nargs="+",
        type=as_text,
        help="a name from `models list`, a checkpoint's file, a run's folder, or a folder of generated images",
    )
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="the folder of real images, as it was trained on")
    add_json_option(verb)
    add_count_option(
        verb, "images to generate with each checkpoint (default: as many as were held out, from 100 to 1,000)"
    )
    add_seed_option(verb, "seed of the first image (default 0)")
    add_features_option(
        verb,
        "the feature network: imagenet (the default for grey and RGB), folder (trained on the "
        "folder's training part), or inception, dinov2 or clip from your model folders or a path",
    )
    add_device_option(verb)
    add_out_option(verb, "the folder for the result, evaluation.json")
    verb.set_defaults(do=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from diffstudio.studio.evaluations.subjects import image_folders

    def prepare(device: str) -> Engine:
        from diffstudio.studio.evaluations.request import EvaluateRequest

        request = EvaluateRequest(
            tuple(arguments.subjects),
            arguments.folder,
            arguments.count,
            arguments.seed,
            arguments.features,
            device,
            arguments.out,
        )
        from diffstudio.studio.evaluations.evaluate import evaluate

        return partial(evaluate, request)

    return run_verb(arguments, prepare, (arguments.folder, *image_folders(arguments.subjects)))
