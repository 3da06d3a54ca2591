"""Paths as people read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio import paths


def test_a_short_path_has_a_tilde_for_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "ada")
    assert paths.short(tmp_path / "ada" / "pictures" / "emoji") == str(Path("~/pictures/emoji"))
    assert paths.short(str(tmp_path / "ada")) == "~"
    assert paths.short(tmp_path / "adam") == str(tmp_path / "adam"), "another folder that begins alike"
    assert paths.short("emoji") == "emoji"


def test_where_nobodys_home_is_known_a_path_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert paths.short(Path("/data/emoji")) == str(Path("/data/emoji"))
