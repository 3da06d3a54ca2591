"""The command line: the same requests as the window, without a screen.

Results go to standard output, progress and errors to standard error. Every error is printed as a sentence, with a
non-zero exit code. Heavy modules are imported only by the verbs that need them.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import diffstudio
from diffstudio.cli.arguments import Parser
from diffstudio.cli.terminal import (
    allow_undecodable_names,
    log_file,
    open_closed_streams,
    print_message,
    set_up_log_file,
)
from diffstudio.cli.verbs import add_verbs
from diffstudio.errors import DiffstudioError, Interrupted


def main(argv: Sequence[str]) -> int:
    """Run the verb in the arguments and return the exit code. Without a verb the window opens."""
    open_closed_streams()
    set_up_log_file()
    allow_undecodable_names()
    try:
        arguments = _parser().parse_args(argv, argparse.Namespace(argv=list(argv)))
        return int(arguments.do(arguments))
    except DiffstudioError as error:
        return print_message(str(error), error.exit_code)
    except Interrupted as interruption:
        return print_message(str(interruption), interruption.exit_code)
    except KeyboardInterrupt:
        return print_message(str(Interrupted()), Interrupted.exit_code)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return print_message("Out of memory. Close other programs, or generate fewer or smaller images.", 1)
    except OSError as error:
        return print_message(
            f"A file could not be read or written: {error}. Check the path and the free disk space.", 1
        )
    except Exception as error:  # noqa: BLE001 - the last handler: every error becomes a sentence
        return print_message(_bug_report(error), 1)


def _bug_report(error: Exception) -> str:
    """The sentence for an unexpected error, which is a bug; the traceback goes to the log."""
    logging.getLogger(__name__).error("Unexpected", exc_info=error)
    return (
        f"Internal error ({type(error).__name__}: {str(error)[:300]}). "
        f"Please report it with the last lines of {log_file()}."
    )


def _parser() -> Parser:
    parser = Parser(
        prog="diffstudio",
        description="Generate images on your own machine with diffusion models. Without a verb the window opens.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"diffstudio {diffstudio.__version__}")
    parser.set_defaults(do=_window)
    add_verbs(parser)
    return parser


def _window(arguments: argparse.Namespace) -> int:
    try:
        from diffstudio.ui.app import main as open_window
    except ImportError as error:
        raise DiffstudioError(
            "The window cannot be opened",
            f"{error}",
            "Run `python3 packaging/bootstrap.py run`, which installs what is missing",
        ) from error
    return open_window([])
