"""ControlNet options of the command line: `--control IMAGE --controlnet NAME` and the settings of each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from diffstudio.cli.arguments import as_number, as_pair, as_path, as_text
from diffstudio.errors import BadRequest
from diffstudio.plurals import count_of
from diffstudio.studio.requests import ControlNetUse
from diffstudio.studio.requests.choices import PreprocessorName
from diffstudio.studio.requests.control_types import ControlTypeName

_Value = TypeVar("_Value")
_SETTINGS = ("control_as", "control_scale", "control_range", "control_thresholds", "control_type")


def add_controls(verb: argparse.ArgumentParser) -> None:
    """Add the options. Each may be repeated, once for each control image."""
    default = ControlNetUse("x", Path("x"))
    verb.add_argument(
        "--control",
        metavar="IMAGE",
        type=as_path,
        action="append",
        help="control image for a ControlNet; may be repeated",
    )
    verb.add_argument(
        "--controlnet", metavar="NAME|PATH", type=as_text, action="append", help="ControlNet to use with it"
    )
    verb.add_argument(
        "--control-as",
        metavar="NAME",
        action="append",
        help=f"preprocessor: {', '.join(PreprocessorName)} (default {default.prepare})",
    )
    verb.add_argument(
        "--control-scale",
        metavar="X",
        type=as_number,
        action="append",
        help=f"conditioning scale (default {default.scale:g})",
    )
    verb.add_argument(
        "--control-range",
        metavar="A,B",
        type=as_pair,
        action="append",
        help="start and end of its effect as fractions of the steps (default 0,1)",
    )
    verb.add_argument(
        "--control-thresholds",
        metavar="LOW,HIGH",
        type=_whole_pair,
        action="append",
        help=f"thresholds of the canny preprocessor (default {default.low},{default.high})",
    )
    verb.add_argument(
        "--control-type",
        metavar="NAME",
        action="append",
        help=f"what the image shows, for a union ControlNet: {', '.join(ControlTypeName)} (default {default.control_type})",
    )


def controls_of(arguments: argparse.Namespace) -> tuple[ControlNetUse, ...]:
    """One ControlNetUse per control image. A setting given once applies to all.

    BadRequest when the counts do not match.
    """
    given = vars(arguments)
    images, networks = given.get("control", ()), given.get("controlnet", ())
    if len(images) != len(networks):
        less, more = sorted((("--control", len(images)), ("--controlnet", len(networks))), key=lambda one: one[1])
        raise BadRequest(
            f"{more[0]} was given {_times(more[1])} and {less[0]} {_times(less[1])}",
            "each control image needs one ControlNet",
            "Give as many of one as of the other",
        )
    if not images and (without := [name for name in _SETTINGS if name in given]):
        raise BadRequest(
            f"--{without[0].replace('_', '-')} was given without a control image",
            remedy="Give one with --control and --controlnet",
        )
    count = len(images)
    prepares, scales, ranges, thresholds, types = (_for_each(name, given.get(name), count) for name in _SETTINGS)
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
            values["low"], values["high"] = thresholds[index]
        if types:
            values["control_type"] = types[index]
        uses.append(ControlNetUse(network, image, **values))
    return tuple(uses)


def _for_each(name: str, values: Sequence[_Value] | None, count: int) -> Sequence[_Value]:
    """One value for each control image; empty when none was given."""
    if not values or len(values) == count:
        return values or ()
    if len(values) == 1:
        return list(values) * count
    raise BadRequest(
        f"--{name.replace('_', '-')} was given {_times(len(values))} for {count_of(count, 'control image')}",
        remedy="Give it once for all, or once for each",
    )


def _times(count: int) -> str:
    return {0: "not at all", 1: "once"}.get(count, f"{count} times")


def _whole_pair(text: str) -> tuple[int, int]:
    low, high = as_pair(text)
    if not low.is_integer() or not high.is_integer():  # NaN and infinities are not, either
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not two whole numbers")
    return int(low), int(high)
