"""The verb `diffstudio likelihood`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Parser, as_path, as_whole_number
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


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Measure the bits per dimension of held-out and training images under a checkpoint trained here: "
        "diffusion models by the probability flow ODE and a variational bound, VAEs by the ELBO and the importance-weighted "
        "bound. Lower is better. Ctrl+C stops it. Image generation takes priority."
    )
    add_checkpoint_argument(verb)
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="the folder it was trained on, or another one")
    add_json_option(verb, "print everything, including each image, as JSON instead of the table")
    add_count_option(verb, "images of each part at most (default 64)", 64)
    verb.add_argument(
        "--probes",
        metavar="N",
        type=as_whole_number,
        default=5,
        help="Hutchinson probes of the divergence (default 5); it is computed exactly for images of up to 64 values",
    )
    verb.add_argument(
        "--levels",
        metavar="N",
        type=as_whole_number,
        default=64,
        help="noise levels of the variational bound (default 64)",
    )
    verb.add_argument(
        "--draws",
        metavar="K",
        type=as_whole_number,
        default=64,
        help="latent samples for each image in the bounds of a VAE (default 64)",
    )
    verb.add_argument(
        "--bound-only", action="store_true", help="skip the probability flow ODE, which takes most of the time"
    )
    add_seed_option(verb)
    add_device_option(verb)
    add_out_option(verb, "the folder for the result, likelihood.json")
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
