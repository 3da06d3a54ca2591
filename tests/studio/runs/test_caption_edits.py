"""Captions are changed in the files that they came from, whole or not at all, and what would be lost is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from diffstudio.errors import StorageProblem
from diffstudio.studio.runs import caption_edits
from diffstudio.studio.runs.caption_edits import EditResult, with_added, with_replaced, write_captions
from diffstudio.training.data.folder_report import FolderReport
from diffstudio.training.data.inspect_folder import inspect_folder


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20)).save(path, "PNG")


def edited(folder: Path, edits: dict[str, tuple[str, ...]]) -> EditResult:
    writing = write_captions(folder, {Path(name): texts for name, texts in edits.items()})
    while True:
        try:
            next(writing)
        except StopIteration as end:
            assert isinstance(end.value, EditResult)
            return end.value


def captions(folder: Path) -> dict[str, tuple[str, ...]]:
    """As the next inspection reads them."""
    *_, report = inspect_folder(folder)
    assert isinstance(report, FolderReport)
    return {record.path.as_posix(): record.captions for record in report.images}


def test_each_caption_is_written_where_it_came_from(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "sub/d.png", "sub/e.png", "f.png", "g.png"):
        image(tmp_path / name)
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "b.caption").write_text("old")
    (tmp_path / "c.json").write_text('{"seed": 5, "Prompt": "old", "model": "x"}')
    (tmp_path / "sub" / "metadata.csv").write_text('file_name,n,text\nd.png,1,"old, one"\nother.png,2,kept\n')
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "sub/e.png", "text": "old", "n": 1}\n{"x": 5}\nbroken\n')
    (tmp_path / "g.png.txt").write_text("old")
    new = {name: (f"new {name[0]}",) for name in captions(tmp_path)}
    assert edited(tmp_path, new) == EditResult(7)
    assert captions(tmp_path) == new
    assert (tmp_path / "a.txt").read_text() == "new a\n" and (tmp_path / "f.txt").read_text() == "new f\n"
    assert not (tmp_path / "g.txt").exists() and not (tmp_path / "sub" / "d.txt").exists()
    assert json.loads((tmp_path / "c.json").read_text()) == {"seed": 5, "Prompt": "new c", "model": "x"}
    assert (tmp_path / "sub" / "metadata.csv").read_text() == "file_name,n,text\nd.png,1,new s\nother.png,2,kept\n"
    assert (tmp_path / "metadata.jsonl").read_text() == (
        '{"file_name": "sub/e.png", "text": "new s", "n": 1}\n{"x": 5}\nbroken\n'
    )


def test_several_captions_and_none(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        image(tmp_path / name)
    (tmp_path / "b.json").write_text('{"captions": ["one", "two"]}')
    (tmp_path / "c.txt").write_text("old")
    assert edited(tmp_path, {"a.png": ("one\n", " two "), "b.png": ("three", "four"), "c.png": ()}).written == 3
    assert captions(tmp_path) == {"a.png": ("one", "two"), "b.png": ("three", "four"), "c.png": ()}
    assert json.loads((tmp_path / "b.json").read_text()) == {"captions": ["three", "four"]}


def test_a_caption_file_of_two_images_is_changed_for_both_or_not_at_all(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "a.webp")
    (tmp_path / "a.npz").touch()
    (tmp_path / "a.txt").write_text("old")
    (refused,) = edited(tmp_path, {"a.png": ("new",)}).refused
    assert refused.path == Path("a.png") and "a.txt is that of several images (a.png, a.webp)" in refused.why
    assert len(edited(tmp_path, {"a.png": ("new",), "a.webp": ("other",)}).refused) == 2
    assert (tmp_path / "a.txt").read_text() == "old"
    assert edited(tmp_path, {"a.png": ("new",), "a.webp": ("new",)}) == EditResult(2)
    (tmp_path / "a.txt").unlink()
    assert edited(tmp_path, {"a.png": ("this",)}) == EditResult(1)
    assert captions(tmp_path) == {"a.png": ("this",), "a.webp": ()}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", "x" * 70_000, "only its first 64 KiB are used"),
        ("metadata.csv", "file_name,text\na.png,one\na.png,two\n", "several rows or columns"),
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "text": "one"}\n{"file_name": "a.png", "text": "two"}',
            "several rows",
        ),
        ("metadata.csv", "file_name,text,text\na.png,one,two\n", "it has 2 columns named 'text'"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "one", "n": 1e400}', "its number 1e400 is larger"),
        ("a.json", '{"caption": "one", "loss": NaN}', "its number NaN"),
        ("meta_cap.json", '{"a.png": {"caption": "one", "n": 1, "n": 2}}', "it has two keys 'n' in one object"),
        ("a.json", '{"caption": "one", "n": {"x": 1, "x": 2}}', "it has two keys 'x' in one object"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(tmp_path: Path, name: str, content: str, why: str) -> None:
    image(tmp_path / "a.png")
    (tmp_path / name).write_text(content)
    (refused,) = edited(tmp_path, {"a.png": ("new",)}).refused
    assert refused.path == Path("a.png") and why in refused.why
    assert (tmp_path / name).read_text() == content


def test_a_full_disk_leaves_the_old_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "metadata.csv").write_text("file_name,text\nb.png,old\n")
    image(tmp_path / "b.png")

    def full(path: Path, text: str) -> None:
        raise StorageProblem(f"{path} cannot be written", "the disk is full")

    monkeypatch.setattr(caption_edits, "write_text", full)
    result = edited(tmp_path, {"a.png": ("new",), "b.png": ("new",)})
    assert result.written == 0 and all("the disk is full" in refused.why for refused in result.refused)
    assert (tmp_path / "a.txt").read_text() == "old"


def test_spreadsheet_endings_and_separators_are_kept(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_bytes(b"\xef\xbb\xbffile_name;text\r\na.png;old\r\n")
    assert edited(tmp_path, {"a.png": ("one; two",)}).written == 1
    assert (tmp_path / "metadata.csv").read_bytes() == b'\xef\xbb\xbffile_name;text\r\na.png;"one; two"\r\n'


def test_other_columns_and_rows_of_a_table_stay_as_they_are(tmp_path: Path) -> None:
    """Also columns of equal names or of none, quotes that are not needed, empty lines and rows of other lengths."""
    image(tmp_path / "a.png")
    rows = ["file_name,text,,,n,n\r\n", 'a.png,old,1,2,3,"4, 5",6\r\n', "\r\n", '"b.png","a\nb",,x\n', "c.png"]
    (tmp_path / "metadata.csv").write_bytes("".join(rows).encode())
    assert edited(tmp_path, {"a.png": ("new",)}) == EditResult(1)
    rows[1] = 'a.png,new,1,2,3,"4, 5",6\r\n'
    assert (tmp_path / "metadata.csv").read_bytes().decode() == "".join(rows)


def test_untouched_lines_may_hold_what_cannot_be_written_again(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    kept = '{"file_name": "b.png", "text": "x", "n": 1e400, "n": NaN}'
    (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "a.png", "text": "old"}}\n{kept}\n')
    assert edited(tmp_path, {"a.png": ("new",)}) == EditResult(1)
    assert (tmp_path / "metadata.jsonl").read_text() == f'{{"file_name": "a.png", "text": "new"}}\n{kept}\n'


def test_the_key_that_is_read_is_the_one_that_is_written(tmp_path: Path) -> None:
    """Also where there are two of it, and where a text holds separators of lines that are not ends of JSON lines."""
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    (tmp_path / "a.json").write_text('{"Caption": "first", "caption": "second"}')
    (tmp_path / "metadata.jsonl").write_bytes('{"file_name": "b.png", "text": "x", "n": "a\u2028b"}\r\n'.encode())
    assert edited(tmp_path, {"a.png": ("new",), "b.png": ("new",)}) == EditResult(2)
    assert captions(tmp_path) == {"a.png": ("new",), "b.png": ("new",)}
    expected = '{"file_name": "b.png", "text": "new", "n": "a\u2028b"}\r\n'
    assert (tmp_path / "metadata.jsonl").read_bytes().decode() == expected


@pytest.mark.parametrize("name", ["labels.txt", "classes.txt", "readme.txt", "config.json", "meta_cap.json"])
def test_files_that_are_no_captions_are_not_written_to(tmp_path: Path, name: str) -> None:
    """The inspection does not read them as captions of an image with the same name."""
    picture = Path(name).stem + ".png"
    image(tmp_path / picture)
    (tmp_path / name).write_text('{"text": "not a caption"}')
    assert edited(tmp_path, {picture: ("new",)}) == EditResult(1)
    assert (tmp_path / name).read_text() == '{"text": "not a caption"}'
    assert captions(tmp_path) == {picture: ("new",)}
    assert edited(tmp_path, {picture: ("newer",)}) == EditResult(1)
    assert captions(tmp_path) == {picture: ("newer",)}


def test_a_folder_named_like_a_caption_file_is_left_alone(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.txt").mkdir()
    assert edited(tmp_path, {"a.png": ("new",)}) == EditResult(1)
    assert captions(tmp_path) == {"a.png": ("new",)}


def test_half_an_emoji_in_another_key_stays_and_the_file_can_be_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        image(tmp_path / name)
    (tmp_path / "a.json").write_text('{"caption": "old", "title": "caf\u00e9 \\ud83d"}')
    rows = ('{"file_name": "b.png", "text": "old", "n": "\\ud83d"}', '{"file_name": "c.png", "text": "kept"}')
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    assert edited(tmp_path, {"a.png": ("new \u00e9",), "b.png": ("new \u00e9",)}) == EditResult(2)
    assert captions(tmp_path) == {"a.png": ("new \u00e9",), "b.png": ("new \u00e9",), "c.png": ("kept",)}
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {
        "caption": "new \u00e9",
        "title": "caf\u00e9 \ud83d",
    }
    assert (tmp_path / "metadata.jsonl").read_text("utf-8").endswith("\n" + rows[1])


def test_find_and_replace_is_of_plain_text() -> None:
    assert with_replaced(("A (big) dog", "no"), "(BIG)", r"\1 small") == (r"A \1 small dog", "no")
    assert with_replaced(("Dog dog",), "dog", "cat", match_case=True) == ("Dog cat",)
    assert with_replaced(("dog", "dog, sun"), "dog", "") == (", sun",)


def test_a_tag_is_added_once_to_each_caption() -> None:
    assert with_added(("a dog, sun", "a dog"), "Sun") == ("a dog, sun", "a dog, Sun")
    assert with_added(("a dog,",), " sks, ", at_start=True) == ("sks, a dog,",)
    assert with_added((), "sks") == ("sks",) and with_added(("a dog",), " ") == ("a dog",)


def test_many_edits_tell_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_edits, "FILES_AT_A_TIME", 2)
    for number in range(5):
        image(tmp_path / f"{number}.png")
    assert list(write_captions(tmp_path, {Path(f"{number}.png"): ("x",) for number in range(5)})) == [2, 4]


def test_captions_in_the_json_of_kohya_are_changed_in_place_and_all_else_is_kept(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/c.png", "d.png"):
        image(tmp_path / name)
    about = {
        "a": {"caption": "a dog", "tags": "grass, sun", "train_resolution": [64, 64]},
        str(tmp_path / "b.png"): {"caption": "old", "n": 1},
        "sub/c": {"tags": "one, two"},
        "d.png": {"caption": "kept \u00e9"},
    }
    (tmp_path / "meta_cap.json").write_text(json.dumps(about, indent=4))
    assert captions(tmp_path)["a.png"] == ("a dog, grass, sun",)
    new = {"a.png": ("a dog, grass, running",), "b.png": ("new",), "sub/c.png": ("one, three",)}
    assert edited(tmp_path, new) == EditResult(3)
    assert captions(tmp_path) == new | {"d.png": ("kept \u00e9",)}
    text = (tmp_path / "meta_cap.json").read_text("utf-8")
    assert json.loads(text) == {
        "a": {"caption": "a dog", "tags": "grass, running", "train_resolution": [64, 64]},
        str(tmp_path / "b.png"): {"caption": "new", "n": 1},
        "sub/c": {"tags": "one, three"},
        "d.png": {"caption": "kept \u00e9"},
    }
    assert text.startswith('{\n    "a"') and not list(tmp_path.glob("*.txt")) and not list(tmp_path.glob("*.part"))


def test_an_entry_of_two_images_is_changed_for_both_or_not_at_all(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "a.webp")
    (tmp_path / "meta_cap.json").write_text('{"a": {"caption": "old"}}')
    (refused,) = edited(tmp_path, {"a.png": ("new",)}).refused
    assert refused.why == "its caption in meta_cap.json is shared with a.webp"
    assert edited(tmp_path, {"a.png": ("new",), "a.webp": ("new",)}) == EditResult(2)
    assert json.loads((tmp_path / "meta_cap.json").read_text()) == {"a": {"caption": "new"}}


def test_several_rows_of_an_image_are_its_alternatives(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text,n\na.png,one,1\na.png,two,2\n")
    assert edited(tmp_path, {"a.png": ("three", "four")}) == EditResult(1)
    assert (tmp_path / "metadata.csv").read_text() == "file_name,text,n\na.png,three,1\na.png,four,2\n"


def test_several_captions_where_only_tags_can_be_are_refused(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('{"tags": "one"}')
    (refused,) = edited(tmp_path, {"a.png": ("two", "three")}).refused
    assert refused.why == "these captions do not fit the keys that a.json has"
    assert (tmp_path / "a.json").read_text() == '{"tags": "one"}'
