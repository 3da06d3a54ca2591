#!/usr/bin/env python3
"""Remakes the screenshots in resources/manual/images from the program itself:

    python packaging/screenshots.py                      all of them, in a few minutes on two cores
    python packaging/screenshots.py train mask           only these
    python packaging/screenshots.py --home FOLDER mask   keep the home folder, so that a second call finds its images
    python packaging/screenshots.py --check FOLDER       into FOLDER, to be looked at: on a small screen, at 100% and
                                                         150%, in both themes
    python packaging/screenshots.py --check FOLDER --screen 1920x1080    on a large one, at 100% and 125%

The real window opens in an X display (Xvfb when DISPLAY is not set) with a home folder that this script fills by using
the program: the starter generates the images, a short run trains on some of them, and the other models are safetensors
headers without weights. Needs `.venv` (made by `packaging/bootstrap.py test`) and Xvfb.
"""

from __future__ import annotations

import sys

from screenshots.command import main  # the package beside this file, which Python finds before it

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
