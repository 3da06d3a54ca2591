"""The verb `diffstudio attention`."""

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


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "Generate one image and record an attention map for each word of its prompt, by layer and step; then mask "
        "each word and show what changes. Recording does not change the image. Maps are attention weights for U-Nets and "
        "checkpoints trained here, attention outputs for other transformers. Ctrl+C stops it. Image generation takes priority."
    )
    add_checkpoint_argument(verb)
    verb.add_prompt("the prompt, with prompt weighting")
    add_json_option(verb)
    verb.add_argument("--negative", metavar="TEXT", type=as_text, default="", help="the negative prompt")
    add_seed_option(verb, "of the image (default 0)")
    verb.add_argument(
        "--steps", metavar="N", type=as_whole_number, help="steps (default: as the checkpoint recommends)"
    )
    verb.add_argument(
        "--guidance", metavar="X", type=as_number, help="CFG scale (default: as the checkpoint recommends)"
    )
    for side in ("width", "height"):
        verb.add_argument(f"--{side}", metavar="PX", type=as_whole_number, help=f"{side} in px")
    verb.add_argument(
        "--maps",
        metavar="KIND",
        default="auto",
        type=as_text,
        help="attention `weights` or `outputs`; checkpoints trained here have both (default: weights if available)",
    )
    verb.add_argument(
        "--test",
        metavar="N",
        type=as_whole_number,
        default=8,
        help="number of words to mask one after the other in the deletion test (default 8; 0 skips the test)",
    )
    add_device_option(verb)
    add_out_option(verb, "the folder for the images, attention.npz and attention.json", required=True)
    verb.set_defaults(do=_attention)


def _attention(arguments: argparse.Namespace) -> int:
    def prepare(device: str) -> Engine:
        from diffstudio.studio.evaluations.attention.request import AttentionRequest

        request = AttentionRequest(
            arguments.checkpoint,
            arguments.prompt,
            arguments.out,
            arguments.negative,
            arguments.seed,
            arguments.steps,
            arguments.guidance,
            arguments.width,
            arguments.height,
            arguments.maps,
            arguments.test,
            device,
        )
        from diffstudio.studio.evaluations.attention.attention import attention

        return partial(attention, request)

    return run_verb(arguments, prepare, ())
