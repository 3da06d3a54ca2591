"""The verb `diffstudio models ema`: a run's checkpoint with an average of another length."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffstudio.cli.arguments import as_number, as_path
from diffstudio.cli.terminal import printable, progress, stop_signals
from diffstudio.cli.weights import Add
from diffstudio.errors import BadRequest


def add_post_hoc_ema(add: Add) -> None:
    verb = add("ema", "write a run's checkpoint with an EMA of another length, rebuilt from its snapshots", _ema)
    verb.description = (
        "Rebuild the average of a run's weights with any length after training (post-hoc EMA, arXiv 2312.02696). Its recipe "
        "must have stored snapshots (run.ema_snapshots). The length is relative to the training time: 0.05 averages roughly "
        "the last twentieth on either side of its centre."
    )
    verb.add_argument(
        "run", metavar="RUN|CHECKPOINT", type=as_path, help="the folder of a run, or one of its checkpoints"
    )
    chosen = verb.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--length", metavar="X", type=as_number, help="sigma_rel, from 0.005 to 0.25")
    chosen.add_argument("--best", action="store_true", help="the length with the lowest held-out loss")
    verb.add_argument(
        "--out", metavar="FILE", type=as_path, help="the new file (default: RUN-ema-LENGTH in the models folder)"
    )


def _ema(arguments: argparse.Namespace) -> int:
    from diffstudio import paths
    from diffstudio.training.post_hoc_ema import (
        CANDIDATES,
        averaged_run,
        check_length,
        held_out_losses,
        write_checkpoint,
    )

    length: float | None = arguments.length
    if length is not None:
        check_length(length)
    if arguments.out is not None and arguments.out.exists():
        raise BadRequest(f"{arguments.out} exists already", remedy="Choose another name with --out")
    of = averaged_run(arguments.run)
    print(printable(f"{of.run.name}, averages at step {of.step:,}"))
    if length is None:
        losses: dict[float, float] = {}
        with stop_signals() as stop:
            for one, loss in held_out_losses(of, CANDIDATES, lambda: stop.requested):
                losses[one] = loss
                progress(f"measured {len(losses)} of {len(CANDIDATES)} lengths")
        progress("", last=True)
        length = min(losses, key=lambda one: losses[one])
        print("length  held-out loss")
        for one, loss in losses.items():
            print(f"{one:6g}  {loss:.5f}{'  the lowest' if one == length else ''}")
    target: Path = arguments.out or paths.checkpoints() / f"{of.run.name}-ema-{length:g}.safetensors"
    print(printable(str(write_checkpoint(of, length, target))))
    return 0
