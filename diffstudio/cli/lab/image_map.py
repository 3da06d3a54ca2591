"""The verb `diffstudio map`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Parser, as_path, as_text, as_whole_number
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
        "Lay out the training and held-out images of a folder, samples of checkpoints trained here, and other folders "
        "of images by the features of a network: by PCA, and by UMAP or PaCMAP if they are installed. Ctrl+C stops it. "
        "Image generation takes priority."
    )
    verb.add_argument(
        "subjects",
        metavar="CHECKPOINT|IMAGES",
        nargs="*",
        type=as_text,
        help="a name from `models list`, a checkpoint's file, a run's folder, or a folder of images; none for the folder alone",
    )
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="a folder of images, as it was trained on")
    add_json_option(verb, "print everything, including each point, as JSON instead of the summary")
    add_count_option(verb, "images to generate with each checkpoint (default 500)", 500)
    verb.add_argument(
        "--most",
        metavar="N",
        type=as_whole_number,
        default=5000,
        help="images of each other part at most, evenly spaced if there are more (default 5,000)",
    )
    verb.add_argument(
        "--layout",
        metavar="NAME",
        type=as_text,
        default="pca",
        help="layouts besides PCA: umap, pacmap or all (default pca: none)",
    )
    add_seed_option(verb, "seed of the first sample and of the layouts (default 0)")
    add_features_option(verb, "the feature network for the map, as for `evaluate`")
    add_device_option(verb)
    add_out_option(verb, "the folder for map.json, plots as PNG, SVG and CSV, and the samples")
    verb.set_defaults(do=_map)


def _map(arguments: argparse.Namespace) -> int:
    from diffstudio.studio.evaluations.subjects import image_folders

    def prepare(device: str) -> Engine:
        from diffstudio.studio.evaluations.image_map.request import MapRequest

        request = MapRequest(
            tuple(arguments.subjects),
            arguments.folder,
            arguments.count,
            arguments.most,
            arguments.layout,
            arguments.seed,
            arguments.features,
            device,
            arguments.out,
        )
        from diffstudio.studio.evaluations.image_map.image_map import image_map

        return partial(image_map, request)

    return run_verb(arguments, prepare, (arguments.folder, *image_folders(arguments.subjects)))
