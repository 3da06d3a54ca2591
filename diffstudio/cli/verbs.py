"""The verbs of the command line. The module of a verb is imported only when that verb is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from diffstudio.cli.arguments import Parser

# name, module, help
VERBS = (
    ("generate", "generate", "generate images from a prompt"),
    ("upscale", "upscale", "upscale an image"),
    ("train", "train", "train a model on a folder of images"),
    ("evaluate", "lab.evaluate", "measure checkpoints or generated images against a folder of real images"),
    ("compare", "lab.compare", "train several kinds of model on a folder for the same time and compare them"),
    ("likelihood", "lab.likelihood", "measure how likely the images of a folder are under a checkpoint"),
    (
        "synthesise",
        "lab.synthesise",
        "generate a labelled dataset without copies, and test whether it helps a classifier",
    ),
    ("anomalies", "lab.anomalies", "find the images of a folder that are unlike normal ones"),
    ("attention", "lab.attention", "show where the words of a prompt act in the generated image"),
    ("map", "lab.image_map", "lay out images and samples by their features"),
    ("features", "lab.features", "compute and probe the features of images in a denoiser, by layer and noise level"),
    ("restore", "lab.restore", "denoise, deblur, inpaint or enlarge images with a pixel model"),
    ("reverse", "lab.reverse", "record the reverse process of an image, step by step"),
    ("models", "models", "manage checkpoints and other models"),
)


def add_verbs(parser: Parser) -> None:
    """Add all verbs to the parser of the program."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=_VerbParser)
    for name, module, about in VERBS:
        verbs.add_parser(name, help=about, module=f"diffstudio.cli.{module}", allow_abbrev=False)


class _VerbParser(Parser):
    """The parser of a verb. Its module's `add_arguments(parser)` gives it a description and arguments on first use."""

    def __init__(self, *, module: str, **options: Any) -> None:
        super().__init__(**options)
        self._module: str | None = module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        if self._module is not None:
            import_module(self._module).add_arguments(self)
            self._module = None
        return super().parse_known_args(args, namespace)
