#!/usr/bin/env python3
"""Install and run diffstudio from a checkout, in one command:

    python3 packaging/bootstrap.py run [ARGS]          install what is missing, then run `diffstudio ARGS`
    python3 packaging/bootstrap.py test [PYTEST ARGS]  the same, then run all checks; with arguments only pytest

Everything is installed into `.venv` in the checkout; later calls start at once. The system libraries that Qt needs are
installed if possible (as root, with apt); otherwise the command to install them is printed.

Requires Python 3.11 or later and nothing else. On Linux the package index has the torch build for NVIDIA GPUs, several
gigabytes large; without such a GPU the small CPU build is installed, if it can be reached. DIFFSTUDIO_TORCH_INDEX
chooses another index of torch builds (for example for AMD's ROCm).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "diffstudio-installed.json"
CONSTRAINTS = ROOT / "packaging" / "constraints.txt"
ARTEFACTS = ROOT / "artefacts"
COVERAGE = ARTEFACTS / "coverage"
WINDOWS = sys.platform == "win32"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
NO_DISPLAY = "Xvfb did not start."
TORCH_BUILDS = "https://download.pytorch.org/whl/"

# System libraries that Qt needs on Linux, and the Debian packages that contain them
QT_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
}
DISPLAY_TOOLS = {"Xvfb": "xvfb", "xdotool": "xdotool", "openbox": "openbox"}  # for the test in a real X display
OTHER_SYSTEMS = {  # without apt: the command that installs the same libraries
    "dnf": "dnf install mesa-libEGL mesa-libGL libxkbcommon-x11 xcb-util-cursor xcb-util-wm xcb-util-image xcb-util-keysyms "
    "xcb-util-renderutil",
    "pacman": "pacman -S libglvnd libxkbcommon-x11 xcb-util-cursor xcb-util-wm xcb-util-image xcb-util-keysyms "
    "xcb-util-renderutil",
    "zypper": "zypper install Mesa-libEGL1 Mesa-libGL1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 "
    "libxcb-keysyms1 libxcb-render-util0",
}


def main(arguments: list[str]) -> int:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb not in ("run", "test"):
        print(__doc__)
        return 0 if verb in ("-h", "--help", "help") else 2
    if sys.version_info < OLDEST:
        return with_newer_python(arguments)
    try:
        install(testing=verb == "test")
    except InstallError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbootstrap: Stopped. Run the same command again to continue.", file=sys.stderr)
        return 130
    return test(rest) if verb == "test" else run(rest)


class InstallError(Exception):
    """Installing failed; the message says what the user has to do."""


# Installing


def install(testing: bool) -> None:
    """Install the packages of pyproject.toml and constraints.txt into `.venv`, unless it is up to date."""
    current = fingerprint()
    before = installed()
    if before.get("fingerprint") == current and (before.get("testing") or not testing) and PYTHON.exists():
        return
    started = time.monotonic()
    if before.get("python") != version() or not PYTHON.exists():
        make_environment()
    STAMP.unlink(missing_ok=True)
    install_system_packages(testing)
    # What builds packages, here and on the index: vendi-score has no wheel, and Python's own setuptools cannot make one.
    pip("install", "--constraint", str(CONSTRAINTS), "hatchling", "editables", "setuptools")
    torch_options, note = torch_build()
    say(f"Installing diffstudio and its dependencies into {VENV}. {note}")
    what = f"{ROOT}[test]" if testing else str(ROOT)
    pip("install", "--constraint", str(CONSTRAINTS), *torch_options, "--no-build-isolation", "--editable", what)
    record = {"fingerprint": current, "testing": testing or bool(before.get("testing")), "python": version()}
    part = STAMP.with_name(STAMP.name + ".part")
    part.write_text(json.dumps(record), encoding="utf-8")
    part.replace(STAMP)
    say(f"Installed in {time.monotonic() - started:.0f} s.")


def fingerprint() -> str:
    """A hash that changes when other packages are needed, but not when a lint rule changes."""
    import tomllib  # needs Python 3.11, which was checked before

    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    text = json.dumps([project["project"], project["build-system"], version(), str(ROOT)]) + CONSTRAINTS.read_text(
        encoding="utf-8"
    )
    return hashlib.sha256(text.encode()).hexdigest()


def installed() -> dict[str, Any]:
    try:
        record = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def make_environment() -> None:
    say(f"Creating a Python environment in {VENV}.")
    if not has_module("ensurepip"):  # a separate package on Debian
        package = f"python{version()}-venv"
        if not apt_install([package]):
            raise InstallError(
                f"Python cannot create environments here. Run `sudo apt-get install {package}`, then try again."
            )
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if subprocess.run(command, check=False).returncode != 0:
        raise InstallError(f"The environment could not be created: `{' '.join(command)}` failed with the output above.")


def has_module(name: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0


def pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, cwd=str(ROOT), check=False).returncode != 0:
        raise InstallError(
            "The packages could not be installed; see pip's output above. Check the internet connection and the free disk "
            "space (several gigabytes are needed), then run the same command again to continue."
        )


NO_GPU = "torch: the CPU build, because no NVIDIA GPU was found."


def torch_build() -> tuple[list[str], str]:
    """The pip options that choose torch's build, and a sentence about the choice."""
    index = os.environ.get("DIFFSTUDIO_TORCH_INDEX")
    if index:
        return ["--extra-index-url", index], f"torch: from {index} (DIFFSTUDIO_TORCH_INDEX)."
    gpu = has_nvidia_gpu()
    if sys.platform == "darwin":
        return [], "torch: the build for macOS, which uses Apple GPUs."
    if WINDOWS and gpu:
        return from_builds(
            "cu130",
            "torch: the CUDA build, because an NVIDIA GPU was found.",
            "torch: the CPU build, because the CUDA build cannot be reached.",
        )
    if WINDOWS:
        return [], NO_GPU
    if gpu:
        return [], "torch: the CUDA build (several gigabytes), because an NVIDIA GPU was found."
    return from_builds(
        "cpu", NO_GPU, "torch: the default build, because the CPU build cannot be reached (no NVIDIA GPU was found)."
    )


def from_builds(name: str, found: str, unreachable: str) -> tuple[list[str], str]:
    url = TORCH_BUILDS + name
    try:
        with urllib.request.urlopen(url + "/torch/", timeout=5):
            return ["--extra-index-url", url], found
    except OSError:  # offline, blocked, or no such build: pip uses its default index
        return [], unreachable


def has_nvidia_gpu() -> bool:
    found = shutil.which("nvidia-smi")
    if not found:
        return False
    try:
        result = subprocess.run([found, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0 and "GPU" in result.stdout


def install_system_packages(testing: bool) -> None:
    """Install the system libraries for Qt on Linux, or print the command for it."""
    if not sys.platform.startswith("linux"):
        return
    missing = [package for library, package in QT_LIBRARIES.items() if not loads(library)]
    if testing:
        missing += [package for tool, package in DISPLAY_TOOLS.items() if not shutil.which(tool)]
    if not missing or apt_install(missing):
        return
    manager = next((name for name in OTHER_SYSTEMS if shutil.which(name)), None)
    if shutil.which("apt-get") or manager is None:
        command = f"sudo apt-get install {' '.join(missing)}"
    else:
        command = "sudo " + OTHER_SYSTEMS[manager]
    say(f"Some system libraries that the window needs are missing. Install them with:\n\n    {command}\n")


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def apt_install(packages: list[str]) -> bool:
    """Install Debian packages; False without apt or root, or when it fails."""
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    say(f"Installing system packages: {' '.join(packages)}.")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    return subprocess.run(command, env=environment, check=False).returncode == 0


def with_newer_python(arguments: list[str]) -> int:
    """Run this script with a newer Python, if there is one on the path."""
    for name in ("python3.13", "python3.12", "python3.11", "python3.14"):
        found = shutil.which(name)
        if found:
            return subprocess.run([found, os.path.abspath(__file__), *arguments], check=False).returncode
    print(
        "bootstrap: diffstudio needs Python {}.{} or later, and this is {}.{}. Install a newer one from your system's "
        "packages or from python.org, then run this script with it.".format(*OLDEST, *sys.version_info[:2]),
        file=sys.stderr,
    )
    return 1


# Running and testing


def run(arguments: list[str]) -> int:
    """Run `diffstudio ARGS` in the current folder, which is not searched for modules."""
    command = [str(PYTHON), "-m", "diffstudio", *arguments]
    environment = dict(os.environ, PYTHONSAFEPATH="1")
    if not WINDOWS:
        sys.stdout.flush()
        os.execve(command[0], command, environment)
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 130


def test(arguments: list[str]) -> int:
    """Run all checks and report each by name; the exit code is 0 only if all pass."""
    if arguments:
        return check([str(PYTHON), "-m", "pytest", *arguments])
    tools = PYTHON.parent
    shutil.rmtree(COVERAGE, ignore_errors=True)
    COVERAGE.mkdir(parents=True)
    report = COVERAGE / "workers.json"
    workers = str(min(4, os.cpu_count() or 1))
    checks = {
        "ruff check": [str(tools / "ruff"), "check", "."],
        "ruff format": [str(tools / "ruff"), "format", "--check", "."],
        "mypy": [str(PYTHON), "-m", "mypy"],
        "import-linter": [str(tools / "lint-imports"), "--no-cache"],
        "pytest": [
            str(PYTHON),
            "-m",
            "slipcover",
            "--json",
            "--out",
            str(report),
            "-m",
            "pytest",
            "-n",
            workers,
            "--dist",
            "loadfile",
            "--max-worker-restart",
            "0",  # a crash ends the run with the name of its test
        ],
        "coverage": [str(PYTHON), str(ROOT / "packaging" / "check_coverage.py"), str(COVERAGE)],
    }
    results = {}
    for name, command in checks.items():
        say(f"\n== {name}")
        results[name] = check(command)
    say("\n== the window in a real X display")
    results["real display"] = test_in_real_display()
    failed = [name for name, code in results.items() if code]
    say(f"\nFailed: {', '.join(failed)}." if failed else f"\nAll passed: {', '.join(results)}.")
    return 1 if failed else 0


def check(command: list[str], **environment: str) -> int:
    """The exit code of `command`, run in the project's root; bytecode is kept, for the tests start the program often."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, cwd=str(ROOT), env=inherited | environment, check=False).returncode


def test_in_real_display() -> int:
    """Test the window under Xvfb; a screenshot is saved as artefacts/window.png."""
    if not shutil.which("Xvfb"):
        say(
            "Xvfb is not installed, so the window was only tested offscreen. (On Debian: apt-get install xvfb xdotool openbox)"
        )
        return 1 if os.environ.get("CI") else 0
    ARTEFACTS.mkdir(exist_ok=True)
    with virtual_display(1480, 920) as display:
        if not display:
            say(NO_DISPLAY)
            return 1
        return check(
            [str(PYTHON), "-m", "pytest", "-m", "real_display", "tests/stories/test_real_display.py"],
            DISPLAY=display,
            QT_QPA_PLATFORM="xcb",
            DIFFSTUDIO_ARTEFACTS=str(ARTEFACTS),
        )


@contextmanager
def virtual_display(width: int, height: int) -> Iterator[str]:
    """Run Xvfb with a screen of this size in px; yields DISPLAY, empty if it did not start."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"],
        pass_fds=(writing,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()  # written when it accepts connections; empty if it failed
        yield f":{number}" if number else ""
    finally:
        server.terminate()
        server.wait()


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
