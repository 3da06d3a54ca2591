"""`python -m diffstudio` and the command `diffstudio`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here reaches for the network on its own, libraries included
    from diffstudio import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
