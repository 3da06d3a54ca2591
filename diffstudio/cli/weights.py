"""The verbs of `diffstudio models` for weight files: scan, convert, merge, fuse-lora, prune, export."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diffstudio.cli.arguments import as_number, as_path, as_text
from diffstudio.cli.terminal import printable, progress, read_user_settings, stop_signals
from diffstudio.errors import BadRequest, Interrupted
from diffstudio.plurals import by_number, count_of

if TYPE_CHECKING:
    from diffstudio.models.checkpoint import Checkpoint
    from diffstudio.models.detection.types import Role
    from diffstudio.models.tools.spec import Precision
    from diffstudio.studio.library.weight_requests import WeightRequest


class Add(Protocol):
    """Adds a verb to `diffstudio models`."""

    def __call__(
        self, name: str, about: str, do: Callable[[argparse.Namespace], int], *, aliases: Sequence[str] = ()
    ) -> argparse.ArgumentParser: ...


def add_weights(add: Add) -> None:
    """Add the verbs by calling `add`."""
    scanning = add("scan", "scan pickle files for code that loading them would run", _scan)
    scanning.add_argument(
        "files", metavar="FILE", nargs="+", type=as_path, help="a file, or a folder to scan all pickles in it"
    )
    scanning.add_argument("--json", action="store_true", help="as JSON")
    converting = add(
        "convert", "convert a pickle or a diffusers folder to safetensors, or change the precision", _convert
    )
    converting.add_argument("checkpoint", metavar="NAME|PATH", type=as_text)
    merging = add(
        "merge", "merge checkpoints: weighted sum a (1 - m) + b m, or with a third add difference a + m (b - c)", _merge
    )
    merging.add_argument(
        "checkpoints", metavar="NAME|PATH", nargs="+", type=as_text, help="a, b and, for add difference, c"
    )
    merging.add_argument(
        "--share", metavar="M", type=as_number, default=None, help="m, from 0 to 1 (default 0.5; 1 with a third)"
    )
    merging.add_argument("--beyond", action="store_true", help="allow shares below 0 and above 1")
    fusing = add("fuse-lora", "fuse LoRAs into the weights of a checkpoint", _fuse_lora, aliases=["bake"])
    fusing.add_argument("checkpoint", metavar="NAME|PATH", type=as_text)
    fusing.add_argument(
        "loras", metavar="LORA[:WEIGHT]", nargs="+", type=as_text, help="a name or a path, and its weight (default 1)"
    )
    pruning = add("prune", "remove weights that are not needed to generate: EMA copies, optimiser states", _prune)
    pruning.add_argument("checkpoint", metavar="NAME|PATH", type=as_text)
    pruning.add_argument("--ema", action="store_true", help="keep the EMA weights in place of the others")
    exporting = add("export", "export a checkpoint as a diffusers folder", _export)
    exporting.add_argument("checkpoint", metavar="NAME|PATH", type=as_text)
    for verb in (converting, merging, fusing, pruning, exporting):
        verb.add_argument(
            "--precision",
            metavar="NAME",
            type=as_text,
            default="keep",
            help="fp32, fp16, bf16, fp8, or keep (the default): as it is stored",
        )
        verb.add_argument("--out", metavar="PATH", type=as_path, help="output path (default: in the models folder)")


# The verbs


def _scan(arguments: argparse.Namespace) -> int:
    """The exit code is 1 if a file is dangerous or cannot be read."""
    reports = [_scan_report(file) for given in arguments.files for file in _files_in(given)]
    if arguments.json:
        print(json.dumps(reports, indent=2))
    else:
        for about in reports:
            for line in _report_lines(about):
                print(printable(line))
    return int(any(about["verdict"] in ("dangerous", "unreadable") for about in reports))


def _files_in(given: Path) -> list[Path]:
    """All pickles below a folder; the path itself if there are none, or if it is a file."""
    if not given.is_dir():
        return [given]
    return sorted(path for path in given.rglob("*") if _may_be_pickle(path)) or [given]


def _may_be_pickle(path: Path) -> bool:
    """Whether a weights file has the suffix of a pickle, or is one under another."""
    from diffstudio.errors import DiffstudioError
    from diffstudio.models.files.formats import PICKLES, SUFFIXES, WeightsFormat, weights_format

    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or not path.is_file():
        return False
    try:
        return suffix in PICKLES or weights_format(path) is WeightsFormat.PICKLE
    except DiffstudioError:
        return False


def _scan_report(file: Path) -> dict[str, Any]:
    from diffstudio.errors import DiffstudioError
    from diffstudio.models.files.formats import WeightsFormat, weights_format
    from diffstudio.models.files.pickle_globals import GlobalKind
    from diffstudio.models.files.pickle_scan import scan_pickle
    from diffstudio.models.library.records import read_checkpoint

    about: dict[str, Any] = {"format": 1, "file": str(file), "verdict": "harmless", "reason": ""}
    try:
        if weights_format(file) is WeightsFormat.PICKLE:
            scan = scan_pickle(file)
            about |= {kind.name.lower(): [one.name for one in scan.globals if one.kind is kind] for kind in GlobalKind}
            about["would_run"] = [call for found in scan.dangerous for call in found.calls]
            about["tensors"] = len(scan.tensors)
            about["verdict"] = "dangerous" if scan.dangerous else "unreadable" if scan.problem else "harmless"
            scan.check()
        else:
            about["verdict"] = "no pickle"
        about["reason"] = read_checkpoint(file).reason
    except DiffstudioError as error:
        about |= {"reason": str(error)} | ({} if about["verdict"] == "dangerous" else {"verdict": "unreadable"})
    return about


_LISTED = {
    "would_run": "would have run",
    "dangerous": "dangerous",
    "unknown": "unknown names",
    "allowed": "names needed for weights",
}


def _report_lines(about: dict[str, Any]) -> list[str]:
    kind = {"no pickle": "not a pickle: it contains no code"}.get(about["verdict"], about["verdict"])
    return [
        f"{about['file']}: {kind}",
        *([f"  {about['reason']}"] if about["reason"] else []),
        *(f"  {title}: {', '.join(about[key])}" for key, title in _LISTED.items() if about.get(key)),
    ]


def _convert(arguments: argparse.Namespace) -> int:
    from diffstudio.studio.library.weight_requests import ConvertRequest

    checkpoint, precision = _find(arguments.checkpoint), _precision(arguments)
    name = checkpoint.name if precision == "keep" else f"{checkpoint.name}-{precision}"
    return _write(ConvertRequest(checkpoint, _target(arguments, name, checkpoint.role), precision))


def _merge(arguments: argparse.Namespace) -> int:
    from diffstudio.models.tools.spec import LARGEST_FACTOR, Method, check_share
    from diffstudio.studio.library.weight_requests import MergeRequest

    if not 2 <= len(arguments.checkpoints) <= 3:
        raise BadRequest(
            f"{count_of(given := len(arguments.checkpoints), 'checkpoint')} {by_number(given, 'was', 'were')} given",
            "a merge takes two or three",
            "Merge two, then merge the result with the next one",
        )
    inputs = tuple(_find(name) for name in arguments.checkpoints)
    method = Method.ADD_DIFFERENCE if len(inputs) == 3 else Method.WEIGHTED_SUM
    share = arguments.share if arguments.share is not None else 1.0 if len(inputs) == 3 else 0.5
    try:
        check_share(share, arguments.beyond)
    except BadRequest as error:
        if arguments.beyond or not abs(share) <= LARGEST_FACTOR:
            raise
        raise BadRequest(error.what, error.why, f"{error.remedy} with --beyond") from error
    name = "-".join((*(one.name for one in inputs), f"{share:g}"))
    target = _target(arguments, name, inputs[0].role)
    return _write(MergeRequest(inputs, target, share, method, _precision(arguments), arguments.beyond))


def _fuse_lora(arguments: argparse.Namespace) -> int:
    from diffstudio.studio.library.weight_requests import FuseLoraRequest

    checkpoint, loras = _find(arguments.checkpoint), tuple(_lora(text) for text in arguments.loras)
    name = "-".join((checkpoint.name, *(lora.name for lora, _ in loras)))
    return _write(FuseLoraRequest(checkpoint, loras, _target(arguments, name, checkpoint.role), _precision(arguments)))


def _lora(text: str) -> tuple[Checkpoint, float]:
    """Parse `name:0.8`; the colon may also be part of a path."""
    name, _, number = text.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        return _find(text), 1.0
    return (_find(name), weight) if name else (_find(text), 1.0)


def _prune(arguments: argparse.Namespace) -> int:
    from diffstudio.studio.library.weight_requests import PruneRequest

    checkpoint = _find(arguments.checkpoint)
    target = _target(arguments, f"{checkpoint.name}-pruned", checkpoint.role)
    return _write(PruneRequest(checkpoint, target, _precision(arguments), arguments.ema))


def _export(arguments: argparse.Namespace) -> int:
    from diffstudio.studio.library.weight_requests import ExportRequest

    checkpoint = _find(arguments.checkpoint)
    target = _target(arguments, f"{checkpoint.name}-diffusers", checkpoint.role, is_folder=True)
    return _write(ExportRequest(checkpoint, target, _precision(arguments)))


# Helpers


def _find(name: str) -> Checkpoint:
    from diffstudio.models.library.library import Library

    return Library(read_user_settings().folders).find(name)


def _precision(arguments: argparse.Namespace) -> Precision:
    from diffstudio.models.tools.spec import Precision

    name = arguments.precision.lower().removeprefix("float").replace("fp8_e4m3fn", "fp8")
    try:
        return Precision(name if not name.isdigit() else f"fp{name}")
    except ValueError:
        raise BadRequest(
            f"There is no precision called {arguments.precision[:40]!r}", remedy=f"Choose one of {', '.join(Precision)}"
        ) from None


def _target(arguments: argparse.Namespace, name: str, role: Role, *, is_folder: bool = False) -> Path:
    from diffstudio import paths
    from diffstudio.studio.library.weight_requests import folder_for, free_path

    if arguments.out is not None:
        return Path(arguments.out)
    folders = read_user_settings().folders
    return free_path(name, folder_for(role, folders[0] if folders else paths.checkpoints()), is_folder=is_folder)


def _write(request: WeightRequest) -> int:
    """Write the file with a progress line; Ctrl+C leaves nothing behind."""
    from diffstudio.models.tools.spec import ToolResult
    from diffstudio.studio.library.weight_requests import carry_out

    writing = carry_out(request)
    with stop_signals() as stop:
        try:
            for item in writing:
                if isinstance(item, ToolResult):
                    progress("", last=True)
                    for note in item.notes:
                        print(printable(note), file=sys.stderr)
                    print(item.path, flush=True)
                elif stop.requested:
                    raise Interrupted("Stopped", remedy="Nothing was written")
                elif sys.stderr.isatty():
                    progress(f"{request.target.name}: {item:.0%}")
        finally:
            writing.close()
    return 0
