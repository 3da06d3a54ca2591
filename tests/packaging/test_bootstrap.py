"""The bootstrap, but for the installing itself: what it decides, and that a second call does nothing."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "packaging" / "bootstrap.py"


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with an environment of its own that pretends to be there."""
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    environment = tmp_path / "venv"
    environment.mkdir()
    python = environment / "python"
    python.touch()
    for name, value in {"VENV": environment, "PYTHON": python, "STAMP": environment / "installed.json"}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module.urllib.request, "urlopen", _unreachable)
    return module


def _unreachable(*arguments: object, **options: object) -> None:
    raise OSError("no network in tests")


@pytest.fixture
def calls(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of pip, recorded; nothing is installed."""
    recorded: list[tuple[str, ...]] = []
    monkeypatch.setattr(bootstrap, "pip", lambda *arguments: recorded.append(arguments))
    monkeypatch.setattr(bootstrap, "make_environment", lambda: recorded.append(("venv",)))
    monkeypatch.setattr(bootstrap, "install_system_packages", lambda testing: None)
    return recorded


def test_a_second_call_installs_nothing(bootstrap: ModuleType, calls: list[tuple[str, ...]]) -> None:
    bootstrap.install(testing=True)
    assert calls[0] == ("venv",) and calls[-1][-1].endswith("[test]")
    first = len(calls)
    bootstrap.install(testing=True)
    bootstrap.install(testing=False)
    assert len(calls) == first


def test_testing_adds_to_what_running_installed(bootstrap: ModuleType, calls: list[tuple[str, ...]]) -> None:
    bootstrap.install(testing=False)
    assert calls[-1][-1] == str(ROOT)
    bootstrap.install(testing=True)
    assert calls[-1][-1] == f"{ROOT}[test]" and calls.count(("venv",)) == 1


@pytest.mark.parametrize("record", ["", "[]", "{", '{"fingerprint": 1}'])
def test_a_damaged_stamp_installs_again(bootstrap: ModuleType, calls: list[tuple[str, ...]], record: str) -> None:
    bootstrap.STAMP.write_text(record)
    bootstrap.install(testing=False)
    assert calls and json.loads(bootstrap.STAMP.read_text())["fingerprint"] == bootstrap.fingerprint()


def test_an_install_that_fails_leaves_no_stamp(
    bootstrap: ModuleType,
    calls: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*arguments: str) -> None:
        raise bootstrap.InstallError("pip said no.")

    monkeypatch.setattr(bootstrap, "pip", fails)
    assert bootstrap.main(["run"]) == 1
    assert capsys.readouterr().err == "bootstrap: pip said no.\n" and not bootstrap.STAMP.exists()


def test_ctrl_c_during_installation_prints_a_sentence(
    bootstrap: ModuleType,
    calls: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*arguments: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "pip", interrupted)
    assert bootstrap.main(["run"]) == 130
    assert "Run the same command again" in capsys.readouterr().err and not bootstrap.STAMP.exists()


@pytest.mark.parametrize(
    ("system", "card", "expected"),
    [
        ("linux", True, "the CUDA build"),
        ("linux", False, "the CPU build cannot be reached"),
        ("darwin", False, "macOS"),
        ("win32", True, "cannot be reached"),
        ("win32", False, "no NVIDIA GPU"),
    ],
)
def test_torch_build_is_chosen(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, system: str, card: bool, expected: str
) -> None:
    monkeypatch.setattr(bootstrap.sys, "platform", system)
    monkeypatch.setattr(bootstrap, "WINDOWS", system == "win32")
    monkeypatch.setattr(bootstrap, "has_nvidia_gpu", lambda: card)
    monkeypatch.delenv("DIFFSTUDIO_TORCH_INDEX", raising=False)
    arguments, note = bootstrap.torch_build()
    assert arguments == [] and expected in note
    monkeypatch.setenv("DIFFSTUDIO_TORCH_INDEX", "file:///builds")
    assert bootstrap.torch_build()[0] == ["--extra-index-url", "file:///builds"]


def test_missing_system_libraries_are_listed_in_one_command(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap.sys, "platform", "linux")
    monkeypatch.setattr(bootstrap, "loads", lambda library: library != "libxcb-cursor.so.0")
    monkeypatch.setattr(bootstrap, "apt_install", lambda packages: False)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    bootstrap.install_system_packages(testing=False)
    assert "sudo apt-get install libxcb-cursor0\n" in capsys.readouterr().out


def test_every_requirement_is_pinned() -> None:
    pinned = {
        _plain(line.split("==")[0])
        for line in (ROOT / "packaging" / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        _plain(re.split(r"[<>=!~\[; ]", text)[0])
        for text in [*project["dependencies"], *project["optional-dependencies"]["test"], "hatchling", "editables"]
    }
    assert asked <= pinned


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_help_and_nonsense_need_nothing_installed() -> None:
    for arguments, code in ((["--help"], 0), ([], 2), (["dance"], 2)):
        done = subprocess.run(
            [sys.executable, "-S", str(SCRIPT), *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == code and "bootstrap.py run" in done.stdout and done.stderr == ""
