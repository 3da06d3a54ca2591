"""The command line: the same verbs and the same requests as the window, without a screen.

Results go to standard output, progress and problems to standard error. Whatever a person can get wrong ends in a
sentence and a non-zero exit. Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import diffstudio
from diffstudio.cli.arguments import Parser
from diffstudio.cli.generate import add_generate
from diffstudio.cli.models import add_models
from diffstudio.cli.pictures import add_upscale
from diffstudio.cli.terminal import keep_the_log_in_a_file, log_file, say, take_any_name
from diffstudio.cli.train import add_train
from diffstudio.errors import DiffstudioError, Interrupted


def main(argv: Sequence[str]) -> int:
    """Do what the arguments say; the exit code. Without a verb the window opens."""
    keep_the_log_in_a_file()
    take_any_name()
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.do(arguments))
    except DiffstudioError as error:
        return say(str(error), error.exit_code)
    except Interrupted as interruption:
        return say(str(interruption), interruption.exit_code)
    except KeyboardInterrupt:
        return say(str(Interrupted()), Interrupted.exit_code)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return say("There was not enough memory. Close other programs, or make fewer or smaller pictures.", 1)
    except OSError as error:
        return say(f"A file could not be read or written: {error}. Check the place and the space on the disk.", 1)
    except Exception as error:  # noqa: BLE001 - the roof: whatever else it is, a person gets a sentence
        return say(_reported(error), 1)


def _reported(error: Exception) -> str:
    """A mistake of ours: keep all there is to know in the log, and say where it is."""
    logging.getLogger(__name__).error("Unexpected", exc_info=error)
    return (
        f"Something went wrong inside diffstudio ({type(error).__name__}: {str(error)[:300]}). "
        f"Please report it with the end of {log_file()}."
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="diffstudio",
        description="Make images on your own machine with diffusion models. Without a verb the window opens.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"diffstudio {diffstudio.__version__}")
    parser.set_defaults(do=_window)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    add_generate(verbs)
    add_upscale(verbs)
    add_train(verbs)
    add_models(verbs)
    return parser


# The verbs


def _window(arguments: argparse.Namespace) -> int:
    try:
        from diffstudio.ui.app import main as open_window
    except ImportError as error:
        raise DiffstudioError(
            "The window cannot open",
            f"{error}",
            "Run `python3 packaging/bootstrap.py run`, which installs what is missing",
        ) from error
    return open_window([])
