"""The command line, the display and the window of the screenshots."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bootstrap import NO_DISPLAY, virtual_display

from screenshots.files import IMAGES, ROOT, Shots, Trouble
from screenshots.generate_room import GenerateShots
from screenshots.lab_room import LabShots
from screenshots.models import write_models
from screenshots.other_rooms import GalleryShots, ModelsShots, SettingsShots, TrainShots

VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
WINDOW = 1440, 900  # px
SCRIPT = str(ROOT / "packaging" / "screenshots.py")
SCREENS = {"1366x768": ("1", "1.5"), "1920x1080": ("1", "1.25")}  # px, and the values of QT_SCALE_FACTOR on it
THEMES = "dark", "light"


class AllShots(GalleryShots, ModelsShots, GenerateShots, TrainShots, LabShots, SettingsShots):
    """Every screenshot, in the order in which they are taken."""

    @classmethod
    def names(cls, prefix: str) -> list[str]:
        """Those of the manual (`take_`), or those that are only looked at (`check_`)."""
        return [name.removeprefix(prefix) for room in cls.__bases__ for name in vars(room) if name.startswith(prefix)]


def main(arguments: Sequence[str]) -> int:
    shots = AllShots.names("take_") + (AllShots.names("check_") if "--check" in arguments else [])
    parser = argparse.ArgumentParser(description="Remakes the screenshots of the manual.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(shots)}")
    parser.add_argument("--home", type=Path, help="keep the home folder here and use what it holds")
    parser.add_argument(
        "--check", type=Path, metavar="FOLDER", help="take them here, at each scale of the screen, in THEMES"
    )
    parser.add_argument("--screen", choices=SCREENS, default=next(iter(SCREENS)), help="with --check: its size in px")
    parser.add_argument("--scale", help="with --check: at this scale only")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in shots]:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(shots)}")
    screen = tuple(int(side) for side in options.screen.split("x"))
    try:
        use_environment(arguments)
        with (
            tempfile.TemporaryDirectory(prefix="diffstudio-", ignore_cleanup_errors=True) as temporary,
            display(*(screen if options.check else WINDOW)),
        ):
            home = options.home.resolve() if options.home else Path(temporary)
            home.mkdir(parents=True, exist_ok=True)
            os.environ |= {"HOME": str(home), "DIFFSTUDIO_HOME": str(home), "QT_QPA_PLATFORM": "xcb"}
            if options.check and not options.scale:  # Qt reads the scale when a process starts
                for scale in SCREENS[options.screen]:
                    command = [sys.executable, SCRIPT, *arguments, "--home", str(home), "--scale", scale]
                    if subprocess.run(command, check=False).returncode:
                        return 1
            elif options.check:
                os.environ["QT_SCALE_FACTOR"] = options.scale
                width, height = (round(side / float(options.scale)) for side in screen)
                shots_of = Shots(options.check.resolve(), f"-{options.screen}-{options.scale}", THEMES)
                run_window(home, (width, height), options.names or shots, shots_of)
            else:
                run_window(home, WINDOW, options.names or shots, Shots(IMAGES))
    except Trouble as trouble:
        print(f"screenshots: {trouble}", file=sys.stderr)
        return 1
    return 0


def use_environment(arguments: Sequence[str]) -> None:
    """Continue in `.venv` if this Python lacks the packages, and import diffstudio from this checkout."""
    if importlib.util.find_spec("PySide6") is None:
        if not VENV_PYTHON.exists() or Path(sys.prefix) == VENV_PYTHON.parent.parent:
            raise Trouble("Run `python3 packaging/bootstrap.py test` first: it installs what this needs.")
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), SCRIPT, *arguments])
    if not os.environ.get("DISPLAY") and shutil.which("Xvfb") is None:
        raise Trouble("Xvfb is missing. Install it: `sudo apt-get install xvfb`.")
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = str(ROOT)  # of the training run's process
    for scale in ("QT_SCALE_FACTOR", "QT_SCREEN_SCALE_FACTORS"):
        os.environ.pop(scale, None)


@contextmanager
def display(width: int, height: int) -> Iterator[None]:
    """An X display of this size, unless there is one."""
    if os.environ.get("DISPLAY"):
        yield
        return
    with virtual_display(width, height) as started:
        if not started:
            raise Trouble(NO_DISPLAY)
        os.environ["DISPLAY"] = started
        yield


def run_window(home: Path, size: tuple[int, int], names: Sequence[str], shots: Shots) -> None:
    """Open the window as `diffstudio.ui.app.main` does, and take the screenshots while its event loop runs."""
    import qasync

    from diffstudio.studio.settings import Settings
    from diffstudio.ui.app import Desktop
    from diffstudio.ui.shell import desktop_environment
    from diffstudio.ui.widgets import icons, theme

    if not (home / "models" / "loras").exists():
        write_models(home / "models")
    app = desktop_environment.application([])
    icons.load_fonts()
    theme.apply(app, "dark")
    loop = qasync.QEventLoop(app)
    desktop = Desktop(Settings())
    desktop.window.setGeometry(0, 0, *size)
    desktop.window.show()
    app.aboutToQuit.connect(desktop.close)  # while the loop runs: the window's tasks end in it
    session = loop.create_task(AllShots(desktop, home, shots).take(names))
    session.add_done_callback(lambda _: app.quit())
    try:
        loop.run_forever()
    finally:
        desktop.close()
        loop.close()
    session.result()  # raises what went wrong
