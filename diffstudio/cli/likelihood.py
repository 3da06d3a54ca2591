"""The verb `diffstudio likelihood`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from diffstudio.cli.arguments import Verbs, as_path, as_text, as_whole_number
from diffstudio.cli.lab_verb import SEED_HELP, OnProgress, add_device_option, run_verb

if TYPE_CHECKING:
    from diffstudio.studio.evaluations.likelihood.result import LikelihoodResult


def add_likelihood(verbs: Verbs) -> None:
    verb = verbs.add_parser(
        "likelihood",
        help="measure how likely the images of a folder are under a checkpoint",
        allow_abbrev=False,
        description="Measure the bits per dimension that a checkpoint trained here needs for held-out and for training images: "
        "diffusion models by their probability flow and by a variational bound, VAEs by the ELBO and the importance-weighted "
        "bound. Lower is better. Ctrl+C stops it; image generation goes first.",
    )
    verb.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=as_text, help="a name from `models list`, its file, or a run's folder"
    )
    verb.add_argument(
        "folder", metavar="FOLDER", type=as_path, help="the folder that it was trained on, or another one"
    )
    verb.add_argument(
        "--json", action="store_true", help="print everything, each image too, as JSON instead of the table"
    )
    verb.add_argument(
        "--count", metavar="N", type=as_whole_number, default=64, help="images of each part, at most (default 64)"
    )
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
    verb.add_argument("--seed", metavar="N", type=as_whole_number, default=0, help=SEED_HELP)
    add_device_option(verb)
    verb.add_argument("--out", metavar="PATH", type=as_path, help="a folder for the result as likelihood.json")
    verb.set_defaults(do=_likelihood)


def _likelihood(arguments: argparse.Namespace) -> int:
    def work(on_progress: OnProgress, on_wait: Callable[[], None], cancelled: Callable[[], bool]) -> LikelihoodResult:
        from diffstudio.models.library.library import Library
        from diffstudio.studio.evaluations.likelihood.request import LikelihoodRequest
        from diffstudio.studio.settings import load_settings

        settings = load_settings()
        request = LikelihoodRequest(
            arguments.checkpoint,
            arguments.folder,
            arguments.count,
            arguments.probes,
            arguments.levels,
            flow=not arguments.bound_only,
            seed=arguments.seed,
            device=arguments.device or settings.device,
            out=arguments.out,
            draws=arguments.draws,
        )
        from diffstudio.studio.evaluations.likelihood.likelihood import likelihood

        return likelihood(
            request, Library(settings.folders), on_progress=on_progress, on_wait=on_wait, cancelled=cancelled
        )

    return run_verb(arguments, work, (arguments.folder,))
