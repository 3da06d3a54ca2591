"""Versions and licences: of everything that is installed and shipped, found by listing it."""

from __future__ import annotations

from importlib.metadata import distribution, version
from pathlib import Path

import pytest

from diffstudio import __version__, paths
from diffstudio.studio import third_party_software
from diffstudio.studio.third_party_software import ThirdPartySoftware


@pytest.fixture(scope="module")
def found() -> dict[str, ThirdPartySoftware]:
    return {component.name: component for component in third_party_software.all_software()}


def test_versions_are_those_that_are_installed() -> None:
    versions = dict(third_party_software.versions())
    assert versions["diffstudio"] == __version__ and versions["torch"] == version("torch")
    assert versions["PySide6-Essentials"] == version("PySide6-Essentials") and versions["Python"].startswith("3.")


def test_a_package_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(third_party_software, "_SHOWN", ("no-such-package",))
    assert dict(third_party_software.versions())["no-such-package"] == "not installed"


def test_every_requirement_is_listed_with_its_licence(found: dict[str, ThirdPartySoftware]) -> None:
    names = {name.casefold().replace("_", "-") for name in found}
    required = [line for line in distribution("diffstudio").requires or () if "extra ==" not in line]
    direct = {line.split(">")[0].split("<")[0].strip() for line in required}
    assert len(direct) > 15 and {name for name in direct if name.casefold() not in names} == set()
    assert {"numpy", "sympy"} <= names, "what torch requires is there too"
    assert not {"pytest", "mypy", "ruff"} & names, "the tools of the tests are not part of the program"
    assert all(component.licence for component in found.values())
    assert sum(bool(component.text()) for component in found.values()) > 0.8 * len(found)
    assert "BSD" in found["numpy"].licence or "BSD" in found["numpy"].text()


def test_the_program_and_what_it_ships_come_first(found: dict[str, ThirdPartySoftware]) -> None:
    first, *shipped = list(found.values())[:3]
    assert (
        first.name == "diffstudio"
        and "Apache License" in first.text()
        and "What ships with the program" in first.text()
    )
    assert [component.name for component in shipped] == ["features", "fonts"]
    network, fonts = shipped
    assert "EfficientNet-Lite0" in network.text() and network.licence == "LICENSE-Apache-2.0"
    assert "SIL OPEN FONT LICENSE" in fonts.text().upper() and fonts.licence == "OFL"


def test_every_licence_text_in_the_resources_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vocab/LICENSE", "vocab/merges.txt", "icons/COPYING.txt", "licence-free-image.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    monkeypatch.setattr(paths, "resources", lambda: tmp_path)
    resources = {each.name: each for each in third_party_software._resources()}
    assert resources.keys() == {"vocab", "icons"} and resources["vocab"].text() == "LICENSE\n\ntext of vocab/LICENSE"
    (tmp_path / "vocab/LICENSE").unlink()
    assert resources["vocab"].text() == ""


def test_in_a_wheel_the_notices_are_in_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resources").mkdir()
    monkeypatch.setattr(paths, "resources", lambda: tmp_path / "resources")
    assert "What ships with the program" in third_party_software._program().text()


def test_without_its_own_metadata_every_package_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(third_party_software, "_PROGRAM", "no-such-package")
    assert {"numpy", "pytest"} <= {each.metadata["Name"] for each in third_party_software._needed()}


def test_the_device_is_called_as_torch_calls_it() -> None:
    assert third_party_software.device_name("cpu").startswith("CPU, ")
