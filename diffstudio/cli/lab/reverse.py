"""The verb `diffstudio reverse`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Parser, as_number, as_text, as_whole_number
from diffstudio.cli.lab.lab_verb import (
    Engine,
    add_checkpoint_argument,
    add_device_option,
    add_json_option,
    add_out_option,
    add_seed_option,
    run_verb,
)

_OPTIONS = ("negative", "seed", "steps", "sampler", "spacing", "guidance", "width", "height")


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Generate one image and keep every step: the noisy state, the estimate of the clean image, the noise and "
        "the score, as frames and as an animated GIF. Ctrl+C stops it. Image generation takes priority."
    )
    add_checkpoint_argument(verb)
    verb.add_argument(
        "--prompt", metavar="T", type=as_text, default="", help="prompt or class of the image (default: none)"
    )
    add_out_option(verb, "the folder for the frames and the animation", required=True)
    verb.add_argument("--negative", "--negative-prompt", metavar="T", type=as_text, default="", help="negative prompt")
    verb.add_argument("--steps", metavar="N", type=as_whole_number, help="sampling steps")
    verb.add_argument("--sampler", metavar="NAME", type=as_text, default="", help="as in `generate`")
    verb.add_argument("--spacing", metavar="NAME", type=as_text, default="", help="scheduler, as in `generate`")
    verb.add_argument("--guidance", "--cfg-scale", metavar="X", type=as_number, help="CFG scale")
    verb.add_argument("--width", metavar="PX", type=as_whole_number, help="of the image")
    verb.add_argument("--height", metavar="PX", type=as_whole_number, help="of the image")
    add_seed_option(verb, "of the noise (default 0)")
    add_device_option(verb)
    add_json_option(verb)
    verb.set_defaults(do=_reverse)


def _reverse(arguments: argparse.Namespace) -> int:
    def prepare(device: str) -> Engine:
        from diffstudio.studio.evaluations.reverse.request import ReverseRequest

        options = {name: getattr(arguments, name) for name in _OPTIONS}
        request = ReverseRequest(arguments.checkpoint, arguments.prompt, arguments.out, device=device, **options)
        from diffstudio.studio.evaluations.reverse.reverse import reverse

        return partial(reverse, request)

    return run_verb(arguments, prepare, ())
