"""The verb `diffstudio upscale`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from diffstudio.cli.arguments import (
    CLIP_SKIP_HELP,
    VAE_HELP,
    Parser,
    as_number,
    as_path,
    as_text,
    as_whole_number,
    spacing_help,
    with_named_schedule,
)
from diffstudio.cli.run_job import add_output, run_request
from diffstudio.cli.terminal import print_message, read_user_settings
from diffstudio.errors import BadRequest, no_image_at
from diffstudio.studio.requests import SamplerName, UpscaleRequest
from diffstudio.studio.requests.choices import LANCZOS, LATENT
from diffstudio.studio.requests.limits import MOST_ENLARGED

# options that have no effect without a checkpoint
_SAMPLING = ("strength", "steps", "sampler", "spacing", "enlarge_guidance", "seed", "vae", "tiled", "clip_skip")


def add_arguments(verb: Parser) -> None:
    default = UpscaleRequest(Path("image.png"))
    verb.description = (
        "Upscale an image: with an upscaler alone, or, with --checkpoint or --strength, followed by img2img "
        "(as in a hires fix). The prompt and settings are read from the image's metadata unless given."
    )
    verb.argument_default = argparse.SUPPRESS  # only what was given
    verb.add_argument("image", metavar="IMAGE", type=as_path, help="the image to upscale")
    verb.add_argument(
        "--scale", metavar="X", type=as_number, help=f"upscale factor, 1 to {MOST_ENLARGED} (default {default.scale:g})"
    )
    verb.add_argument(
        "--upscaler",
        metavar="NAME",
        type=as_text,
        help=f"{LANCZOS}, {LATENT}, a name from `models list --role upscaler`, or a checkpoint with an upper level, such "
        f"as four-styles (default {default.upscaler})",
    )
    verb.add_argument(
        "--checkpoint", metavar="NAME|PATH", type=as_text, help="img2img the upscaled image with this checkpoint"
    )
    verb.add_argument("--vae", metavar="NAME|PATH", type=as_text, help=VAE_HELP)
    verb.add_argument(
        "--strength",
        "--denoising-strength",
        metavar="X",
        type=as_number,
        help=f"denoising strength of the img2img pass, above 0 and up to 1 (default {default.strength:g})",
    )
    verb.add_argument("--prompt", metavar="T", type=as_text, help="default: the prompt in the image's metadata")
    verb.add_argument("--negative", "--negative-prompt", metavar="T", type=as_text, help="negative prompt")
    verb.add_argument("--steps", metavar="N", type=as_whole_number, help="sampling steps")
    verb.add_argument("--sampler", metavar="NAME", help=f"sampler: {', '.join(SamplerName)}")
    verb.add_argument("--spacing", metavar="NAME", help=spacing_help())
    verb.add_argument(
        "--guidance",
        "--cfg-scale",
        dest="enlarge_guidance",
        metavar="X",
        type=as_number,
        help="CFG scale (default: from the image's metadata; 0, without the prompt, for checkpoints trained with "
        "diffstudio)",
    )
    verb.add_argument("--clip-skip", metavar="N", type=as_whole_number, help=CLIP_SKIP_HELP)
    verb.add_argument("--seed", metavar="N", type=as_whole_number, help="seed of the noise")
    verb.add_argument(
        "--tiled", action="store_true", help="sample in tiles (MultiDiffusion) even if the checkpoint could do without"
    )
    add_output(verb, "a .png file or a folder")
    verb.set_defaults(do=_upscale)


def _upscale(arguments: argparse.Namespace) -> int:
    from diffstudio.models.library.library import Library
    from diffstudio.models.library.lookup import find_vae
    from diffstudio.models.recommended import recommended_values
    from diffstudio.studio.fitted_spacing import with_fitted_times
    from diffstudio.studio.generation.upscaler_lookup import find_upscaler, upscale_request

    names = {field.name for field in dataclasses.fields(UpscaleRequest)} - {"source"}
    given = with_named_schedule({name: value for name, value in vars(arguments).items() if name in names})
    if not arguments.image.is_file():
        raise no_image_at(arguments.image)
    sampled = "checkpoint" in given or "strength" in given
    unused = [name for name in _SAMPLING if name in given]
    if unused and not sampled:
        raise BadRequest(
            f"--{unused[0].removeprefix('enlarge_')} was given, but nothing is sampled",
            "an upscaler alone does not use it",
            "Choose a checkpoint with --checkpoint, or give --strength to use the one in the image's metadata",
        )
    settings = read_user_settings()
    library = Library(settings.folders)
    named = str(given.get("checkpoint", ""))
    usual = recommended_values(library.find(named), fitted=True) if named else {}
    request = upscale_request(arguments.image, sampled=sampled, usual=usual, **given)
    if request.checkpoint:  # found before anything heavy is loaded
        request, note = with_fitted_times(request, library.find(request.checkpoint))
        if note:
            print_message(note)
    find_upscaler(request.upscaler, library)
    if request.vae:
        find_vae(library, request.vae)
    return run_request(request, arguments, library, settings)
