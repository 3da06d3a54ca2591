"""The verb `diffstudio synthesise`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Parser, as_number, as_path, as_text, as_whole_number
from diffstudio.cli.lab.lab_verb import (
    Engine,
    add_device_option,
    add_features_option,
    add_json_option,
    add_out_option,
    add_seed_option,
    run_verb,
)


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Generate images with a checkpoint trained here into a folder, with their classes or captions and their "
        "seeds. Near-copies of training images are left out and counted. Ctrl+C stops it; the same command resumes it."
    )
    verb.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=as_text,
        help="the name or file of a checkpoint, or the folder of a run",
    )
    verb.add_argument("count", metavar="N", nargs="?", type=as_whole_number, help="number of images in all")
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="the folder of real images it was trained on")
    verb.add_argument(
        "--per-class",
        metavar="N",
        type=as_whole_number,
        help="number of images of each class or caption, instead of N in all",
    )
    add_out_option(verb, "the folder for the images", required=True)
    verb.add_argument(
        "--force", action="store_true", help="write into a folder that is not empty, and replace its generated images"
    )
    add_seed_option(verb, "the lowest seed (default 0)")
    _add_guidance(verb)
    _add_proof(verb)
    add_features_option(verb, "the feature network that finds copies, as for `evaluate`")
    add_device_option(verb)
    add_json_option(verb)
    verb.set_defaults(do=_synthesise)


def _add_guidance(verb: Parser) -> None:
    verb.add_argument(
        "--cads",
        metavar="S",
        type=as_number,
        help="CADS scale: noise added to the condition, for more varied images; 0 turns it off (default: 0.1 with a class or "
        "caption)",
    )
    verb.add_argument(
        "--autoguidance",
        metavar="CHECKPOINT",
        type=as_text,
        default="",
        help="an earlier checkpoint of the same run to guide away from",
    )
    verb.add_argument(
        "--autoguidance-scale",
        metavar="W",
        type=as_number,
        default=2.0,
        help="autoguidance scale; 1 turns it off (default 2)",
    )


def _add_proof(verb: Parser) -> None:
    verb.add_argument(
        "--prove",
        action="store_true",
        help="train small classifiers on the real images, on them with classic augmentation, and on them with synthetic "
        "images added, and score all on held-out real images",
    )
    verb.add_argument(
        "--ratios",
        metavar="R",
        type=as_text,
        default="0.5,1,2,5",
        help="ratios of synthetic to real images to test, separated by commas (default 0.5,1,2,5)",
    )
    verb.add_argument(
        "--seeds", metavar="N", type=as_whole_number, default=5, help="classifiers of each kind to train (default 5)"
    )


def _synthesise(arguments: argparse.Namespace) -> int:
    def prepare(device: str) -> Engine:
        from diffstudio.studio.evaluations.synthesise.request import SynthesiseRequest, parse_ratios

        request = SynthesiseRequest(
            arguments.checkpoint,
            arguments.folder,
            arguments.out,
            arguments.count,
            arguments.per_class,
            arguments.seed,
            arguments.cads,
            arguments.autoguidance,
            arguments.autoguidance_scale,
            arguments.features,
            device,
            arguments.force,
            arguments.prove,
            parse_ratios(arguments.ratios),
            arguments.seeds,
        )
        from diffstudio.studio.evaluations.synthesise.synthesise import synthesise

        return partial(synthesise, request)

    return run_verb(arguments, prepare, (arguments.folder,))
