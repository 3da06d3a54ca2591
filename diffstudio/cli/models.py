"""The verbs of `diffstudio models`, except those in weights.py and post_hoc_ema.py."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffstudio.cli.arguments import Parser, as_number, as_path, as_text, as_whole_number
from diffstudio.cli.lab.lab_verb import Engine, add_device_option, add_json_option, add_out_option, run_verb
from diffstudio.cli.post_hoc_ema import add_post_hoc_ema
from diffstudio.cli.terminal import printable, progress, read_user_settings
from diffstudio.cli.weights import Add, add_weights
from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.studio.evaluations.fitted_steps.request import CALLS, FITTABLE, FitStepsRequest

if TYPE_CHECKING:
    from diffstudio.models.checkpoint import Checkpoint


def add_arguments(verb: Parser) -> None:
    verb.description = (
        "The models on this machine: the included checkpoints, models trained with diffstudio, and files in the "
        "model folders."
    )
    subverbs = verb.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=Parser)

    def add(name: str, about: str, do: Callable[[argparse.Namespace], int], *, aliases: Sequence[str] = ()) -> Parser:
        parser = subverbs.add_parser(
            name, aliases=aliases, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False
        )
        parser.set_defaults(do=do)
        return parser

    listing = add("list", "list the models, one per line", _list_models)
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.add_argument(
        "--role", metavar="NAME", type=as_text, help="only models with this role: checkpoint, lora, vae …"
    )
    showing = add("show", "show the details and metadata of a model", _show_model)
    showing.add_argument("checkpoint", metavar="NAME|PATH", type=as_text)
    showing.add_argument("--json", action="store_true", help="as JSON")
    setting = add("set", "correct the detected family, edition or prediction type of a model", _set_model)
    setting.add_argument("checkpoint", metavar="NAME|PATH", type=as_text)
    setting.add_argument("--family", metavar="NAME", type=as_text, default="")
    setting.add_argument("--edition", metavar="NAME", type=as_text, default="", help="of the family: Turbo, Base, …")
    setting.add_argument(
        "--prediction", metavar="NAME", type=as_text, default="", help="prediction type: eps, v, flow, x0"
    )
    setting.add_argument("--clear", action="store_true", help="return to the detected type")
    importing = add("import", "copy a file into the models folder", _import_model)
    importing.add_argument("file", metavar="FILE", type=as_path)
    fetching = add(
        "fetch", "download a text encoder, a VAE or a tokenizer from its public repository", _fetch_components
    )
    fetching.add_argument(
        "components", metavar="COMPONENT", nargs="*", type=as_text, help="without one: list what can be downloaded"
    )
    add_weights(add)
    _add_fit_steps(add)
    add_post_hoc_ema(add)


def _add_fit_steps(add: Add) -> None:
    fitting = add("fit-steps", "fit the times of few steps to a checkpoint, for the scheduler *fitted*", _fit_steps)
    fitting.description = (
        "Find the times of the steps that bring a sampler closest to converged images of a checkpoint, with few network "
        "calls. Those that are closer than other schedulers are kept with it. Ctrl+C stops it. Image generation takes "
        "priority."
    )
    fitting.add_argument("checkpoint", metavar="NAME|PATH", type=as_text)
    fitting.add_argument(
        "--samplers",
        metavar="NAME",
        nargs="+",
        type=as_text,
        default=(),
        help=f"some of {', '.join(FITTABLE)} (default: the one that the checkpoint recommends)",
    )
    calls = ", ".join(map(str, CALLS))
    fitting.add_argument(
        "--calls", metavar="N", nargs="+", type=as_whole_number, default=CALLS, help=f"network calls (default {calls})"
    )
    fitting.add_argument(
        "--prompts", metavar="FILE", type=as_path, help="one prompt a line (default: captions of the checkpoint)"
    )
    usual = FitStepsRequest("")
    for name, what in (
        ("images", "images to fit with"),
        ("judged", "images to judge by"),
        ("effort", "network calls for refining the steps of one sampler and number of steps"),
    ):
        default = getattr(usual, name)
        fitting.add_argument(
            f"--{name}", metavar="N", type=as_whole_number, default=default, help=f"{what} (default {default})"
        )
    fitting.add_argument(
        "--guidance", metavar="X", type=as_number, help="CFG scale to fit for (default: as the checkpoint recommends)"
    )
    fitting.add_argument(
        "--recommend",
        metavar="N",
        type=as_whole_number,
        help="make the steps of the first sampler with N calls the recommended settings of the checkpoint",
    )
    add_device_option(fitting)
    add_json_option(fitting)
    add_out_option(fitting, "a folder for the result as models.json")


def _fit_steps(arguments: argparse.Namespace) -> int:
    def prepare(device: str) -> Engine:
        request = FitStepsRequest(
            arguments.checkpoint,
            tuple(arguments.samplers),
            tuple(arguments.calls),
            _lines_of(arguments.prompts) if arguments.prompts is not None else (),
            arguments.images,
            arguments.judged,
            arguments.guidance,
            arguments.effort,
            arguments.recommend,
            device,
            arguments.out,
        )
        from diffstudio.studio.evaluations.fitted_steps.fitting import fit_steps

        return partial(fit_steps, request)

    return run_verb(arguments, prepare, [] if arguments.prompts is None else [arguments.prompts])


def _lines_of(file: Path) -> tuple[str, ...]:
    """The prompts in a file, without empty lines."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"The prompts in {file} cannot be read", str(error)) from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not prompts:
        raise BadRequest(f"There are no prompts in {file}", remedy="Write one on each line")
    return prompts


def _list_models(arguments: argparse.Namespace) -> int:
    from diffstudio.models.detection.types import Role
    from diffstudio.models.library.library import Library

    library = Library(read_user_settings().folders)
    checkpoints = [found for found in library.scan() if arguments.role in (None, str(found.role))]
    if arguments.role is not None and arguments.role not in set(Role):
        raise BadRequest(f"There is no role called {arguments.role[:40]!r}", remedy=f"Choose one of {', '.join(Role)}")
    if arguments.json:
        print(_json([_as_json(checkpoint) for checkpoint in checkpoints]))
    elif checkpoints:
        rows = [("NAME", "FAMILY", "CONDITIONING", "SIZE", "PARAMETERS", "FILE", "ORIGIN", "ROLE")]
        rows += [
            (
                printable(c.name),
                printable(c.family),
                str(c.conditioning),
                f"{c.width} × {c.height}" if c.width else "?",
                f"{c.parameters / 1e6:.1f} M",
                f"{c.size_bytes / 1e6:.1f} MB",
                str(c.origin),
                str(c.role),
            )
            for c in checkpoints
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    elif arguments.role in (None, Role.CHECKPOINT):
        print("There are no checkpoints yet. Train one with `diffstudio train FOLDER`.", file=sys.stderr)
    else:
        print(f"There is no model with the role {arguments.role}.", file=sys.stderr)
    for path, problem in library.problems:
        print(printable(f"diffstudio: {path} was skipped. {problem}"), file=sys.stderr)
    return 0


def _show_model(arguments: argparse.Namespace) -> int:
    from diffstudio.models.files.hashes import autov2, sha256_of
    from diffstudio.models.library.library import Library

    checkpoint = Library(read_user_settings().folders).find(arguments.checkpoint)
    hashes = (
        {}
        if checkpoint.path.is_dir()
        else {"sha256": (sha256 := sha256_of(checkpoint.path)), "auto_v2": autov2(sha256)}
    )
    about = _as_json(checkpoint) | hashes | {"metadata": dict(checkpoint.metadata)}
    if arguments.json:
        print(_json(about))
        return 0
    for name, value in about.items():
        if name != "metadata" and value not in ([], ""):
            print(printable(f"{name:<13}{', '.join(map(str, value)) if isinstance(value, list) else value}"))
    for name, text in sorted(checkpoint.metadata.items()):
        print(printable(f"{name} = {text if len(text) <= 200 else text[:197] + '...'}"))
    return 0


def _json(value: object) -> str:
    """JSON with non-ASCII characters, unless the output cannot encode them."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=2)
    return text


def _as_json(checkpoint: Checkpoint) -> dict[str, Any]:
    from diffstudio.models.recommended import min_timestep_of

    return {
        "format": 1,
        "name": checkpoint.name,
        "title": checkpoint.title,
        "path": str(checkpoint.path),
        "family": checkpoint.family,
        "conditioning": str(checkpoint.conditioning),
        "classes": list(checkpoint.classes),
        "width": checkpoint.width,
        "height": checkpoint.height,
        "parameters": checkpoint.parameters,
        "dtype": checkpoint.dtype,
        "size_bytes": checkpoint.size_bytes,
        "origin": str(checkpoint.origin),
        "modified": checkpoint.modified,
        "role": str(checkpoint.role),
        "layout": str(checkpoint.layout),
        "prediction": checkpoint.prediction,
        "min_timestep": min_timestep_of(checkpoint),
        "inpainting": checkpoint.inpainting,
        "reason": checkpoint.reason,
    }


def _set_model(arguments: argparse.Namespace) -> int:
    from diffstudio.models.library.library import Library
    from diffstudio.models.library.overrides import Overrides

    checkpoint = Library(read_user_settings().folders).find(arguments.checkpoint)
    overrides = Overrides()
    if arguments.clear:
        cleared = overrides.clear(checkpoint)
        result = "has its detected type again" if cleared else "already has its detected type"
        print(printable(f"{checkpoint.name} {result}."))
        return 0
    if not arguments.family and not arguments.prediction and not arguments.edition:
        raise BadRequest("There is nothing to change", remedy="Give --family, --edition, --prediction or --clear")
    overrides.put(checkpoint, arguments.family, arguments.prediction, arguments.edition)
    now = Overrides().applied(checkpoint)
    print(printable(f"{now.name}: {now.family}, predicts {now.prediction}."))
    return 0


def _fetch_components(arguments: argparse.Namespace) -> int:
    from diffstudio import paths
    from diffstudio.cli.terminal import stop_signals
    from diffstudio.models.components.download import DOWNLOAD_SOURCES, download_bytes, download_component
    from diffstudio.models.components.requirements import COMPONENT_KINDS

    for name in DOWNLOAD_SOURCES if not arguments.components else ():
        origins = " and ".join(f"{origin.repository}: {origin.file}" for origin in DOWNLOAD_SOURCES[name])
        print(f"{name:<15} {download_bytes((name,)) / 1e9:5.1f} GB  {COMPONENT_KINDS[name].title}, from {origins}")
    folders = read_user_settings().folders
    with stop_signals() as stop:
        for name in arguments.components:
            title = COMPONENT_KINDS[name].title if name in COMPONENT_KINDS else name
            for path in download_component(
                name,
                folders[0] if folders else paths.checkpoints(),
                partial(_show_download, title),
                lambda: stop.requested,
            ):
                progress("", last=True)
                print(path)
    return 0


def _show_download(title: str, done: int, size: int) -> None:
    progress(f"{title}: {done / 1e6:,.0f} of {size / 1e6:,.0f} MB")


def _import_model(arguments: argparse.Namespace) -> int:
    from diffstudio import paths
    from diffstudio.studio.library.importing import import_file

    folders = read_user_settings().folders
    try:
        for item in import_file(arguments.file, folders[0] if folders else paths.checkpoints()):
            if isinstance(item, Path):
                progress("", last=True)
                print(item)
            elif sys.stderr.isatty():
                progress(f"{arguments.file.name}: {item:.0%}")
    except OSError as error:
        raise StorageProblem(f"{arguments.file} cannot be read", error.strerror or str(error)) from error
    return 0
