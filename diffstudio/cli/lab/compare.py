"""The verb `diffstudio compare`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Parser, as_number, as_path, as_text, as_whole_number
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
        "Train a diffusion model, a VAE and a GAN on one folder with the same split, the same training time and "
        "several seeds, and compare them: fidelity, diversity, copying, mode collapse. Ctrl+C stops it; the same command "
        "with the same --out resumes it. Image generation takes priority."
    )
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="the folder of images to train on")
    verb.add_argument(
        "--minutes",
        metavar="M",
        type=as_number,
        required=True,
        help="training time for each model and seed; with three models and three seeds the whole takes nine times as long",
    )
    verb.add_argument(
        "--models",
        metavar="NAMES",
        type=as_text,
        default="diffusion,vae,gan",
        help="models to train, separated by commas: diffusion, names of recipes or .toml files (default diffusion,vae,gan); "
        "`none` to compare only what --with names",
    )
    verb.add_argument("--seeds", metavar="N", type=as_whole_number, default=3, help="runs of each model (default 3)")
    verb.add_argument(
        "--with",
        dest="subjects",
        metavar="CHECKPOINT|IMAGES",
        nargs="+",
        type=as_text,
        default=[],
        help="checkpoints, runs or folders of generated images to add to the table",
    )
    add_json_option(verb)
    add_count_option(verb, "images to generate with each model (default: as many as were held out, from 100 to 1,000)")
    add_seed_option(verb, "seed of the first image of each model (default 0)")
    add_features_option(verb, "the feature network, as for `evaluate`")
    add_device_option(verb, ", for the evaluation")
    add_out_option(
        verb, "the folder for runs, images, compare.json and compare.html (default: a new folder of the Lab)"
    )
    verb.set_defaults(do=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from diffstudio.studio.evaluations.compare.request import CompareRequest
    from diffstudio.studio.evaluations.subjects import image_folders

    if arguments.out is None:
        from diffstudio.studio.evaluations.place import default_out

        arguments.out = default_out(arguments.folder)

    def prepare(device: str) -> Engine:
        names = [name.strip() for name in arguments.models.split(",")]
        request = CompareRequest(
            arguments.folder,
            arguments.minutes,
            tuple(name for name in names if name not in ("", "none")),
            arguments.seeds,
            tuple(arguments.subjects),
            arguments.count,
            arguments.seed,
            arguments.features,
            device,
            arguments.out,
        )
        from diffstudio.studio.evaluations.compare.compare import compare

        return partial(compare, request)

    return run_verb(arguments, prepare, (arguments.folder, *image_folders(arguments.subjects)))
