"""`python -m diffstudio` and the command `diffstudio`."""

from __future__ import annotations

import os
import sys

# What libraries read when they are loaded. `HF_HUB_OFFLINE` counts always, the others unless a person has said
# otherwise.
ENVIRONMENT = {
    # A product's last bit is not to hang on where in memory its factors lie: the same request, the same pixels. Costs
    # nothing.
    "MKL_CBWR": "AUTO",
    # Threads that spin while they wait for one another take the cores that the others need: beside one busy program a
    # step of
    # the starter took 500 ms instead of 50 (and 165 so). Fewer turns would cost more on an idle machine: 1000 a third,
    # these nothing.
    "GOMP_SPINCOUNT": "4000",
    # Large tensors in large pages: attaching a LoRA to Stable Diffusion takes two fifths of the time.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def main() -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here reaches for the network on its own, libraries included
    os.environ.update(ENVIRONMENT | os.environ)
    try:
        from diffstudio import cli

        return cli.main(sys.argv[1:])
    except KeyboardInterrupt:  # while it was only just being read
        print("diffstudio: Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
