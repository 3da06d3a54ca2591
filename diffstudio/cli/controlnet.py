"""Pictures that steer, on the command line: `--control IMAGE --controlnet NAME`, and what is said about each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffstudio.cli.arguments import as_number, as_path, as_text
from diffstudio.errors import BadRequest
from diffstudio.studio.requests import ControlNetUse, PreprocessorName

_ABOUT = ("control_as", "control_scale", "control_range", "control_thresholds")


def add_controls(verb: Any) -> None:
    """Each may be given several times, once for each picture."""
    usual = ControlNetUse("x", Path("x"))
    verb.add_argument(
        "--control",
        metavar="IMAGE",
        type=as_path,
        action="append",
        help="a picture that a ControlNet follows; again for another",
    )
    verb.add_argument(
        "--controlnet", metavar="NAME|PATH", type=as_text, action="append", help="which ControlNet reads it"
    )
    verb.add_argument(
        "--control-as",
        metavar="NAME",
        action="append",
        help=f"what is made of it first: {', '.join(PreprocessorName)} (default {usual.prepare})",
    )
    verb.add_argument(
        "--control-scale",
        metavar="X",
        type=as_number,
        action="append",
        help=f"how much of what it says is heard (default {usual.scale:g})",
    )
    verb.add_argument(
        "--control-range",
        metavar="A,B",
        type=_pair,
        action="append",
        help="the part of the steps that it steers (default 0,1)",
    )
    verb.add_argument(
        "--control-thresholds",
        metavar="LOW,HIGH",
        type=_pair,
        action="append",
        help=f"of the slope of an edge, for canny (default {usual.low},{usual.high})",
    )


def controls_of(arguments: argparse.Namespace) -> tuple[ControlNetUse, ...]:
    """What they ask for, in their order. What is said once holds for all. BadRequest where the counts make no sense."""
    said = vars(arguments)
    images, networks = said.get("control", ()), said.get("controlnet", ())
    if len(images) != len(networks):
        less, more = sorted((("--control", len(images)), ("--controlnet", len(networks))), key=lambda one: one[1])
        raise BadRequest(
            f"{more[0]} was given {_times(more[1])} and {less[0]} {_times(less[1])}",
            "each picture is read by one ControlNet",
            "Give one of each",
        )
    if not images and (without := [name for name in _ABOUT if name in said]):
        raise BadRequest(
            f"--{without[0].replace('_', '-')} was given without a picture that steers",
            remedy="Give it with --control and --controlnet",
        )
    count = len(images)
    prepares, scales, ranges, thresholds = (_for_each(name, said.get(name), count) for name in _ABOUT)
    uses = []
    for index, (image, network) in enumerate(zip(images, networks, strict=True)):
        values: dict[str, Any] = {}
        if prepares:
            values["prepare"] = prepares[index]
        if scales:
            values["scale"] = scales[index]
        if ranges:
            values["begins"], values["ends"] = ranges[index]
        if thresholds:
            values["low"], values["high"] = map(round, thresholds[index])
        uses.append(ControlNetUse(network, image, **values))
    return tuple(uses)


def _for_each(name: str, values: Sequence[Any] | None, count: int) -> Sequence[Any]:
    """One for each picture; empty where nothing was said."""
    if not values or len(values) == count:
        return values or ()
    if len(values) == 1:
        return list(values) * count
    raise BadRequest(
        f"--{name.replace('_', '-')} was given {_times(len(values))} for {count} pictures",
        remedy="Give it once for all of them, or once for each",
    )


def _times(count: int) -> str:
    return {0: "not at all", 1: "once"}.get(count, f"{count} times")


def _pair(text: str) -> tuple[float, float]:
    parts = tuple(as_number(part) for part in text.split(","))
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not two numbers with a comma between them")
    return parts[0], parts[1]
