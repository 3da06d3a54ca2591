"""What a user leaves out of a folder is kept in the program's own data."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.errors import StorageProblem
from diffstudio.training.data.left_out import left_out_file, read_left_out, write_left_out


def test_it_comes_back_and_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    assert read_left_out(folder) == frozenset()
    write_left_out(folder, [Path("b/a.png"), Path("caf\u00e9"), Path("\udcff.png")])
    assert read_left_out(folder) == {Path("b/a.png"), Path("caf\u00e9"), Path("\udcff.png")}
    assert read_left_out(tmp_path / "other") == frozenset()
    assert list(folder.iterdir()) == []
    (tmp_path / "link").symlink_to(folder)
    assert len(read_left_out(tmp_path / "link")) == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 1, "left_out": ["a.png", 5]}',
        '{"format": 1, "left_out": ["\\u0000"]}',
        '{"format": 99}',
        '{"format": true}',
        "[" * 10_000,
        "\x00",
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    file = left_out_file(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(StorageProblem, match="left out"):
        read_left_out(tmp_path)
