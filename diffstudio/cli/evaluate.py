"""The verb `diffstudio evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from diffstudio.cli.arguments import Verbs, as_path, as_text, as_whole_number
from diffstudio.cli.lab_verb import JSON_HELP, OnProgress, add_device_option, run_verb

if TYPE_CHECKING:
    from diffstudio.studio.evaluations.result import Evaluation


def add_evaluate(verbs: Verbs) -> None:
    verb = verbs.add_parser(
        "evaluate",
        help="measure checkpoints or generated images against a folder of real images",
        allow_abbrev=False,
        description="Measure checkpoints trained here, or folders of generated images, against the folder of real images: how "
        "real, varied and original they are. Ctrl+C stops it; image generation goes first.",
    )
    verb.add_argument(
        "subjects",
        metavar="CHECKPOINT|IMAGES",
        nargs="+",
        type=as_text,
        help="a name from `models list`, a checkpoint's file, a run's folder, or a folder of generated images",
    )
    verb.add_argument("folder", metavar="FOLDER", type=as_path, help="the folder of real images, as it was trained on")
    verb.add_argument("--json", action="store_true", help=JSON_HELP)
    verb.add_argument(
        "--count",
        metavar="N",
        type=as_whole_number,
        help="images to generate with each checkpoint (default: as many as were held out, from 100 to 1,000)",
    )
    verb.add_argument("--seed", metavar="N", type=as_whole_number, default=0, help="of the first of them (default 0)")
    verb.add_argument(
        "--features",
        metavar="NAME|PATH",
        default="auto",
        type=as_text,
        help="the network that images are compared with: imagenet (the default for grey and RGB), folder (trained on the "
        "folder's training part), or inception, dinov2 or clip from your model folders or a path",
    )
    add_device_option(verb)
    verb.add_argument("--out", metavar="PATH", type=as_path, help="a folder for the result as evaluation.json")
    verb.set_defaults(do=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from diffstudio.studio.evaluations.subjects import image_folders

    def work(on_progress: OnProgress, on_wait: Callable[[], None], cancelled: Callable[[], bool]) -> Evaluation:
        from diffstudio.models.library.library import Library
        from diffstudio.studio.evaluations.request import EvaluateRequest
        from diffstudio.studio.settings import load_settings

        settings = load_settings()
        request = EvaluateRequest(
            tuple(arguments.subjects),
            arguments.folder,
            arguments.count,
            arguments.seed,
            arguments.features,
            arguments.device or settings.device,
            arguments.out,
        )
        from diffstudio.studio.evaluations.evaluate import evaluate

        return evaluate(
            request, Library(settings.folders), on_progress=on_progress, on_wait=on_wait, cancelled=cancelled
        )

    return run_verb(arguments, work, (arguments.folder, *image_folders(arguments.subjects)))
