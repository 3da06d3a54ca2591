"""`python -m diffstudio` and the command `diffstudio`."""

from __future__ import annotations

import os
import sys

# Environment variables for libraries, unless the user has set them.
ENVIRONMENT = {
    # Matrix products independent of memory alignment: the same request gives the same pixels. Costs nothing.
    "MKL_CBWR": "AUTO",
    # Threads that spin while waiting take cores from others: next to one busy program a step of the starter took 500 ms
    # instead of 50, and 165 ms with this value. 1000 would cost a third on an idle machine, this value costs nothing.
    "GOMP_SPINCOUNT": "4000",
    # Huge pages for large tensors: attaching a LoRA to Stable Diffusion takes two fifths of the time.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def main() -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"  # no library may access the network by itself
    os.environ.update(ENVIRONMENT | os.environ)
    try:
        from diffstudio import cli

        return cli.main(sys.argv[1:])
    except KeyboardInterrupt:  # while modules are imported
        print("diffstudio: Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
