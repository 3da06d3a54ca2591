"""The verb `diffstudio restore`."""

from __future__ import annotations

import argparse
from functools import partial

from diffstudio.cli.arguments import Parser, as_number, as_path, as_text, as_whole_number
from diffstudio.cli.lab.lab_verb import (
    Engine,
    add_checkpoint_argument,
    add_device_option,
    add_json_option,
    add_out_option,
    add_seed_option,
    run_verb,
)

_TASKS = "denoise (default), deblur, inpaint or super-resolution"


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Restore images with a diffusion model of pixels, such as one that was trained here: the posterior mean, a posterior "
        "sample, or a blend of both. Size, grey or colour, transparency and 16 bits are kept. Ctrl+C stops it. Image "
        "generation takes priority."
    )
    add_checkpoint_argument(verb)
    verb.add_argument("images", metavar="IMAGE|FOLDER", type=as_path, help="an image, or a folder of images")
    verb.add_argument("--task", metavar="NAME", type=as_text, default="denoise", help=_TASKS)
    add_out_option(verb, "the folder for the restored images", required=True)
    verb.add_argument(
        "--share",
        metavar="X",
        type=as_number,
        default=0.0,
        help="share of the sample, from 0 (posterior mean, highest PSNR) to 1 (posterior sample) (default 0)",
    )
    verb.add_argument(
        "--noise",
        metavar="X",
        type=as_number,
        help="standard deviation of the noise in levels of 255 (default: estimated for denoise and deblur, otherwise rounding)",
    )
    verb.add_argument(
        "--blur",
        metavar="PX",
        type=as_number,
        default=1.5,
        help="standard deviation of the Gaussian blur (default 1.5)",
    )
    verb.add_argument(
        "--scale", metavar="N", type=as_whole_number, default=2, help="scale factor of super-resolution (default 2)"
    )
    verb.add_argument(
        "--mask",
        metavar="PATH",
        type=as_path,
        help="mask for inpaint, white where the image is filled, or a folder of masks with the images' names "
        "(default: transparent pixels are filled)",
    )
    verb.add_argument(
        "--mean-only", action="store_true", help="skip the sample for denoise, which takes most of its time"
    )
    verb.add_argument(
        "--steps", metavar="N", type=as_whole_number, default=20, help="steps of each sample (default 20)"
    )
    verb.add_argument(
        "--draws",
        metavar="N",
        type=as_whole_number,
        default=4,
        help="samples to average for the mean, except for denoise (default 4)",
    )
    verb.add_argument(
        "--prompt", metavar="T", type=as_text, default="", help="prompt or class of the images (default: none)"
    )
    add_seed_option(verb)
    add_device_option(verb)
    add_json_option(verb)
    verb.set_defaults(do=_restore)


def _restore(arguments: argparse.Namespace) -> int:
    def prepare(device: str) -> Engine:
        from diffstudio.studio.evaluations.restore.request import RestoreRequest, task_of

        names = ("noise", "blur", "scale", "mask", "share", "mean_only", "steps", "draws", "prompt", "seed")
        options = {name: getattr(arguments, name) for name in names}
        request = RestoreRequest(
            arguments.checkpoint, arguments.images, task_of(arguments.task), arguments.out, device=device, **options
        )
        from diffstudio.studio.evaluations.restore.restore import restore

        return partial(restore, request)

    return run_verb(arguments, prepare, [path for path in (arguments.images, arguments.mask) if path is not None])
