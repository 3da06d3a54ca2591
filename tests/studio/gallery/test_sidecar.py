"""Stars and notes are also in sidecars, from which a lost database is rebuilt."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from diffstudio.errors import StorageProblem
from diffstudio.studio.gallery import sidecar as module
from diffstudio.studio.gallery.gallery import Gallery
from diffstudio.studio.gallery.rescan import rescan
from diffstudio.studio.gallery.sidecar import Sidecar, read_sidecar, sidecar_of, write_sidecar
from diffstudio.studio.requests import GenerateRequest


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "images", tmp_path / "g.sqlite", tmp_path / "thumbnails")
    yield gallery
    gallery.close()


def rebuilt(gallery: Gallery) -> Gallery:
    gallery.close()
    gallery.database.unlink()
    again = Gallery(gallery.folder, gallery.database, gallery.thumbnails)
    rescan(again)
    return again


def test_stars_and_notes_outlive_the_database_and_change_no_image(gallery: Gallery) -> None:
    made = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    plain = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("two"))
    Image.new("RGB", (8, 8)).save(gallery.folder / "photo.jpg")
    rescan(gallery)
    photo = gallery.find(gallery.folder / "photo.jpg")
    assert photo is not None
    before = {
        path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest()) for path in (made.path, photo.path)
    }
    assert gallery.star(made.id) is None and gallery.star(photo.id) is None
    assert gallery.set_note(photo.id, "from the sea\0 <b>") is None
    assert {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest()) for path in before} == before
    again = rebuilt(gallery)
    assert {image.path.name: (image.starred, image.note) for image in again.images()} == {
        made.path.name: (True, ""),
        plain.path.name: (False, ""),
        "photo.jpg": (True, "from the sea  <b>"),
    }
    record = again.find(photo.path)
    assert record is not None
    again.star(record.id, False)
    again.set_note(record.id, "")
    assert not sidecar_of(photo.path).exists()
    assert [image.path for image in again.images(starred=True)] == [made.path]
    assert not rescan(again).anything
    again.close()


def test_stars_of_version_0_1_get_sidecars_at_the_first_rescan(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    with gallery.writing() as connection:
        connection.execute("UPDATE images SET starred = 1")
    assert not rescan(gallery).anything
    assert read_sidecar(image.path) == Sidecar(starred=True)
    again = rebuilt(gallery)
    assert again.count(starred=True) == 1
    again.close()


def test_a_sidecar_that_another_program_changed_is_read_and_its_other_keys_are_kept(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    sidecar_of(image.path).write_text(json.dumps({"format": 1, "starred": True, "colour": "red"}))
    rescan(gallery)
    assert gallery.count(starred=True) == 1
    gallery.star(image.id, False)
    assert json.loads(sidecar_of(image.path).read_text()) == {"format": 1, "colour": "red"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("[1]", None),
        ("[" * 100_000, None),
        ('{"starred": 1, "note": 7, "home": 3, "deleted": "x"}', Sidecar()),
        ('{"starred": true, "note": "n", "home": "../x.png", "deleted": -1}', Sidecar(True, "n")),
        ('{"home": "/etc/x.png", "deleted": 1e300}', Sidecar()),
        ('{"home": "C:/x.png", "deleted": true}', Sidecar(deleted=1.0)),
        ('{"home": "day/x.png", "deleted": 5}', Sidecar(home="day/x.png", deleted=5.0)),
    ],
)
def test_sidecars_are_read_without_trust(tmp_path: Path, text: str, found: Sidecar | None) -> None:
    sidecar_of(tmp_path / "x.png").write_text(text)
    assert read_sidecar(tmp_path / "x.png") == found


def test_a_sidecar_that_is_no_file_is_left_alone(tmp_path: Path) -> None:
    sidecar_of(tmp_path / "x.png").mkdir()
    assert read_sidecar(tmp_path / "x.png") is None
    with pytest.raises(StorageProblem):
        write_sidecar(tmp_path / "x.png", Sidecar(starred=True))


def test_where_no_sidecar_can_be_written_the_star_is_recorded_and_that_is_said(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    starred = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("two"))
    gallery.star(starred.id)
    unlink = Path.unlink

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    problem = gallery.star(image.id)
    assert problem is not None and "kept in the gallery's database only: no permission to write to" in str(problem)
    assert gallery.count(starred=True) == 2
    assert [each.why for each in rescan(gallery).unsaved] == [f"no permission to write to {image.path.parent}"]
    with pytest.raises(StorageProblem, match="could not be changed: no permission"):
        gallery.star(starred.id, False)  # its sidecar would bring the star back
    assert gallery.count(starred=True) == 2
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.undo()
    assert rescan(gallery).unsaved == () and read_sidecar(image.path) == Sidecar(starred=True)


def test_an_image_of_a_missing_folder_cannot_be_starred(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    os.rename(image.path.parent, gallery.folder / ".away")
    with pytest.raises(StorageProblem, match="is missing. Connect its drive"):
        gallery.star(image.id)
    os.rename(gallery.folder / ".away", image.path.parent)
    assert gallery.star(image.id) is None


def test_a_file_that_other_programs_moved_takes_its_sidecar_along(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    gallery.star(image.id)
    (gallery.folder / "best").mkdir()
    moved = image.path.rename(gallery.folder / "best" / "x.png")
    assert rescan(gallery).moved == 1
    assert read_sidecar(moved) == Sidecar(starred=True) and not sidecar_of(image.path).exists()


def test_a_damaged_sidecar_is_kept_and_reported(gallery: Gallery) -> None:
    known = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    gallery.set_note(known.id, "the best one")
    plain = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("two"))
    rescan(gallery)
    for image in (known, plain):
        sidecar_of(image.path).write_text('{"note": "half a no')
    problems = [str(problem) for problem in rescan(gallery).unsaved]
    assert len(problems) == 2 and all("cannot be read from its sidecar: the file is damaged" in one for one in problems)
    for image in (known, plain):
        kept = image.path.with_name(f"{sidecar_of(image.path).name}.damaged")
        assert kept.read_text() == '{"note": "half a no' and any(kept.name in one for one in problems)
    assert read_sidecar(known.path) == Sidecar(note="the best one") and read_sidecar(plain.path) is None
    assert rescan(gallery).unsaved == ()


def test_starring_an_image_with_a_damaged_sidecar_keeps_the_damaged_file(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    for number, name in ((1, ".damaged"), (2, "-2.damaged")):
        sidecar_of(image.path).write_text(f"{{{number}")
        gallery.star(image.id)
        kept = image.path.with_name(f"{sidecar_of(image.path).name}{name}")
        assert kept.read_text() == f"{{{number}" and read_sidecar(image.path) == Sidecar(starred=True)
    sidecar_of(image.path).write_text("{3")
    gallery.delete([image.id])
    assert len(list(image.path.parent.glob("*.damaged"))) == 3 and not sidecar_of(image.path).exists()


def test_a_damaged_sidecar_that_cannot_be_renamed_is_reported_and_left(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    sidecar_of(image.path).write_text("{")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "replace", refuse)
    assert [problem.why for problem in rescan(gallery).unsaved] == [f"no permission to write to {image.path.parent}"]
    assert sidecar_of(image.path).read_text() == "{"


def test_keys_of_other_programs_survive_the_trash_and_a_move(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    sidecar_of(image.path).write_text(json.dumps({"format": 1, "starred": True, "colour": "red"}))
    rescan(gallery)
    gallery.delete([image.id])
    assert gallery.undo([image.id]) == [image.id]
    expected = {"format": 1, "starred": True, "colour": "red"}
    assert json.loads(sidecar_of(image.path).read_text()) == expected
    moved = image.path.rename(image.path.with_name("x.png"))
    assert rescan(gallery).moved == 1
    assert json.loads(sidecar_of(moved).read_text()) == expected and not sidecar_of(image.path).exists()


def test_tags_outlive_the_database(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    assert gallery.tag(image.id, ["  sea\n side ", "Sea side", "", "x" * 500, "b\0c"]) is None
    expected = ("sea side", "x" * 100, "bc")
    assert read_sidecar(image.path) == Sidecar(tags=expected)
    gallery.tag(image.id, ["new"], ["SEA SIDE", "absent"])
    again = rebuilt(gallery)
    (record,) = again.images()
    assert record.tags == (*expected[1:], "new") and again.count("tag:new") == 1
    again.tag(record.id, remove=record.tags)
    assert not sidecar_of(image.path).exists() and again.count("tag:new") == 0
    again.close()


@pytest.mark.parametrize("change", ["star", "note", "tag", "delete and undo"])
def test_what_another_program_wrote_into_a_sidecar_is_read_before_it_is_written(gallery: Gallery, change: str) -> None:
    """Without a rescan in between: neither its values nor its keys are lost."""
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    gallery.tag(image.id, ["mine"])
    theirs = {"format": 1, "starred": True, "note": "theirs", "tags": ["mine", "theirs"], "rating": 5}
    sidecar_of(image.path).write_text(json.dumps(theirs))
    expected = dict(theirs)
    match change:
        case "star":
            gallery.star(image.id, False)
            del expected["starred"]
        case "note":
            gallery.set_note(image.id, "ours")
            expected["note"] = "ours"
        case "tag":
            gallery.tag(image.id, ["ours"], ["mine"])
            expected["tags"] = ["theirs", "ours"]
        case _:
            gallery.delete([image.id])
            gallery.undo([image.id])
    assert json.loads(sidecar_of(image.path).read_text()) == expected
    record = gallery.get(image.id)
    assert record is not None and record.tags == tuple(expected["tags"]) and record.note == expected["note"]
    assert record.starred is expected.get("starred", False) and gallery.count("tag:theirs") == 1
    assert rescan(gallery).annotated == 0


def test_a_rescan_counts_the_images_that_other_programs_annotated(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    sidecar_of(image.path).write_text(json.dumps({"format": 1, "tags": ["theirs", 7, ["x"], None]}))
    report = rescan(gallery)
    assert report.annotated == 1 and "1 annotated by another program" in report.summary
    assert [str(problem) for problem in report.unsaved] == [
        f"Some of {sidecar_of(image.path)} cannot be read: 3 of 4 tags."
    ]
    assert gallery.count("tag:theirs") == 1 and not rescan(gallery).anything


@pytest.mark.parametrize("tags", ["theirs", 7, {"a": 1}, None, [[]], ["", " "]])
def test_tags_of_the_wrong_type_are_left_out(tmp_path: Path, tags: object) -> None:
    sidecar_of(tmp_path / "x.png").write_text(json.dumps({"starred": True, "tags": tags}))
    assert read_sidecar(tmp_path / "x.png") == Sidecar(starred=True)


def test_text_that_no_database_can_hold_is_cleaned(gallery: Gallery) -> None:
    bad, good = (gallery.add(Image.new("RGB", (8, 8)), GenerateRequest(name)) for name in ("bad", "good"))
    values = {"note": "a\ud83d\0b", "home": "day/\ud83d.png", "tags": ["cat\ud83d", "dog"], "theirs": "\ud83d"}
    sidecar_of(bad.path).write_text(json.dumps(values))
    write_sidecar(good.path, Sidecar(note="kept"))
    assert read_sidecar(bad.path) == Sidecar(note="a? b", tags=("cat", "dog"))
    report = rescan(gallery)
    assert report.annotated == 2 and report.unsaved == ()
    found = gallery.get(bad.id)
    assert found is not None and (found.note, found.tags) == ("a? b", ("cat", "dog"))
    gallery.star(bad.id)  # the key of another program is kept, and the file can be read again
    sidecar = read_sidecar(bad.path)
    assert sidecar is not None and sidecar.starred and sidecar.note == "a? b"
    assert json.loads(sidecar_of(bad.path).read_text(encoding="utf-8"))["theirs"] == "\ud83d"


def test_a_deleted_image_with_such_a_sidecar_does_not_keep_the_gallery_from_opening(gallery: Gallery) -> None:
    image = gallery.add(Image.new("RGB", (8, 8)), GenerateRequest("one"))
    gallery.delete([image.id])
    (trashed,) = gallery.folder.glob(".trash/*.png")
    sidecar_of(trashed).write_text(json.dumps({"home": "\ud83d.png", "note": "\ud83d", "deleted": 5}))
    again = rebuilt(gallery)
    assert again.trash_count() == 1
    again.close()
