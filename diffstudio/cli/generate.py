"""The verb `diffstudio generate`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from diffstudio.cli.arguments import as_number, as_path, as_text, as_whole_number
from diffstudio.cli.controlnet import add_controls, controls_of
from diffstudio.cli.pictures import make
from diffstudio.errors import BadRequest
from diffstudio.studio.requests import LANCZOS, LATENT, FillName, GenerateRequest, ResizeName, SamplerName, SpacingName

if TYPE_CHECKING:
    pass


def add_generate(verbs: Any) -> None:
    usual = GenerateRequest()
    verb = verbs.add_parser(
        "generate",
        help="make pictures from a prompt",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        description="Make pictures from a prompt and print where they were written.",
    )
    verb.add_argument("prompt", metavar="PROMPT", type=as_text, help="what the picture shows")
    verb.add_argument("--negative", metavar="T", type=as_text, help="what it should not show")
    verb.add_argument(
        "--checkpoint",
        metavar="NAME|PATH",
        type=as_text,
        help=f"a name from `models list`, or a file (default {usual.checkpoint})",
    )
    verb.add_argument(
        "--vae", metavar="NAME|PATH", type=as_text, help="an autoencoder to use in place of the checkpoint's own"
    )
    verb.add_argument(
        "--seed", metavar="N", type=as_whole_number, help="the same seed makes the same picture (default 0)"
    )
    verb.add_argument("--steps", metavar="N", type=as_whole_number, help=f"default {usual.steps}")
    verb.add_argument("--sampler", metavar="NAME", help=f"{', '.join(SamplerName)} (default {usual.sampler})")
    verb.add_argument("--spacing", metavar="NAME", help=f"{', '.join(SpacingName)} (default {usual.spacing})")
    verb.add_argument(
        "--guidance",
        metavar="X",
        type=as_number,
        help=f"how closely the prompt is followed (default {usual.guidance:g})",
    )
    verb.add_argument(
        "--guide-last-call",
        action="store_true",
        help="guide the last call of the network too, as version 0.1 did for checkpoints trained here (grainier)",
    )
    verb.add_argument("--width", metavar="N", type=as_whole_number, help="px; the checkpoint's own unless given")
    verb.add_argument("--height", metavar="N", type=as_whole_number, help="px; the checkpoint's own unless given")
    verb.add_argument(
        "--count", metavar="N", type=as_whole_number, help="how many pictures; image i has seed + i (default 1)"
    )
    verb.add_argument("--init", metavar="IMAGE", type=as_path, help="a picture to start from")
    verb.add_argument(
        "--strength", metavar="X", type=as_number, help="how far from that picture: just above 0 to 1 (default 1)"
    )
    verb.add_argument("--mask", metavar="IMAGE", type=as_path, help="white is painted anew, black is kept")
    verb.add_argument(
        "--resize", metavar="NAME", help=f"how the picture comes to its size: {', '.join(ResizeName)} (default crop)"
    )
    verb.add_argument(
        "--fill", metavar="NAME", help=f"what lies under the mask: {', '.join(FillName)} (default original)"
    )
    verb.add_argument(
        "--feather", metavar="PX", type=as_whole_number, help="px over which what is painted fades in (default 0)"
    )
    verb.add_argument(
        "--masked-only", action="store_true", help="make the part around the mask at full size; the rest keeps its own"
    )
    verb.add_argument(
        "--padding",
        metavar="PX",
        type=as_whole_number,
        help=f"what is seen around the mask then (default {usual.padding})",
    )
    verb.add_argument(
        "--outpaint", metavar="L,T,R,B", type=_sides, help="px to paint around the picture: left, top, right, bottom"
    )
    add_controls(verb)
    verb.add_argument("--enlarge", metavar="X", type=as_number, help="make each so many times larger in a second pass")
    verb.add_argument(
        "--upscaler",
        metavar="NAME",
        type=as_text,
        help=f"what enlarges it: {LANCZOS}, {LATENT}, or an upscaler's name (default {usual.upscaler})",
    )
    verb.add_argument(
        "--enlarge-strength",
        metavar="X",
        type=as_number,
        help=f"how far that pass goes from it: just above 0 to 1 (default {usual.enlarge_strength:g})",
    )
    verb.add_argument(
        "--enlarge-steps", metavar="N", type=as_whole_number, help="steps of that pass (default: as many as --steps)"
    )
    verb.add_argument(
        "--enlarge-guidance",
        metavar="X",
        type=as_number,
        help="guidance of that pass (default: as --guidance; 0 for checkpoints trained here: by what is there)",
    )
    verb.add_argument(
        "--tiled", action="store_true", help="that pass in windows, also where the checkpoint could do it whole"
    )
    verb.add_argument(
        "--out",
        metavar="PATH",
        type=as_path,
        required=True,
        help="a .png, a pattern with {seed} or {number}, or a folder",
    )
    verb.set_defaults(do=_generate)


def _generate(arguments: argparse.Namespace) -> int:
    from diffstudio.models.library.library import Library
    from diffstudio.models.library.lookup import find_vae
    from diffstudio.studio.settings import load_settings

    names = {field.name for field in dataclasses.fields(GenerateRequest)}
    asked = {name: value for name, value in vars(arguments).items() if name in names}
    if "strength" in asked and "init" not in asked:
        raise BadRequest(
            "A strength was given without a picture",
            "it says how far to go from one",
            "Give the picture to start from with --init",
        )
    about_mask = sorted({"fill", "feather", "masked_only", "padding"} & asked.keys())
    if about_mask and not {"mask", "outpaint"} & asked.keys():
        raise BadRequest(
            f"--{about_mask[0].replace('_', '-')} was given without a mask",
            remedy="Give one with --mask, or --outpaint",
        )
    about_larger = sorted({"upscaler", "enlarge_strength", "enlarge_steps", "enlarge_guidance", "tiled"} & asked.keys())
    if about_larger and not asked.get("enlarge", 1) > 1:
        raise BadRequest(
            f"--{about_larger[0].replace('_', '-')} was given, and nothing is enlarged",
            remedy="Say how many times larger with --enlarge",
        )
    request = GenerateRequest(**asked, controls=controls_of(arguments))
    settings = load_settings()
    library = Library(settings.folders)
    if request.checkpoint:
        library.find(request.checkpoint)  # before anything heavy is loaded
    if request.vae:
        find_vae(library, request.vae)
    return make(request, arguments.out, library, settings)


def _sides(text: str) -> tuple[int, ...]:
    sides = tuple(as_whole_number(side) for side in text.split(","))
    if len(sides) != 4:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not four numbers with commas between them")
    return sides
