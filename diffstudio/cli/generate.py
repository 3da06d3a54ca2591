"""The verb `diffstudio generate`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from diffstudio.cli.arguments import (
    CLIP_SKIP_HELP,
    VAE_HELP,
    Parser,
    as_number,
    as_pair,
    as_path,
    as_text,
    as_whole_number,
    spacing_help,
    with_named_schedule,
)
from diffstudio.cli.controlnet import add_controls, controls_of
from diffstudio.cli.run_job import add_output, run_request
from diffstudio.cli.terminal import print_message, read_user_settings
from diffstudio.errors import BadRequest
from diffstudio.models.checkpoint import Checkpoint
from diffstudio.studio.guidance_support import earlier_checkpoints, suggested
from diffstudio.studio.requests import GenerateRequest, SamplerName
from diffstudio.studio.requests.choices import LANCZOS, LATENT, FillName, ResizeName

_EARLY = "early"  # given instead of the name of a weaker checkpoint
_DEFAULT = GenerateRequest()


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Generate images from a prompt (txt2img), from an image (img2img, --init), or in a masked area (inpaint, "
        "--mask; outpaint, --outpaint), and print the path of each."
    )
    verb.argument_default = argparse.SUPPRESS  # only what was given
    _add_model(verb)
    _add_sampling(verb)
    _add_init_image(verb)
    add_controls(verb)
    _add_hires_fix(verb)
    add_output(verb, "a .png file, a pattern with {seed} or {number}, or a folder")
    verb.set_defaults(do=_generate)


def _add_model(verb: Parser) -> None:
    verb.add_prompt("what the image shows")
    verb.add_argument("--negative", "--negative-prompt", metavar="T", type=as_text, help="negative prompt")
    verb.add_argument(
        "--checkpoint",
        metavar="NAME|PATH",
        type=as_text,
        help=f"a name from `models list`, or a file (default {_DEFAULT.checkpoint})",
    )
    verb.add_argument("--vae", metavar="NAME|PATH", type=as_text, help=VAE_HELP)
    verb.add_argument("--clip-skip", metavar="N", type=as_whole_number, help=CLIP_SKIP_HELP)


def _add_sampling(verb: Parser) -> None:
    verb.add_argument(
        "--seed", metavar="N", type=as_whole_number, help="the same seed gives the same image (default 0)"
    )
    verb.add_argument(
        "--steps", metavar="N", type=as_whole_number, help="sampling steps (default: as the checkpoint recommends)"
    )
    verb.add_argument("--sampler", metavar="NAME", help=f"sampler: {', '.join(SamplerName)} (default: as recommended)")
    verb.add_argument("--spacing", metavar="NAME", help=f"{spacing_help()} (default: as recommended)")
    verb.add_argument(
        "--guidance",
        "--cfg-scale",
        metavar="X",
        type=as_number,
        help="CFG scale: how closely the prompt is followed (default: as recommended)",
    )
    verb.add_argument(
        "--guide-last-call",
        action="store_true",
        help="apply CFG to the last call of the network too, as version 0.1 did for checkpoints trained with diffstudio "
        "(adds grain)",
    )
    _add_guidance(verb)
    verb.add_argument(
        "--truncation",
        metavar="X",
        type=as_number,
        help="truncation psi of a GAN, temperature of a VAE: below 1 images are more typical and less varied (default 1)",
    )
    for side in ("--width", "--height"):
        verb.add_argument(side, metavar="N", type=as_whole_number, help="px (default: the checkpoint's own)")
    verb.add_argument(
        "--count", metavar="N", type=as_whole_number, help="number of images; image i has seed + i (default 1)"
    )


def _add_init_image(verb: Parser) -> None:
    verb.add_argument("--init", metavar="IMAGE", type=as_path, help="img2img: the image to start from")
    verb.add_argument(
        "--strength",
        "--denoising-strength",
        metavar="X",
        type=as_number,
        help="denoising strength of img2img and inpaint, above 0 and up to 1 (default 1)",
    )
    verb.add_argument("--mask", metavar="IMAGE", type=as_path, help="inpaint: white is inpainted, black is kept")
    verb.add_argument(
        "--resize",
        metavar="NAME",
        help=f"how the init image is fitted to the size: {', '.join(ResizeName)} (default crop)",
    )
    verb.add_argument(
        "--fill",
        metavar="NAME",
        help=f"content of the masked area at the start: {', '.join(FillName)} (default original)",
    )
    verb.add_argument("--feather", metavar="PX", type=as_whole_number, help="mask blur, px (default 0)")
    verb.add_argument("--masked-only", action="store_true", help="inpaint only the masked area, at full resolution")
    verb.add_argument(
        "--padding",
        metavar="PX",
        type=as_whole_number,
        help=f"px around the mask for --masked-only (default {_DEFAULT.padding})",
    )
    verb.add_argument(
        "--outpaint", metavar="L,T,R,B", type=_sides, help="outpaint: px to add on the left, top, right, bottom"
    )


def _add_hires_fix(verb: Parser) -> None:
    verb.add_argument(
        "--enlarge",
        metavar="X",
        type=as_number,
        help="hires fix: upscale each image by this factor and sample it again",
    )
    verb.add_argument(
        "--upscaler",
        metavar="NAME",
        type=as_text,
        help=f"hires fix: {LANCZOS}, {LATENT}, a name from `models list --role upscaler`, or a checkpoint with an upper "
        f"level (default {_DEFAULT.upscaler})",
    )
    verb.add_argument(
        "--enlarge-strength",
        metavar="X",
        type=as_number,
        help=f"denoising strength of the hires fix, above 0 and up to 1 (default {_DEFAULT.enlarge_strength:g})",
    )
    verb.add_argument(
        "--enlarge-steps", metavar="N", type=as_whole_number, help="steps of the hires fix (default: as --steps)"
    )
    verb.add_argument(
        "--enlarge-guidance",
        metavar="X",
        type=as_number,
        help="CFG scale of the hires fix (default: as --guidance; 0, without the prompt, for checkpoints trained with "
        "diffstudio)",
    )
    verb.add_argument(
        "--tiled",
        action="store_true",
        help="hires fix in tiles (MultiDiffusion) even if the checkpoint could do without",
    )


def _add_guidance(verb: argparse.ArgumentParser) -> None:
    """Add the options for the guidance interval, autoguidance and CADS."""
    verb.add_argument(
        "--guidance-interval",
        metavar="LOW,HIGH",
        type=as_pair,
        help="apply CFG only between these noise levels, from 0 (clean) to 1 (noise), for example 0.1,0.8",
    )
    verb.add_argument(
        "--autoguidance",
        metavar="NAME|PATH",
        type=as_text,
        help="guide away from this weaker checkpoint of the same family; `early` takes one of the same run, at about an "
        "eighth of its training",
    )
    verb.add_argument(
        "--autoguidance-scale",
        metavar="X",
        type=as_number,
        help=f"autoguidance scale, 1 or more; 1 turns it off (default {_DEFAULT.autoguidance_scale:g})",
    )
    verb.add_argument(
        "--cads",
        metavar="S",
        type=as_number,
        help="CADS: scale of the noise added to the prompt embeddings, for more varied images (default 0: off)",
    )
    for name, what, usual in (
        ("tau1", "noise level below which the prompt is unchanged", _DEFAULT.cads_tau1),
        ("tau2", "noise level above which the prompt is replaced by noise", _DEFAULT.cads_tau2),
        ("mixing", "how far mean and standard deviation of the embeddings are restored", _DEFAULT.cads_mixing),
    ):
        verb.add_argument(f"--cads-{name}", metavar="X", type=as_number, help=f"CADS: {what} (default {usual:g})")


def _generate(arguments: argparse.Namespace) -> int:
    from diffstudio.models.library.library import Library
    from diffstudio.models.library.lookup import find_vae
    from diffstudio.models.recommended import recommended_values
    from diffstudio.studio.fitted_spacing import with_fitted_times
    from diffstudio.studio.prompts.prompt_hints import prompt_hint
    from diffstudio.studio.prompts.wildcards import PromptVariants

    names = {field.name for field in dataclasses.fields(GenerateRequest)}
    given = with_named_schedule({name: value for name, value in vars(arguments).items() if name in names})
    if "strength" in given and "init" not in given:
        raise BadRequest(
            "--strength was given without an image",
            "denoising strength is a setting of img2img",
            "Give the image to start from with --init",
        )
    mask_options = sorted({"fill", "feather", "masked_only", "padding"} & given.keys())
    if mask_options and not {"mask", "outpaint"} & given.keys():
        raise BadRequest(
            f"--{mask_options[0].replace('_', '-')} was given without a mask", remedy="Give --mask or --outpaint"
        )
    hires_options = sorted(
        {"upscaler", "enlarge_strength", "enlarge_steps", "enlarge_guidance", "tiled"} & given.keys()
    )
    if hires_options and not given.get("enlarge", 1) > 1:
        raise BadRequest(
            f"--{hires_options[0].replace('_', '-')} was given without a hires fix",
            remedy="Give the upscale factor with --enlarge",
        )
    _check_given_with("autoguidance", {"autoguidance_scale"}, given)
    _check_given_with("cads", {"cads_tau1", "cads_tau2", "cads_mixing"}, given)
    request = GenerateRequest(**given, controls=controls_of(arguments))
    settings = read_user_settings()
    library = Library(settings.folders)
    if request.checkpoint:  # found before anything heavy is loaded
        checkpoint = library.find(request.checkpoint)
        if request.autoguidance == _EARLY:
            given["autoguidance"] = str(_early_checkpoint(checkpoint))
        request = dataclasses.replace(request, **(recommended_values(checkpoint, fitted=True) | given))
        request, note = with_fitted_times(request, checkpoint)
        if note:
            print_message(note)
        if hint := prompt_hint(PromptVariants(request, checkpoint).prompts(0), checkpoint):
            print_message(hint)
    if request.vae:
        find_vae(library, request.vae)
    return run_request(request, arguments, library, settings)


def _check_given_with(option: str, details: set[str], given: Mapping[str, object]) -> None:
    """BadRequest for an option that has no effect because `option` is missing."""
    for name in sorted(details & given.keys() if option not in given else ()):
        raise BadRequest(
            f"--{name.replace('_', '-')} has no effect without --{option}", remedy=f"Add --{option}, or leave it out"
        )


def _early_checkpoint(checkpoint: Checkpoint) -> Path:
    found = suggested(earlier_checkpoints(checkpoint), checkpoint)
    if found is None:
        raise BadRequest(
            f"{checkpoint.name} has no earlier checkpoint",
            "it is not part of a training run, or the run kept no earlier checkpoint",
            "Name a weaker checkpoint of the same family with --autoguidance",
        )
    return found.path


def _sides(text: str) -> tuple[int, ...]:
    sides = tuple(as_whole_number(side) for side in text.split(","))
    if len(sides) != 4:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not four numbers separated by commas")
    return sides
