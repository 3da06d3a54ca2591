"""The verb `diffstudio likelihood`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Verbs, as_path, as_whole_number
from diffstudio.cli.lab_verb import (
    Engine,
    add_checkpoint_argument,
    add_count_option,
    add_device_option,
    add_json_option,
    add_out_option,
    add_seed_option,
    run_verb,
)


def add_likelihood(verbs: Verbs) -> None:
    verb = verbs.add_parser(
        "likelihood",
        help="measure how likely the images of a folder are under a checkpoint",
        allow_abbrev=False,
        description="Measure the bits per dimension that a checkpoint trained here needs for held-out and for training images: "
        "diffusion models by their probability flow and by a variational bound, VAEs by the ELBO and the importance-weighted "
        "bound. Lower is better. Ctrl+C stops it; image generation goes first.",
    )
    add_checkpoint_argument(verb)
    verb.add_argument(
        "folder", metavar="FOLDER", type=as_path, help="the folder that it was trained on, or another one"
    )
    add_json_option(verb, "print everything, each image too, as JSON instead of the table")
    add_count_option(verb, "images of each part, at most (default 64)", 64)
    verb.add_argument(
        "--probes",
        metavar="N",
        type=as_whole_number,
        default=5,
        help="random probes of the flow's divergence (default 5); images of up to 64 values need none",
    )
    verb.add_argument(
        "--levels", metavar="N", type=as_whole_number, default=64, help="noise levels of the bound (default 64)"
    )
    verb.add_argument(
        "--draws",
        metavar="K",
        type=as_whole_number,
        default=64,
        help="samples of the latents for each image, of a VAE's bounds (default 64)",
    )
    verb.add_argument("--bound-only", action="store_true", help="leave out the flow, which takes most of the time")
    add_seed_option(verb)
    add_device_option(verb)
    add_out_option(verb, "a folder for the result as likelihood.json")
    verb.set_defaults(do=_likelihood)


def _likelihood(arguments: argparse.Namespace) -> int:
    def prepare(device: str) -> Engine:
        from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest

        request = LikelihoodRequest(
            arguments.checkpoint,
            arguments.folder,
            arguments.count,
            arguments.probes,
            arguments.levels,
            flow=not arguments.bound_only,
            seed=arguments.seed,
            device=device,
            out=arguments.out,
            draws=arguments.draws,
        )
        from diffstudio.studio.evaluations.likelihood.likelihood import likelihood

        return partial(likelihood, request)

    return run_verb(arguments, prepare, (arguments.folder,))
