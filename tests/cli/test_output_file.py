"""Which files an option may name for a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffstudio.cli.output_file import check_output_file
from diffstudio.errors import BadRequest, StorageProblem

BEGINS = "path,anomalous,score"


def test_a_new_file_and_an_earlier_one_of_the_same_kind_are_written(tmp_path: Path) -> None:
    check_output_file(tmp_path / "new" / "table.csv", begins=BEGINS, force=False)
    (earlier := tmp_path / "table.csv").write_text(f"{BEGINS},p_value\n")
    check_output_file(earlier, begins=BEGINS, force=False)
    assert earlier.read_text() == f"{BEGINS},p_value\n" and not (tmp_path / "new" / "table.csv").exists()


@pytest.mark.parametrize("content", [b"\x89PNG", b"path,anomalous,decision,score\n", b""])
def test_another_file_needs_force(content: bytes, tmp_path: Path) -> None:
    (file := tmp_path / "0.png").write_bytes(content)
    with pytest.raises(BadRequest, match="already exists. Choose another name, or give --force"):
        check_output_file(file, begins=BEGINS, force=False)
    check_output_file(file, begins=BEGINS, force=True)
    assert file.read_bytes() == content


def test_a_folder_a_dangling_link_and_a_place_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="it is a folder"):
        check_output_file(tmp_path, begins=BEGINS, force=True)
    (link := tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(BadRequest, match="already exists"):
        check_output_file(link, begins=BEGINS, force=False)
    (file := tmp_path / "file").touch()
    with pytest.raises(StorageProblem, match="file is not a folder"):
        check_output_file(file / "table.csv", begins=BEGINS, force=False)
