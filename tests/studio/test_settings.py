"""Settings: round trip, and files that are damaged, newer, or partly nonsense."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from diffstudio.errors import BadRequest, StorageProblem
from diffstudio.studio.settings import LONGEST_HISTORY, Settings, Theme, load_settings, read_settings, save


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    settings = Settings(
        theme=Theme.LIGHT,
        device="cuda:1",
        threads=3,
        previews=False,
        compiled=True,
        kept_steps_gib=0.5,
        images_folder=tmp_path / "bilder",
        model_folders=(tmp_path / "a", tmp_path / "ß"),
        prompt_history=("赤いりんご", "ghost"),
    )
    path = tmp_path / "deep" / "settings.json"
    save(settings, path)
    assert load_settings(path) == settings
    assert [file.name for file in path.parent.iterdir()] == ["settings.json"]


def test_no_file_is_the_defaults(home: Path) -> None:
    loaded = read_settings()
    assert loaded.state == Settings() and loaded.problem == ""
    assert loaded.state.images == home / "images"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": 99}', '{"format": "x"}', "[" * 100_000, "\ud800"])
def test_a_damaged_file_is_kept_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loaded = read_settings(path)
    assert loaded.state == Settings()
    assert "defaults" in loaded.problem and "settings.json.damaged" in loaded.problem
    assert not path.exists() and (tmp_path / "settings.json.damaged").exists()


def test_one_senseless_value_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(
        json.dumps(
            {
                "format": 1,
                "threads": -4,
                "theme": "mauve",
                "device": "cpu",
                "previews": False,
                "model_folders": [1, "/models"],
                "images_folder": 7,
                "kept_steps_gib": True,
                "prompt_history": [None],
                "other": 1,
            }
        )
    )
    loaded = read_settings(path)
    assert loaded.state == Settings(device="cpu", previews=False, model_folders=(Path("/models"),))
    assert loaded.problem == (
        "Some of the settings could not be read and are not used: theme, threads, saved steps, 1 of 2 model folders, "
        "image folder, 1 of 1 prompts in the history."
    )


def test_a_path_that_no_system_has_is_reset(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"format": 1, "threads": 2, "model_folders": ["\0a"], "images_folder": "b\0"}))
    loaded = read_settings(path)
    assert (loaded.state.model_folders, loaded.state.images_folder, loaded.state.threads) == ((), None, 2)


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageProblem, match="(could not|cannot) be written"):
        save(Settings(), tmp_path / "file" / "settings.json")


def test_history_is_newest_first_each_once_and_bounded() -> None:
    settings = Settings()
    for prompt in ("a", "b", " a ", "", "  "):
        settings = settings.with_prompt(prompt)
    assert settings.prompt_history == ("a", "b")
    for number in range(LONGEST_HISTORY + 5):
        settings = settings.with_prompt(str(number))
    assert len(settings.prompt_history) == LONGEST_HISTORY


def test_numbers_have_bounds() -> None:
    with pytest.raises(BadRequest):
        replace(Settings(), threads=-1)
    for size in (-1.0, float("nan"), 1e9):
        with pytest.raises(BadRequest, match="The disk space for steps"):
            replace(Settings(), kept_steps_gib=size)
    assert Settings(kept_steps_gib=1.5).kept_steps_bytes == 1536 << 20


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_settings_hold_prompts_and_are_private(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    save(Settings(prompt_history=("a secret",)), path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)  # as version 0.1 wrote it
    read_settings(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_damaged_file_does_not_replace_the_first(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    for text in ("{1", "{2"):
        path.write_text(text)
        read_settings(path)
    assert (tmp_path / "settings.json.damaged").read_text() == "{1"
    assert (tmp_path / "settings.json-2.damaged").read_text() == "{2"
